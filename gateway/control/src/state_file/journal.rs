//! A state file whose content is large, with a journal of what has changed in it since it was written: a change costs by its own size. A content that is
//! small, or has changed as much as it is large, is written whole, and its journal is removed.
//!
//! `NAME.journal` is text. Its first line says what it is of, by the checksum of the file's content; each further line is a checksum and a change, JSON.
//! The checksum is the SHA-256 of the line before and of the change, so that what follows from a line that was damaged or lost is not believed. A
//! line without its end was being written when the process or the machine stopped: nothing had been done by it yet. There is a second copy,
//! `NAME.journal.copy`, as of the file. A journal of another content was left behind when the file had been written whole, and means nothing. So no two
//! contents that are written may be the same: whoever writes them numbers them.

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

/// Contents of fewer bytes are written whole each time: that takes no longer, and is easier to read.
const SMALL: u64 = 64 << 10;
/// A journal has at most this part of what the file has.
const PART: u64 = 4;

/// A state file with its journal, as this process goes on with them.
#[derive(Clone, Debug)]
pub(crate) struct Journaled {
    file: StateFile,
    /// None: what is next is written whole.
    end: Option<End>,
}

/// How far file and journal are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// The checksum of the journal's last line, or of the file's content.
    sum: String,
    /// Bytes of the journal, and of the file.
    journal: u64,
    file: u64,
}

/// What is to be written.
pub(crate) enum Write<T> {
    /// The whole content.
    Whole(T),
    /// A change of it.
    Line(Line),
}

/// One line of a journal, with the line before it where it is the first.
pub(crate) struct Line {
    text: String,
    /// The checksum of the change.
    sum: String,
}

/// What a journal says.
#[derive(Default)]
struct Read<C> {
    changes: Vec<C>,
    /// The checksum of the last of them, or of what it is of.
    sum: String,
    /// Its bytes, if all of them are good.
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

    /// Looks, and leaves everything as it is.
    pub(crate) fn look<T: DeserializeOwned, C: DeserializeOwned>(&self, apply: impl Fn(&mut T, C)) -> Found<T> {
        self.follow(self.file.look(), apply).0
    }

    /// Reads the file, or else the copy, and moves aside what is damaged; then what has changed since it was written.
    pub(crate) fn load<T: DeserializeOwned, C: DeserializeOwned>(&mut self, apply: impl Fn(&mut T, C)) -> Found<T> {
        let (found, end) = self.follow(self.file.load(), apply);
        self.end = end;
        found
    }

    /// What the journal makes of the content, and where to go on: only if both copies of all are there and the same.
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

    /// What this journal says of the content with that checksum.
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
            // Of another content, or nothing was written of it yet.
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

    /// The line for a change, if there is room for it. Else the content is to be written whole.
    pub(crate) fn line(&self, change: &impl Serialize) -> Result<Option<Line>> {
        let Some(end) = self.end.as_ref().filter(|end| end.file >= SMALL) else { return Ok(None) };
        let change = serde_json::to_string(change)?;
        let sum = sum(&end.sum, &change);
        let first = if end.journal == 0 { head(self.file.kind, &end.sum) } else { String::new() };
        let line = Line { text: format!("{first}{sum} {change}\n"), sum };
        Ok((end.journal + line.text.len() as u64 <= end.file / PART).then_some(line))
    }

    /// Writes what is next: each copy in turn, so that at each moment at least one of them is whole. Blocks. Returned: where to go on, if a journal is
    /// possible.
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
                // They are of another content now, and one that stays is known by that.
                let removed = [self.journal(), self.copy()].map(|path| match std::fs::remove_file(path) {
                    Err(error) => error.kind() == ErrorKind::NotFound,
                    Ok(()) => true,
                });
                Ok((removed == [true; 2]).then_some(End { sum, journal: 0, file }))
            }
        }
    }

    /// Takes in what came of writing. After a failure nobody knows what stands there, and what is next is written whole.
    pub(crate) fn went_on(&mut self, written: Result<Option<End>>) -> Result<()> {
        self.end = None;
        self.end = written?;
        Ok(())
    }
}

/// The first line: what the journal is of.
fn head(kind: &str, sum: &str) -> String {
    format!("changes of {kind} {sum}\n")
}

fn sum(before: &str, change: &str) -> String {
    sha256(format!("{before} {change}").as_bytes())
}

/// The change of a line, and its checksum, if that is right.
fn change<C: DeserializeOwned>(line: &str, before: &str) -> Option<(C, String)> {
    let (given, change) = line.split_once(' ')?;
    let right = sum(before, change);
    Some((serde_json::from_str(change).ok().filter(|_| right == given)?, right))
}

/// Adds a text to a file that has so many bytes, and makes sure that it lasts.
fn append(path: &Path, length: u64, text: &str) -> Result<()> {
    // Whatever stands there, this does not wait for it.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    regular::check(&found)?;
    if length == 0 {
        // Of another content, if something is there.
        file.set_len(0)?;
    } else if found.len() != length {
        return Err(Error::other(format!("{}: it has {} bytes instead of {length}", path.display(), found.len())));
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    if length == 0
        && let Some(folder) = path.parent()
    {
        // As of a rename: not every file system can be asked for it.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
