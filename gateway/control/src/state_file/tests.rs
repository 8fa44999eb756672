use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

type Content = BTreeMap<String, u16>;

const MOST: u64 = 1 << 20;

fn folder() -> (tempfile::TempDir, StateFile) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = StateFile::new(folder.path().join("state.json"), "numbers", MOST);
    (folder, file)
}

fn content(number: u16) -> Content {
    BTreeMap::from([("default/web:80/TCP".to_owned(), number), ("default/api:80/TCP".to_owned(), 30_001)])
}

fn loaded(file: &StateFile) -> (Option<Content>, Vec<String>) {
    let found = file.load();
    (found.content, found.damage)
}

#[test]
fn what_is_saved_is_found_and_nothing_is_nothing() {
    let (_folder, file) = folder();
    assert_eq!(loaded(&file), (None, Vec::new()));
    file.save(&content(1)).expect("saved");
    file.save(&content(2)).expect("saved");
    assert_eq!(loaded(&file), (Some(content(2)), Vec::new()));
}

#[test]
fn every_truncation_and_every_changed_byte_is_survived() {
    let (_folder, file) = folder();
    file.save(&content(2)).expect("saved");
    let good = std::fs::read(file.path()).expect("there");
    let mut random = SmallRng::seed_from_u64(14);
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= random.random_range(1..=255_u8);
        bytes
    });
    for damaged in cut.chain(flipped) {
        std::fs::write(file.path(), &damaged).expect("written");
        let (found, told) = loaded(&file);
        assert_eq!(found, Some(content(2)), "{}", String::from_utf8_lossy(&damaged));
        let moved = !file.path().exists();
        assert_eq!(told.len(), usize::from(moved), "told if it was damaged, and white space is none: {told:?}");
    }
}

#[test]
fn whatever_stands_in_its_place_is_moved_aside_and_the_copy_is_used() {
    let utf16 = |text: &str| [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>();
    let text = serde_json::to_string(&content(9)).expect("JSON");
    let sealed_otherwise = |path: &Path| StateFile::new(path.to_owned(), "letters", MOST).save(&content(9)).expect("saved");
    let damages: Vec<(&str, Box<dyn Fn(&Path)>)> = vec![
        ("another encoding", Box::new(|path| std::fs::write(path, utf16(&text)).expect("written"))),
        ("zeroes", Box::new(|path| std::fs::write(path, [0; 4096]).expect("written"))),
        ("foreign JSON", Box::new(|path| std::fs::write(path, r#"{"name":"web"}"#).expect("written"))),
        ("another list", Box::new(|path| std::fs::write(path, "[]").expect("written"))),
        ("another of our files", Box::new(sealed_otherwise)),
        ("a folder", Box::new(|path| std::fs::create_dir(path).expect("made"))),
        ("a pipe", Box::new(|path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).expect("made"))),
        ("a link to nowhere", Box::new(|path| symlink("nowhere", path).expect("linked"))),
        ("a link to itself", Box::new(|path| symlink(path, path).expect("linked"))),
        ("too much", Box::new(|path| File::create(path).and_then(|f| f.set_len(MOST + 1)).expect("made"))),
        ("nothing", Box::new(|_| {})),
    ];
    for (what, damage) in &damages {
        let (folder, file) = folder();
        file.save(&content(2)).expect("saved");
        std::fs::remove_file(file.path()).expect("removed");
        let copy = std::fs::read(file.copy()).expect("there");
        damage(file.path());
        std::fs::write(file.copy(), copy).expect("written");
        let (found, told) = loaded(&file);
        assert_eq!((found, told.len()), (Some(content(2)), 1), "{what}: {told:?}");
        file.save(&content(3)).expect(what);
        assert_eq!(loaded(&file), (Some(content(3)), Vec::new()), "{what}");
        drop(folder);
    }
}

#[test]
fn with_both_damaged_there_is_nothing_and_both_are_kept_for_whoever_mends_them() {
    let (folder, file) = folder();
    for round in 0..3 {
        std::fs::write(file.path(), format!("first {round}")).expect("written");
        std::fs::write(file.copy(), format!("second {round}")).expect("written");
        let (found, told) = loaded(&file);
        assert_eq!((found, told.len()), (None, 2));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 6);
    assert_eq!(std::fs::read_to_string(folder.path().join("state.json.corrupt")).expect("there"), "first 0");
}

#[test]
fn a_file_of_an_earlier_release_is_read_and_its_copy_of_none_is_no_damage() {
    let (_folder, file) = folder();
    std::fs::write(file.path(), serde_json::to_string_pretty(&content(2)).expect("JSON")).expect("written");
    assert_eq!(loaded(&file), (Some(content(2)), Vec::new()));
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let (folder, file) = folder();
    file.save(&content(2)).expect("saved");
    // Root may write everywhere, so a folder that cannot be removed stands where the file is prepared.
    std::fs::create_dir_all(folder.path().join("state.json.partial/full")).expect("made");
    assert!(file.save(&content(3)).is_err());
    assert_eq!(loaded(&file), (Some(content(2)), Vec::new()));
    std::fs::remove_dir_all(folder.path().join("state.json.partial")).expect("removed");
    file.save(&content(3)).expect("saved");
    assert_eq!(loaded(&file), (Some(content(3)), Vec::new()));
}
