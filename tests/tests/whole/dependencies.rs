//! Each crate uses in its code what it depends on: a dependency that is left over is compiled for nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that do not belong to a crate of this workspace, or are not its code.
const NOT: [&str; 4] = ["target", "templates", "fuzz", ".git"];

/// Finds the manifests in a folder.
fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !NOT.iter().any(|not| path.ends_with(not)) {
            manifests(&path, found);
        } else if path.ends_with("Cargo.toml") {
            found.push(path);
        }
    }
}

/// Collects the code of a crate, without that of crates in its folders.
fn code(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.join("Cargo.toml").exists() && !NOT.iter().any(|not| path.ends_with(not)) {
            code(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// The names of a manifest's dependencies, as code writes them.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut within = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            within = section.trim_end_matches(']').ends_with("dependencies") && !section.starts_with("workspace");
        } else if within && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name.replace('-', "_"));
        }
    }
    names.retain(|name| !name.is_empty() && !name.starts_with('#'));
    names
}

fn is_named(name: &str, code: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| !code[..at].ends_with(part) && !code[at + name.len()..].starts_with(part))
}

#[test]
fn nothing_is_depended_on_that_no_code_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut all, mut left, mut looked_at) = (Vec::new(), Vec::new(), 0);
    manifests(&root, &mut all);
    for manifest in all {
        let folder = manifest.parent().expect("a folder");
        let mut text = String::new();
        code(folder, &mut text);
        for name in dependencies(&fs::read_to_string(&manifest).expect("readable")) {
            looked_at += 1;
            if !is_named(&name, &text) {
                left.push(format!("{}: {name}", manifest.strip_prefix(&root).expect("within").display()));
            }
        }
    }
    assert!(looked_at > 100 && left.is_empty(), "of {looked_at}, these are in no line of code:\n{}", left.join("\n"));
}
