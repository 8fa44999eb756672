//! A file of the state folder that survives what happens to disks. It is written beside and renamed into place, it carries a checksum of its content, and
//! there is a second copy. What is damaged (cut off, other bytes, another encoding, a folder in its place) is moved aside for whoever wants to look at it,
//! and the copy is used. A content that is large and changes a little at a time has a [`journal`]. A file of secrets must be readable by this process's user
//! alone; else it counts as damaged. If it is damaged, it is removed.

pub(crate) mod journal;

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluicegate_host::load::sha256;

use crate::regular;

/// How many damaged files are kept aside. Further ones replace the last.
const MOST_ASIDE: usize = 16;

/// A file that holds a part of the gateway's state.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What the file holds. A file of another kind is not this one, even if its checksum is right.
    kind: &'static str,
    /// The size above which a file is not this gateway's, in bytes.
    most: u64,
    content: Content,
}

/// Who may know what is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Open,
    Secret,
}

/// The file as it is on disk. A file of an earlier release is the content alone.
#[derive(Serialize)]
struct Sealed {
    kind: &'static str,
    /// The SHA-256 of the kind and of the content, which is written without white space and with its fields sorted.
    sha256: String,
    content: Value,
}

/// What was found on disk.
pub struct Found<T> {
    /// The content that can be used, if there is any.
    pub content: Option<T>,
    /// What is damaged, and where it was moved to, for people.
    pub damage: Vec<String>,
    /// Whether there was something newer, which cannot be used.
    pub lost: bool,
    /// The seal of the content; none for a file of an earlier release, too.
    seal: Option<Seal>,
}

/// The seal of a content.
struct Seal {
    sha256: String,
    /// The size of the file, in bytes.
    bytes: u64,
    /// Whether file and copy are the same.
    twice: bool,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf, kind: &'static str, most: u64) -> Self {
        Self { path, kind, most, content: Content::Open }
    }

    /// A file whose content nobody else may know.
    pub fn secret(path: PathBuf, kind: &'static str, most: u64) -> Self {
        Self { content: Content::Secret, ..Self::new(path, kind, most) }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn copy(&self) -> PathBuf {
        self.with_ending("copy")
    }

    fn with_ending(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }

    /// Reads the file, or else the copy, and leaves everything as it is.
    pub fn look<T: DeserializeOwned>(&self) -> Found<T> {
        self.find(|_| String::new())
    }

    /// Reads the file, or else the copy, and moves aside what is damaged.
    pub fn load<T: DeserializeOwned>(&self) -> Found<T> {
        self.find(|path| {
            if self.content == Content::Secret {
                return match std::fs::remove_file(path) {
                    Ok(()) => "; it is removed".to_owned(),
                    Err(error) => format!("; it cannot be removed: {error}"),
                };
            }
            let mut aside = (0..MOST_ASIDE).map(|n| self.with_ending(&if n == 0 { "corrupt".to_owned() } else { format!("corrupt-{n}") }));
            // It must not replace another damaged file, which may be the one worth repairing.
            let free = aside.clone().find(|path| std::fs::symlink_metadata(path).is_err());
            let Some(aside) = free.or_else(|| aside.next_back()) else { return String::new() };
            match std::fs::rename(path, &aside) {
                Ok(()) => format!("; it is moved to {}", aside.display()),
                Err(error) => format!("; it cannot be moved aside: {error}"),
            }
        })
    }

    fn find<T: DeserializeOwned>(&self, put_aside: impl Fn(&Path) -> String) -> Found<T> {
        let mut damage = Vec::new();
        let mut missing = 0;
        for path in [self.path.clone(), self.copy()] {
            match self.read(&path) {
                Ok((content, seal)) => {
                    if missing == 1 {
                        damage.push(format!("{} is not there", self.path.display()));
                    }
                    return Found { content: Some(content), damage, lost: false, seal };
                }
                Err(error) if error.kind() == ErrorKind::NotFound => missing += 1,
                Err(error) => {
                    let aside = put_aside(&path);
                    damage.push(format!("{}: {error}{aside}", path.display()));
                }
            }
        }
        Found { content: None, damage, lost: false, seal: None }
    }

    /// Writes the file, and then the copy: at each moment at least one of them is whole.
    ///
    /// # Errors
    /// The file system gives an error; the file is then as it was.
    pub fn save(&self, content: &impl Serialize) -> Result<()> {
        self.save_sealed(content).map(|_| ())
    }

    /// Writes the file and the copy. Returns the checksum of the content, and the size of the file in bytes.
    fn save_sealed(&self, content: &impl Serialize) -> Result<(String, u64)> {
        let mut content = serde_json::to_value(content)?;
        let sealed = Sealed { kind: self.kind, sha256: sum(self.kind, &mut content)?, content };
        let mut text = serde_json::to_vec_pretty(&sealed)?;
        text.push(b'\n');
        self.replace(&self.path, &text)?;
        self.replace(&self.copy(), &text)?;
        Ok((sealed.sha256, text.len() as u64))
    }

    /// Removes the file and its copy, if they are there.
    ///
    /// # Errors
    /// The file system gives an error.
    pub fn remove(&self) -> Result<()> {
        for path in [self.path.clone(), self.copy(), self.with_ending("partial")] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn replace(&self, path: &Path, text: &[u8]) -> Result<()> {
        let partial = self.with_ending("partial");
        match std::fs::remove_file(&partial) {
            // A process that was killed has left it.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let written = file.write_all(text).and_then(|()| file.sync_all()).and_then(|()| {
            // A folder may have been put in its place. A file is replaced by the rename.
            if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                std::fs::rename(path, self.with_ending("corrupt"))?;
            }
            std::fs::rename(&partial, path)
        });
        if written.is_err() {
            // Its room is better used by the next attempt.
            let _ = std::fs::remove_file(&partial);
        }
        written?;
        // The rename lasts once its folder is written. Not every file system can be asked for that.
        if let Some(folder) = path.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<(T, Option<Seal>)> {
        let damaged = |what: String| Error::new(ErrorKind::InvalidData, what);
        let bytes = match regular::read(path, self.most) {
            Ok((_, found)) if self.content == Content::Secret && found.uid() != rustix::process::geteuid().as_raw() => {
                return Err(damaged("it is another user's".to_owned()));
            }
            Ok((_, found)) if self.content == Content::Secret && found.mode() & 0o077 != 0 => {
                return Err(damaged(format!("others may read or write it (mode {:o})", found.mode() & 0o777)));
            }
            Ok((bytes, _)) => bytes,
            // A link that leads nowhere is damage; a file that is missing is not.
            Err(error) if error.kind() == ErrorKind::NotFound && std::fs::symlink_metadata(path).is_ok() => {
                return Err(damaged("it is a link that leads nowhere".to_owned()));
            }
            Err(error) => return Err(error),
        };
        let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        // A file of an earlier release is the content alone.
        if value.get("content").is_none() && value.get("sha256").is_none() {
            return serde_json::from_value(value).map(|content| (content, None)).map_err(|error| damaged(error.to_string()));
        }
        let mut content = value["content"].take();
        let sha256 = sum(self.kind, &mut content)?;
        if value["kind"] != self.kind || value["sha256"] != sha256 {
            return Err(damaged("its checksum is not that of its content".to_owned()));
        }
        let content = serde_json::from_value(content).map_err(|error| damaged(error.to_string()))?;
        let twice = path == self.path && regular::read(&self.copy(), self.most).is_ok_and(|(copy, _)| copy == bytes);
        Ok((content, Some(Seal { sha256, bytes: bytes.len() as u64, twice })))
    }
}

fn sum(kind: &str, content: &mut Value) -> Result<String> {
    content.sort_all_objects();
    let mut bytes = kind.as_bytes().to_vec();
    serde_json::to_writer(&mut bytes, content)?;
    Ok(sha256(&bytes))
}

#[cfg(test)]
mod tests;
