//! Compiled code between starts: a second engine compiles nothing, and runs nothing that the first did not write.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{Limits, PluginKind};
use sluicegate_model::status::Compiled;

fn wasm(name: &str) -> Vec<u8> {
    sluicegate_plugins::builtin(name).unwrap().wasm()
}

/// Loads a balancer as a new process would, tries it, and returns where its code came from.
fn start(folder: &Path, name: &str) -> Compiled {
    let loader = Loader::keeping(folder).unwrap();
    serves(&loader, name);
    loader.compiled()
}

fn serves(loader: &Loader, name: &str) {
    let (loaded, description) = loader.load(name, 1, &wasm(name), PluginKind::Balancer, &Limits::default()).unwrap();
    let Loaded::Balancer(balancer) = loaded else { panic!("{name} is no balancer") };
    assert_eq!(description.name, name);
    balancer.trial("{}").unwrap();
}

const FOUND: Compiled = Compiled { found: 1, anew: 0 };
const ANEW: Compiled = Compiled { found: 0, anew: 1 };

/// The entries, without wasmtime's figures about them.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder.join("code/modules"))
        .unwrap()
        .flat_map(|engine| std::fs::read_dir(engine.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_none())
        .collect();
    all.sort();
    all
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_second_start_compiles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("compiled");
    assert_eq!(start(&folder, "random"), ANEW);
    assert_eq!(start(&folder, "random"), FOUND);
    assert_eq!(start(&folder, "round-robin"), ANEW, "other code");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(entries(&folder).len(), 2);
}

#[test]
fn an_entry_with_a_flipped_byte_is_ignored_wherever_the_byte_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("compiled");
    assert_eq!(start(&folder, "random"), ANEW);
    let entry = entries(&folder).remove(0);
    let size = std::fs::metadata(&entry).unwrap().len() as usize;
    for at in [0, 5, size / 3, size / 2, size - 1] {
        flip(&entry, at);
        assert_eq!(start(&folder, "random"), ANEW, "byte {at} of {size}");
        assert_eq!(start(&folder, "random"), FOUND, "and it was written again");
    }
    // The same is done with its checksum, and with half an entry, as a full disk leaves it.
    let sum = std::fs::read_dir(folder.join("sums")).unwrap().next().unwrap().unwrap().path();
    flip(&sum, 7);
    assert_eq!(start(&folder, "random"), ANEW);
    std::fs::File::options().write(true).open(&entry).unwrap().set_len(size as u64 / 2).unwrap();
    assert_eq!(start(&folder, "random"), ANEW);
}

#[test]
fn an_entry_that_changes_while_the_gateway_runs_is_ignored_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("compiled");
    let loader = Loader::keeping(&folder).unwrap();
    serves(&loader, "random");
    serves(&loader, "random");
    assert_eq!(loader.compiled(), Compiled { found: 1, anew: 1 });
    flip(&entries(&folder)[0], 100);
    serves(&loader, "random");
    assert_eq!(loader.compiled(), Compiled { found: 1, anew: 2 });
}

#[test]
fn an_entry_from_elsewhere_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("compiled");
    assert_eq!(start(&folder, "random"), ANEW);
    assert_eq!(start(&folder, "round-robin"), ANEW);
    // One plugin's code is in the place of another's, and there is a file that was never recorded.
    let all = entries(&folder);
    let (a, b) = (std::fs::read(&all[0]).unwrap(), std::fs::read(&all[1]).unwrap());
    assert_ne!(a, b);
    std::fs::write(&all[0], &b).unwrap();
    std::fs::write(&all[1], &a).unwrap();
    let stranger = all[0].with_file_name("stranger");
    std::fs::write(&stranger, &a).unwrap();
    assert_eq!(start(&folder, "random"), ANEW);
    assert_eq!(start(&folder, "round-robin"), ANEW);
    assert!(!stranger.exists());
}

#[test]
fn a_folder_that_others_could_write_to_is_emptied_and_a_link_is_not_used() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("compiled");
    assert_eq!(start(&folder, "random"), ANEW);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(start(&folder, "random"), ANEW);
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    assert_eq!(start(&link, "random"), Compiled::default(), "it is loaded all the same");
    assert_eq!(start(&parent.path().join("missing/compiled"), "random"), Compiled::default());
}
