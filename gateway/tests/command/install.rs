//! What is installed beside the binary: man pages, completions and systemd units say what the binary is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(arguments).output().expect("runs");
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

/// The names of a command's subcommands, from its `--help`.
fn below(command: &[&str]) -> Vec<String> {
    let help = run(&[command, &["--help"]].concat());
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned));
    names.filter(|name| !name.is_empty() && name != "help").collect()
}

/// For each page, the command that it describes.
fn pages(command: &[&str], all: &mut BTreeSet<String>) {
    all.insert(format!("sluicegate{}.1", command.iter().map(|word| format!("-{word}")).collect::<String>()));
    for name in below(command) {
        pages(&[command, &[&name]].concat(), all);
    }
}

#[test]
fn each_command_has_a_man_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let man = folder.path().join("man/man1");
    run(&["man", man.to_str().expect("UTF-8")]);
    let written: BTreeSet<String> = man
        .read_dir()
        .expect("written")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| !name.contains("-help"))
        .collect();
    let mut wanted = BTreeSet::new();
    pages(&[], &mut wanted);
    assert!(wanted.len() > 10, "{wanted:?}");
    assert_eq!(written, wanted);
    let page = std::fs::read_to_string(man.join("sluicegate-run.1")).expect("written");
    assert!(page.contains("node\\-port\\-range") && page.contains("Threads that serve traffic"), "{page}");
}

#[test]
fn each_shell_has_completions() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).contains("shutdown-delay-seconds"), "{shell}");
    }
}

fn unit(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/deploy/systemd").join(name);
    let text = std::fs::read_to_string(&path).expect("a unit");
    (path, text)
}

#[test]
fn the_service_unit_calls_the_binary_as_it_is() {
    let (_, text) = unit("sluicegate.service");
    let words: Vec<&str> = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command").split(' ').collect();
    assert_eq!(words[..2], ["/usr/bin/sluicegate", "run"]);
    let help = run(&["run", "--help"]);
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{flag} <")), "{flag} is no flag of `run`");
    }
}

#[test]
fn the_settings_that_are_installed_are_without_fault() {
    let (path, _) = unit("sluicegate.yaml");
    assert_eq!(run(&["check", path.to_str().expect("UTF-8")]), "0 errors, 0 warnings\n");
}

/// Without systemd there is nothing to ask.
#[test]
fn systemd_finds_no_fault_in_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["sluicegate.service", "sluicegate.socket"] {
        // The binary and the man pages are not where they will be installed.
        let text = unit(name).1.replace("/usr/bin/sluicegate", env!("CARGO_BIN_EXE_sluicegate"));
        let lines: String = text.lines().filter(|line| !line.starts_with("Documentation=")).map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.path().join(name), lines).expect("written");
    }
    for name in ["sluicegate.service", "sluicegate.socket"] {
        let Ok(said) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(folder.path().join(name)).output() else { return };
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let ours: Vec<&str> = text.lines().filter(|line| line.contains("sluicegate")).collect();
        assert!(ours.is_empty(), "{ours:#?}");
    }
}
