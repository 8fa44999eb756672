use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Deserialize;

use super::*;

const MOST: u64 = 1 << 22;

/// Numbers, and how often they were written whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Content {
    number: u64,
    of: BTreeMap<String, u32>,
}

/// A name's new number; none if the name is removed.
type Change = (String, Option<u32>);

fn apply(content: &mut Content, (name, number): Change) {
    match number {
        Some(number) => drop(content.of.insert(name, number)),
        None => drop(content.of.remove(&name)),
    }
}

/// A content that is large enough for a journal.
fn large() -> Content {
    Content { number: 0, of: (0..4000).map(|number| (format!("default/service-{number}"), number)).collect() }
}

struct Kept {
    folder: tempfile::TempDir,
    file: Journaled,
    content: Content,
}

impl Kept {
    fn new(content: Content) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Journaled::new(StateFile::new(folder.path().join("state.json"), "numbers", MOST));
        let mut kept = Self { folder, file, content };
        kept.whole();
        kept
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, next: &Write<Content>) {
        let written = self.file.write(next);
        self.file.went_on(written).expect("written");
    }

    fn whole(&mut self) {
        self.content.number += 1;
        let content = self.content.clone();
        self.write(&Write::Whole(content));
    }

    /// Saves a change as the content's owner does. True if it was written as a line.
    fn change(&mut self, name: &str, number: Option<u32>) -> bool {
        let change: Change = (name.to_owned(), number);
        let line = self.file.line(&change).expect("a line");
        apply(&mut self.content, change);
        match line {
            Some(line) => {
                self.write(&Write::Line(line));
                true
            }
            None => {
                self.whole();
                false
            }
        }
    }

    /// What the next process finds.
    fn restart(&mut self) -> Found<Content> {
        self.file = Journaled::new(StateFile::new(self.path("state.json"), "numbers", MOST));
        self.file.load(apply)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("there")
    }
}

#[test]
fn a_change_of_a_large_content_is_a_line_and_of_a_small_one_the_whole() {
    let mut kept = Kept::new(large());
    let before = kept.bytes("state.json");
    for number in 0..10 {
        assert!(kept.change("default/new", Some(number)));
    }
    assert!(kept.change("default/service-7", None));
    assert_eq!(kept.bytes("state.json"), before, "the file is as it was");
    let journal = String::from_utf8(kept.bytes("state.json.journal")).expect("text");
    assert_eq!((journal.lines().count(), journal.len() < 2000), (12, true), "{journal}");
    assert_eq!(kept.bytes("state.json.journal.copy"), journal.as_bytes());
    let found = kept.restart();
    assert_eq!((found.content.as_ref(), found.damage.len(), found.lost), (Some(&kept.content), 0, false));
    assert!(kept.change("default/new", Some(11)), "the next process goes on with it");
    assert_eq!(kept.restart().content.as_ref(), Some(&kept.content));

    let mut small = Kept::new(Content::default());
    assert!(!small.change("default/new", Some(1)));
    assert!(!small.path("state.json.journal").exists());
    assert_eq!(small.restart().content.as_ref(), Some(&small.content));
}

#[test]
fn a_journal_does_not_grow_without_end() {
    let mut kept = Kept::new(large());
    let (mut lines, mut wholes) = (0, 0);
    for number in 0..3000 {
        if kept.change(&format!("default/service-{number}"), Some(number + 1)) {
            lines += 1;
        } else {
            wholes += 1;
            assert!(!kept.path("state.json.journal").exists());
        }
    }
    assert!(wholes > 2 && lines / wholes > 100, "{lines} lines, {wholes} times the whole");
    assert_eq!(kept.restart().content.as_ref(), Some(&kept.content));
}

#[test]
fn every_truncation_and_changed_byte_of_one_journal_is_survived() {
    let mut kept = Kept::new(large());
    for number in 0..5 {
        kept.change("default/new", Some(number));
    }
    let good = kept.bytes("state.json.journal");
    let mut random = SmallRng::seed_from_u64(15);
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= random.random_range(1..=255_u8);
        bytes
    });
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    // This is about reading journals only; another test covers the file itself.
    let sum = kept.restart().seal.expect("sealed").sha256;
    for (number, damaged) in cut.chain(flipped).enumerate() {
        let path = kept.path("state.json.journal");
        std::fs::write(&path, &damaged).expect("written");
        let read = kept.file.read::<Change>(&path, &sum);
        assert!(read.changes.iter().zip(0..).all(|(change, number)| *change == ("default/new".to_owned(), Some(number))));
        assert!(read.bytes.is_none() || read.changes.len() < 5, "{number}: it is not whole");
        if number % 97 == 0 {
            let found = kept.restart();
            assert_eq!((found.content.as_ref(), found.lost), (Some(&kept.content), false), "{}", String::from_utf8_lossy(&damaged));
        }
    }
}

#[test]
fn a_line_that_was_being_written_counts_for_nothing_and_damage_of_both_is_told() {
    let mut kept = Kept::new(large());
    kept.change("default/new", Some(1));
    let before = kept.content.clone();
    let good = kept.bytes("state.json.journal");
    kept.change("default/new", Some(2));
    let torn = kept.bytes("state.json.journal")[..good.len() + 30].to_vec();
    std::fs::write(kept.path("state.json.journal"), torn).expect("written");
    std::fs::write(kept.path("state.json.journal.copy"), &good).expect("written");
    let found = kept.restart();
    assert_eq!((found.content.as_ref(), found.damage, found.lost), (Some(&before), Vec::new(), false));
    kept.content = before;
    assert!(!kept.change("default/new", Some(3)), "what stands there is not gone on with");
    assert_eq!(kept.restart().content.as_ref(), Some(&kept.content));

    kept.change("default/new", Some(4));
    kept.change("default/new", Some(5));
    for name in ["state.json.journal", "state.json.journal.copy"] {
        let bytes = String::from_utf8(kept.bytes(name)).expect("text").replace(",5]", ",6]");
        std::fs::write(kept.path(name), bytes).expect("written");
    }
    let found = kept.restart();
    assert_eq!(found.content.and_then(|content| content.of.get("default/new").copied()), Some(4));
    assert!(found.lost && found.damage[0].contains("state.json.journal: line 3: its checksum"), "{:?}", found.damage);
}

#[test]
fn a_journal_that_was_left_behind_counts_for_nothing() {
    let mut kept = Kept::new(large());
    kept.change("default/new", Some(1));
    let journal = kept.bytes("state.json.journal");
    // This is as if the process had ended between the two: the content is the one from before the journal.
    kept.content.of.remove("default/new");
    kept.whole();
    std::fs::write(kept.path("state.json.journal"), &journal).expect("written");
    std::fs::write(kept.path("state.json.journal.copy"), &journal).expect("written");
    let found = kept.restart();
    assert_eq!((found.content.as_ref(), found.damage.len()), (Some(&kept.content), 0));
    assert!(!kept.change("default/new", Some(2)));
    assert_eq!(kept.restart().content.as_ref(), Some(&kept.content));
}

#[test]
fn the_copy_of_the_file_and_the_journal_come_to_the_same() {
    let mut kept = Kept::new(large());
    kept.change("default/new", Some(1));
    std::fs::write(kept.path("state.json"), "damaged").expect("written");
    let found = kept.restart();
    assert_eq!((found.content.as_ref(), found.damage.len()), (Some(&kept.content), 1));
    assert!(!kept.change("default/new", Some(2)), "both are made whole");
    std::fs::remove_file(kept.path("state.json.copy")).expect("removed");
    assert_eq!(kept.restart().content.as_ref(), Some(&kept.content));
    assert!(!kept.change("default/new", Some(3)), "the copy is missing");
}

#[test]
fn whatever_stands_in_a_journals_place_the_whole_is_written() {
    for what in ["a folder", "a pipe", "another length"] {
        let mut kept = Kept::new(large());
        let path = kept.path("state.json.journal");
        match what {
            "a folder" => std::fs::create_dir(&path).expect("made"),
            "a pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).expect("made"),
            _ => {
                kept.change("default/new", Some(0));
                std::fs::write(&path, "short").expect("written");
            }
        }
        let change: Change = ("default/new".to_owned(), Some(1));
        let line = kept.file.line(&change).expect("a line").expect("a large content");
        let written = kept.file.write(&Write::<Content>::Line(line));
        assert!(kept.file.went_on(written).is_err(), "{what}");
        apply(&mut kept.content, change);
        assert!(!kept.change("default/new", Some(2)), "{what}: after a failure");
        assert_eq!(kept.restart().content.as_ref(), Some(&kept.content), "{what}");
    }
}
