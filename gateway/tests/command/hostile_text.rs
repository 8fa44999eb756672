//! Names and texts from files and plugins that would forge lines or control a terminal, as the binary shows them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sluicegate_model::escape::is_hidden;

/// A text in YAML: a line break and a forged line, a cleared screen, a C1 control, reversed direction, characters without width.
const IN_YAML: &str = r#"x\nsluicegate: all is well\r\e[2J\x9b31m\u202E\u2066\u200B\uFEFF\0"#;

fn sluicegate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = crate::binary();
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_STATE_HOME").env_remove("SLUICEGATE_LOG").args(arguments);
    command
}

/// What the command printed on both streams, after a check that nothing in it is hidden.
fn shown(folder: &Path, arguments: &[&str]) -> String {
    let Output { stdout, stderr, .. } = sluicegate(folder, arguments).output().expect("runs");
    let text = String::from_utf8([stdout, stderr].concat()).expect("UTF-8");
    visible(&text, arguments);
    text
}

fn visible(text: &str, of: &[&str]) {
    let hidden: Vec<char> = text.chars().filter(|c| is_hidden(*c) && *c != '\n').collect();
    assert!(hidden.is_empty(), "{of:?} shows {hidden:?}: {text:?}");
    assert!(
        !text.lines().any(|line| line.starts_with("sluicegate: all is well") || line.starts_with("kind:     router")),
        "{of:?}: {text}"
    );
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: api}}\nspec: {{selector: {{app: api}}, ports: [{{port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: api}}}}\nstatus: {{podIP: \"{IN_YAML}\"}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: \"{IN_YAML}\"}}\nspec: {{type: \"{IN_YAML}\", ports: [{{port: 80}}], \"{IN_YAML}\": 1}}\n"
    );
    std::fs::write(folder.path().join("all.yaml"), objects).expect("written");
    // This line is shown as it is in the file.
    std::fs::write(folder.path().join("raw\n\u{1b}[2J\u{202e}.yaml"), "kind: \u{202e}Service\u{9b}\nmetadata: 7\n").expect("written");
    folder
}

#[test]
fn faults_of_files_stay_on_their_lines() {
    let folder = folder();
    let text = shown(folder.path(), &["check", "."]);
    assert!(text.contains(r"x\nsluicegate: all is well\r\u{1b}[2J\u{9b}31m\u{202e}"), "{text}");
    assert!(text.contains(r"raw\n\u{1b}[2J\u{202e}.yaml:"), "{text}");
    let json = shown(folder.path(), &["check", "--format", "json", "."]);
    let faults: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let files: Vec<&str> = faults.as_array().expect("a list").iter().filter_map(|f| f["place"]["file"].as_str()).collect();
    assert!(files.iter().any(|file| file.contains("raw\n\u{1b}[2J\u{202e}.yaml")), "JSON gives back what there was: {files:?}");
    shown(folder.path(), &["explain", ".", "--port", "80", "GET", "http://x/\u{202e}"]);
}

#[test]
fn what_a_plugin_calls_itself_stays_in_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wasm = sluicegate_plugins::builtin("least-request").expect("it is built in").wasm();
    // The text is as long as the name, so that the rest of the file stays where it is.
    let (name, forged) = (b"least-request", b"\nkind:\x1b[2J\0\xc2\x9b");
    assert_eq!(name.len(), forged.len());
    let places: Vec<usize> = wasm.windows(name.len()).enumerate().filter(|(_, bytes)| bytes == name).map(|(at, _)| at).collect();
    for at in places {
        wasm[at..at + name.len()].copy_from_slice(forged);
    }
    std::fs::write(folder.path().join("forged.wasm"), wasm).expect("written");
    let text = shown(folder.path(), &["plugin", "inspect", "forged.wasm"]);
    assert!(text.starts_with(r"name:     \nkind:\u{1b}[2J\0\u{9b}"), "{text}");
    let text = shown(folder.path(), &["plugin", "test", "forged.wasm", "--pools", "10", "--only", "pools"]);
    assert!(text.lines().any(|line| line.starts_with("load ") && line.contains(r"balancer \nkind:\u{1b}[2J")), "{text}");
    let errors = shown(folder.path(), &["plugin", "inspect", "no\nsluicegate: all is well\u{1b}[2J.wasm"]);
    assert!(errors.starts_with("sluicegate: no\n    sluicegate: all is well\\u{1b}[2J.wasm: "), "{errors}");
}

#[test]
fn log_lines_are_one_line_each() {
    for format in ["human", "json"] {
        let folder = folder();
        let arguments = ["run", ".", "--admin-address", "127.0.0.1:0", "--nodeport-addresses", "127.211.9.1/32", "--log-format", format];
        let mut child = sluicegate(folder.path(), &arguments)
            .args(["--service-cluster-ip-range", "127.211.9.128/25", "--state-dir", "state"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut told = false;
        for line in BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok) {
            visible(&line, &arguments);
            assert!(if format == "json" { line.starts_with("{\"timestamp\"") } else { line.starts_with("20") }, "{line}");
            told |= line.contains("all is well") && line.contains("ERROR");
            if told {
                break;
            }
        }
        child.kill().expect("ended");
        child.wait().expect("ended");
        assert!(told, "{format}: the fault is in the log");
    }
}
