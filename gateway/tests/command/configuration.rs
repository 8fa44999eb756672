//! What lies in `config/`: every example is free of faults, the CRDs are what the types say, and the deployment's manifests are whole.

use std::collections::BTreeSet;
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

#[test]
fn the_manifests_are_whole_and_what_they_mount_is_without_fault() {
    let mut objects = String::new();
    for file in files(&config("deploy")) {
        let text = std::fs::read_to_string(&file).expect("read");
        // Kinds that only a cluster reads are skipped with a warning; what is not well-formed is an error.
        let (code, out) = run(&["check", file.to_str().expect("UTF-8")]);
        assert_eq!(code, Some(0), "{}: {out}", file.display());
        // The one ConfigMap: what a gateway in the cluster serves.
        if let Some((_, data)) = text.split_once("\n  objects.yaml: |\n") {
            let lines = data.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
            objects.extend(lines.flat_map(|line| [line.strip_prefix("    ").unwrap_or(line), "\n"]));
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("objects.yaml"), objects).expect("written");
    let (code, out) = run(&["check", folder.path().to_str().expect("UTF-8")]);
    assert_eq!((code, out.as_str()), (Some(0), "0 errors, 0 warnings\n"));
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

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The table in `config/README.md`: each setting's fields, flags and default.
fn settings(reference: &str) -> Vec<(Vec<&str>, Vec<&str>, &str)> {
    let section = reference.split("\n## SluicegateConfiguration\n").nth(1).expect("the section");
    let rows = section.split("\n#").next().unwrap_or_default().lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let mut cells = row.trim_matches('|').splitn(3, '|');
        let mut cell = || cells.next().unwrap_or_default();
        (quoted(cell()).collect(), quoted(cell()).collect(), cell())
    })
    .collect()
}

#[test]
fn the_reference_has_each_setting_of_the_process_its_flag_and_its_default() {
    let reference = std::fs::read_to_string(config("README.md")).expect("read");
    let settings = settings(&reference);
    let schema = sluicegate_config::crd::process();
    let fields: BTreeSet<&str> = schema["properties"].as_object().expect("fields").keys().map(String::as_str).collect();
    let told = settings.iter().flat_map(|(fields, ..)| fields).map(|field| field.split('.').next().unwrap_or_default());
    assert_eq!(told.collect::<BTreeSet<_>>(), fields);
    let (_, help) = run(&["run", "--help"]);
    let mut flags = BTreeSet::new();
    for entry in help.split("\n      --").skip(1) {
        let flag = format!("--{}", entry.split([' ', '\n']).next().unwrap_or_default());
        let row = settings.iter().find(|(_, flags, _)| flags.contains(&flag.as_str()));
        let (.., default) = row.unwrap_or_else(|| panic!("{flag} is not in the reference"));
        if let Some((_, says)) = entry.split_once("[default: ") {
            let first = says.split([' ', ',', ']', '\n']).next().unwrap_or_default().to_lowercase();
            assert!(default.to_lowercase().contains(&first), "{flag}: by default {first}, and the reference says {default}");
        }
        flags.insert(flag);
    }
    let told: BTreeSet<String> = settings.iter().flat_map(|(_, flags, _)| flags).map(|flag| (*flag).to_owned()).collect();
    assert_eq!(told, flags);
}
