//! A large state file, with a journal of what has changed in it since it was written, so that saving a change costs by the size of the change. A
//! content that is small, or whose journal has become large, is written whole, and its journal is removed.
//!
//! `NAME.journal` is text. Its first line names the content that it belongs to, by the checksum of the file's content; each further line is a checksum
//! and a change in JSON. The checksum is the SHA-256 of the line before it and of the change, so that nothing after a damaged or lost line is
//! accepted. A line without its end was being written when the process or the machine stopped: nothing depends on it yet. There is a second copy,
//! `NAME.journal.copy`, as there is of the file. A journal that belongs to another content was left behind when the file was written whole, and is
//! ignored. Therefore no two written contents may be the same: whoever writes them numbers them.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluicegate_host::load::sha256;

use super::{Found, StateFile};
use crate::regular;

/// Contents with fewer bytes are always written whole: that takes no longer and is easier to read.
const SMALL: u64 = 64 << 10;
/// A journal is at most this part of the file's size.
const PART: u64 = 4;

/// A state file with its journal, as this process continues them.
#[derive(Clone, Debug)]
pub(crate) struct Journaled {
    file: StateFile,
    /// Where the journal ends; none if the content has to be written whole next.
    end: Option<End>,
}

/// How far the file and its journal are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The checksum of the journal's last line, or of the file's content.
    sum: String,
    /// The size of the journal, and of the file, in bytes.
    journal: u64,
    file: u64,
}

/// What is to be written.
pub(crate) enum Write<T> {
    /// The whole content.
    Whole(T),
    /// A change of the content.
    Line(Line),
}

/// One line of a journal, preceded by the journal's first line if there is none yet.
pub(crate) struct Line {
    text: String,
    /// The checksum of the change.
    sum: String,
}

/// What was read from a journal.
#[derive(Default)]
struct Read<C> {
    changes: Vec<C>,
    /// The checksum of the last change, or of the content if there is no change.
    sum: String,
    /// The journal's bytes, if all of them are good.
    bytes: Option<Vec<u8>>,
    damage: Option<String>,
}

impl Journaled {
    pub(crate) fn new(file: StateFile) -> Self {
        Self { file, end: None }
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    fn journal(&self) -> PathBuf {
        self.file.with_ending("journal")
    }

    fn copy(&self) -> PathBuf {
        self.file.with_ending("journal.copy")
    }

    /// Reads the file and its journal, and leaves everything as it is.
    pub(crate) fn look<T: DeserializeOwned, C: DeserializeOwned>(&self, apply: impl Fn(&mut T, C)) -> Found<T> {
        self.follow(self.file.look(), apply).0
    }

    /// Reads the file, or else its copy, and moves aside what is damaged; then reads what has changed since the file was written.
    pub(crate) fn load<T: DeserializeOwned, C: DeserializeOwned>(&mut self, apply: impl Fn(&mut T, C)) -> Found<T> {
        let (found, end) = self.follow(self.file.load(), apply);
        self.end = end;
        found
    }

    /// Applies the journal to the content. It can be continued only if both copies of the file and of the journal are there and are the same.
    fn follow<T, C: DeserializeOwned>(&self, mut found: Found<T>, apply: impl Fn(&mut T, C)) -> (Found<T>, Option<End>) {
        let (Some(content), Some(seal)) = (&mut found.content, &found.seal) else { return (found, None) };
        let mut read = self.read::<C>(&self.journal(), &seal.sha256);
        let copy = self.read::<C>(&self.copy(), &seal.sha256);
        let same = read.bytes.is_some() && read.bytes == copy.bytes;
        let damage = read.damage.take();
        if copy.changes.len() > read.changes.len() {
            found.damage.push(damage.unwrap_or_else(|| format!("{} is not there, or not whole", self.journal().display())));
            read = copy;
        } else {
            found.lost = damage.is_some();
            found.damage.extend(damage);
        }
        let end = End { sum: read.sum, journal: read.bytes.map_or(0, |bytes| bytes.len() as u64), file: seal.bytes };
        let goes_on = same && seal.twice && found.damage.is_empty();
        read.changes.into_iter().for_each(|change| apply(content, change));
        (found, goes_on.then_some(end))
    }

    /// The changes that this journal has for the content with that checksum.
    fn read<C: DeserializeOwned>(&self, path: &Path, of: &str) -> Read<C> {
        let mut read = Read { changes: Vec::new(), sum: of.to_owned(), bytes: None, damage: None };
        let bytes = match regular::read(path, self.file.most) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                read.bytes = Some(Vec::new());
                return read;
            }
            Err(error) => {
                read.damage = Some(format!("{}: {error}", path.display()));
                return read;
            }
        };
        let whole = bytes.ends_with(b"\n");
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        match lines.next() {
            Some((_, first)) if first == head(self.file.kind, of).as_bytes() => {}
            // The journal belongs to another content, or is empty.
            _ => return read,
        }
        for (number, line) in lines {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match std::str::from_utf8(line).ok().and_then(|line| change(line, &read.sum)) {
                Some((change, sum)) => {
                    read.changes.push(change);
                    read.sum = sum;
                }
                None => {
                    let what = "its checksum is not that of its content, and what follows from it is not used";
                    read.damage = Some(format!("{}: line {}: {what}", path.display(), number + 1));
                    return read;
                }
            }
        }
        read.bytes = whole.then_some(bytes);
        read
    }

    /// The line for a change. None if there is no room for it, so that the content has to be written whole.
    pub(crate) fn line(&self, change: &impl Serialize) -> Result<Option<Line>> {
        let Some(end) = self.end.as_ref().filter(|end| end.file >= SMALL) else { return Ok(None) };
        let change = serde_json::to_string(change)?;
        let sum = sum(&end.sum, &change);
        let first = if end.journal == 0 { head(self.file.kind, &end.sum) } else { String::new() };
        let line = Line { text: format!("{first}{sum} {change}\n"), sum };
        Ok((end.journal + line.text.len() as u64 <= end.file / PART).then_some(line))
    }

    /// Writes the content or the line, one copy after the other, so that at each moment at least one of them is whole. Blocks. Returns where to continue,
    /// if a journal is possible.
    pub(crate) fn write(&self, next: &Write<impl Serialize>) -> Result<Option<End>> {
        match (next, &self.end) {
            (Write::Line(line), Some(end)) => {
                for path in [self.journal(), self.copy()] {
                    append(&path, end.journal, &line.text)?;
                }
                Ok(Some(End { sum: line.sum.clone(), journal: end.journal + line.text.len() as u64, file: end.file }))
            }
            (Write::Line(_), None) => Err(Error::other("there is no journal to go on with")),
            (Write::Whole(content), _) => {
                let (sum, file) = self.file.save_sealed(content)?;
                // The journals belong to an earlier content now. One that cannot be removed is recognised by that.
                let removed = [self.journal(), self.copy()].map(|path| match std::fs::remove_file(path) {
                    Err(error) => error.kind() == ErrorKind::NotFound,
                    Ok(()) => true,
                });
                Ok((removed == [true; 2]).then_some(End { sum, journal: 0, file }))
            }
        }
    }

    /// Takes in the outcome of writing. After a failure the content of the disk is unknown, so the next content is written whole.
    pub(crate) fn went_on(&mut self, written: Result<Option<End>>) -> Result<()> {
        self.end = None;
        self.end = written?;
        Ok(())
    }
}

/// A journal's first line, which names the content that it belongs to.
fn head(kind: &str, sum: &str) -> String {
    format!("changes of {kind} {sum}\n")
}

fn sum(before: &str, change: &str) -> String {
    sha256(format!("{before} {change}").as_bytes())
}

/// The change in a line, and its checksum, if the checksum is right.
fn change<C: DeserializeOwned>(line: &str, before: &str) -> Option<(C, String)> {
    let (given, change) = line.split_once(' ')?;
    let right = sum(before, change);
    Some((serde_json::from_str(change).ok().filter(|_| right == given)?, right))
}

/// Appends a text to a file of `length` bytes, and makes sure that it lasts.
fn append(path: &Path, length: u64, text: &str) -> Result<()> {
    // These flags keep this from waiting for whatever is there, such as a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    regular::check(&found)?;
    if length == 0 {
        // An earlier journal may be there.
        file.set_len(0)?;
    } else if found.len() != length {
        return Err(Error::other(format!("{}: it has {} bytes instead of {length}", path.display(), found.len())));
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    if length == 0
        && let Some(folder) = path.parent()
    {
        // As after a rename, a failure is ignored: not every file system supports this.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
