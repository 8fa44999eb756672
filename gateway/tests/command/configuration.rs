//! What is in `config/`: every example is free of faults, the CRDs are what the types say, and the manifests call the binary as it is.

use std::path::{Path, PathBuf};
use std::process::Output;

fn config(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(path)
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = crate::binary().args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

#[test]
fn every_example_is_without_fault() {
    for file in files(&config("examples")).into_iter().chain([config("quickstart")]) {
        let (code, out) = run(&["check", file.to_str().expect("UTF-8")]);
        assert_eq!((code, out.as_str()), (Some(0), "0 errors, 0 warnings\n"), "{}", file.display());
    }
}

/// `UPDATE_GOLDEN=1 cargo test --workspace --test command configuration::` writes the file anew.
#[test]
fn the_crds_are_those_of_the_types() {
    let (file, (code, made)) = (config("crds/sluicegate.dev.yaml"), run(&["crds"]));
    assert_eq!(code, Some(0));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &made).expect("written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(made == kept, "config/crds differs from `sluicegate crds`: run this test with UPDATE_GOLDEN=1");
}

/// `tests/tests/whole/chart` compares these files with what the Helm chart renders.
#[test]
fn the_manifests_call_the_binary_as_it_is_and_what_they_mount_is_without_fault() {
    let (_, help) = run(&["run", "--help"]);
    for file in files(&config("manifests")) {
        let text = std::fs::read_to_string(&file).expect("read");
        // Kinds that only a cluster reads are skipped with a warning; what is not well-formed is an error.
        let (code, out) = run(&["check", file.to_str().expect("UTF-8")]);
        assert_eq!(code, Some(0), "{}: {out}", file.display());
        let objects = sluicegate_config::manifest::parse(&file, &text).documents;
        let pods = objects.iter().find_map(|object| object.value.pointer("/spec/template/spec")).expect("pods");
        let arguments = pods["containers"][0]["args"].as_array().expect("a list").iter().filter_map(|argument| argument.as_str());
        let given: Vec<&str> = arguments.filter_map(|argument| argument.split_once('=')).map(|(flag, _)| flag).collect();
        assert!(given.len() > 5, "{given:?}");
        for flag in given {
            assert!(help.contains(&format!("{flag} <")), "{}: {flag} is no flag of `run`", file.display());
        }
        let settings = objects.iter().find(|object| object.value["kind"] == "ConfigMap").expect("the settings");
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in settings.value["data"].as_object().expect("files") {
            std::fs::write(folder.path().join(name), text.as_str().expect("text")).expect("written");
        }
        let (code, out) = run(&["check", folder.path().to_str().expect("UTF-8")]);
        assert_eq!((code, out.as_str()), (Some(0), "0 errors, 0 warnings\n"));
    }
}

/// The rows of the first table below a heading, each as its cells.
fn table<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let section = text.split(heading).nth(1).expect("the heading");
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_references_have_each_built_in_plugin() {
    let mut built_in: Vec<(&str, &str)> =
        sluicegate_plugins::builtins().iter().map(|builtin| (builtin.name, builtin.kind.name())).collect();
    built_in.sort_unstable();
    let plugins = std::fs::read_to_string(config("../plugins/README.md")).expect("read");
    let mut told: Vec<(&str, &str)> =
        table(&plugins, "# Built-in plugins").iter().map(|cells| (quoted(cells[0]).next().unwrap_or_default(), cells[1])).collect();
    told.sort_unstable();
    assert_eq!(told, built_in);
    let reference = std::fs::read_to_string(config("README.md")).expect("read");
    let mut told: Vec<&str> = table(&reference, "\n## Built-in plugins\n").iter().flat_map(|cells| quoted(cells[0])).collect();
    told.sort_unstable();
    assert_eq!(told, built_in.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

/// The parts of a cell between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The fields that the first cell of a row names: `` `a.b`, `.c`, `d` `` are `a.b`, `a.c` and `a.d`.
fn fields(cell: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for code in quoted(cell) {
        let code = code.replace("[]", "");
        let beside = fields.last().and_then(|last| last.rsplit_once('.'));
        fields.push(match (code.strip_prefix('.'), beside) {
            (Some(code), Some((within, _))) => format!("{within}.{code}"),
            (None, Some((within, _))) if !code.contains('.') => format!("{within}.{code}"),
            _ => code,
        });
    }
    fields
}

/// This compares numbers and times. Defaults in words differ between the reference and the code.
#[test]
fn the_reference_tells_the_defaults_of_policies_and_plugins() {
    let reference = std::fs::read_to_string(config("README.md")).expect("read");
    let mut compared = 0;
    for kind in ["BackendTrafficPolicy", "ClientTrafficPolicy", "Plugin"] {
        for setting in sluicegate_config::settings::of_kind(kind) {
            let default = setting.default.split([' ', ',', ';', ':', '.']).next().unwrap_or_default();
            if !default.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let rows = reference.lines().filter(|line| line.starts_with("| `"));
            let rows: Vec<&str> = rows.filter(|row| fields(row.split('|').nth(1).unwrap_or_default()).contains(&setting.field)).collect();
            let told = |row: &&str| row.split(['|', ' ', '`', ',', ';', ':', '(', ')']).any(|word| word == default);
            assert!(
                rows.is_empty() || rows.iter().any(told),
                "{kind}: {}: by default {default}, and the reference says\n{}",
                setting.field,
                rows.join("\n")
            );
            compared += usize::from(!rows.is_empty());
        }
    }
    assert!(compared > 40, "only {compared} were found in the reference");
}
