//! A look at the disk: the files of the configured paths, with everything that changes when their content does, and the names that this depends on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::disk::Disk;
use super::follow::follow;
use crate::regular;

/// How deeply folders may be nested.
const MAX_DEPTH: usize = 16;

/// Changes whenever a file's content does, except for two changes within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(found: &std::fs::Metadata) -> Self {
        let modified = (found.mtime(), found.mtime_nsec());
        Self { device: found.dev(), inode: found.ino(), size: found.size(), modified, changed: (found.ctime(), found.ctime_nsec()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// How long ago the content changed; zero if its time is in the future.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        let (seconds, nanoseconds) = self.modified;
        let since = Duration::new(seconds.try_into().unwrap_or_default(), nanoseconds.try_into().unwrap_or_default());
        now.duration_since(SystemTime::UNIX_EPOCH + since).unwrap_or_default()
    }
}

/// A file as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// The file's name without links, by which the watcher knows it.
    pub(super) real: PathBuf,
    pub(super) stamp: Stamp,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Files by the names they are reached by, and folders that could not be read.
    pub(super) files: HashMap<PathBuf, Result<At, String>>,
    /// Other files whose changes matter; an error if a file is not there.
    pub(super) others: BTreeMap<PathBuf, Result<At, String>>,
    pub(super) interest: Interest,
    /// The folders that were read: by the name without links, the names by which the folder is reached.
    pub(super) folders: HashMap<PathBuf, Vec<PathBuf>>,
}

/// By the folder's name without links, the names in it that matter.
pub(super) type Interest = BTreeMap<PathBuf, Names>;

/// The names in a folder that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// The folder is read: whatever comes and goes matters, and the content of files whose names end as those of configuration files.
    pub(super) all: bool,
    /// These names lead to others, or are asked for by name.
    pub(super) some: BTreeSet<OsString>,
}

impl Names {
    /// Whether it matters that something of this name is written.
    pub(super) fn content(&self, path: &Path) -> bool {
        self.all && configures(path) || self.named(path)
    }

    /// Whether it matters that this name comes, goes, or comes to stand for something else.
    pub(super) fn place(&self, path: &Path) -> bool {
        self.all || self.named(path)
    }

    /// Whether the name leads to others, or is asked for by name.
    pub(super) fn named(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.some.contains(name))
    }
}

/// Looks at the `.yaml`, `.yml` and `.json` files of `paths`, and at `others`. Names that begin with a dot are skipped, so a ConfigMap volume's
/// `..data` is seen once, by the links into it.
pub(super) fn look(disk: &Disk, paths: &[PathBuf], others: &BTreeSet<PathBuf>) -> Seen {
    let mut seen = Seen::default();
    for path in paths {
        let mut walk = Walk { disk, seen: &mut seen, above: Vec::new() };
        match walk.lead(path) {
            Ok(real) => walk.take(path, real, true),
            Err(error) => drop(seen.files.insert(path.clone(), Err(error))),
        }
    }
    for path in others {
        let mut walk = Walk { disk, seen: &mut seen, above: Vec::new() };
        let at = walk.lead(path).and_then(|real| {
            let found = disk.ask(path, || std::fs::metadata(&real).and_then(|found| regular::check(&found).map(|()| found)))?;
            Ok(At { stamp: Stamp::of(&found), real })
        });
        seen.others.insert(path.clone(), at);
    }
    seen
}

struct Walk<'a> {
    disk: &'a Disk,
    seen: &'a mut Seen,
    /// The devices and inodes of the folders above: following a link back to one of them would never end.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// Where a path leads now. All names on the way matter from now on.
    fn lead(&mut self, path: &Path) -> Result<PathBuf, String> {
        let way = self.disk.ask(path, || follow(path))?;
        for (folder, name) in way.names {
            self.seen.interest.entry(folder).or_default().some.insert(name);
        }
        way.end.ok_or_else(|| std::io::Error::from(ErrorKind::NotFound).to_string())
    }

    fn fail(&mut self, path: &Path, error: String) {
        self.seen.files.insert(path.to_owned(), Err(error));
    }

    fn take(&mut self, path: &Path, real: PathBuf, named: bool) {
        match self.disk.ask(path, || std::fs::metadata(&real)) {
            Ok(found) if found.is_dir() => self.folder(path, real, (found.dev(), found.ino())),
            Ok(found) if named || configures(path) => {
                drop(self.seen.files.insert(path.to_owned(), Ok(At { real, stamp: Stamp::of(&found) })))
            }
            Ok(_) => {}
            Err(error) => self.fail(path, error),
        }
    }

    fn folder(&mut self, path: &Path, real: PathBuf, identity: (u64, u64)) {
        if self.above.contains(&identity) {
            return self.fail(path, "a link back to a folder that it is in".to_owned());
        }
        if self.above.len() > MAX_DEPTH {
            return self.fail(path, format!("folders are nested more than {MAX_DEPTH} deep"));
        }
        self.seen.interest.entry(real.clone()).or_default().all = true;
        self.seen.folders.entry(real.clone()).or_default().push(path.to_owned());
        self.above.push(identity);
        let entries = self
            .disk
            .ask(path, || std::fs::read_dir(&real)?.map(|entry| entry.map(|e| e.file_name())).collect::<std::io::Result<Vec<_>>>());
        match entries {
            Err(error) => self.fail(path, error),
            Ok(names) => {
                names.into_iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")).for_each(|name| self.entry(path, &real, &name))
            }
        }
        self.above.pop();
    }

    fn entry(&mut self, folder: &Path, real: &Path, name: &OsString) {
        let (path, real) = (folder.join(name), real.join(name));
        match self.disk.ask(&path, || match std::fs::symlink_metadata(&real) {
            // It was removed between two questions.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }) {
            Err(error) => self.fail(&path, error),
            Ok(None) => {}
            Ok(Some(found)) if found.is_symlink() => match self.lead(&real) {
                Ok(end) => self.take(&path, end, false),
                // If a link leads nowhere, it cannot be known what it led to; files of other names do not matter.
                Err(error) if configures(&path) || path.extension().is_none() => self.fail(&path, error),
                Err(_) => {}
            },
            Ok(Some(found)) if found.is_dir() => self.folder(&path, real, (found.dev(), found.ino())),
            Ok(Some(found)) if configures(&path) => {
                self.seen.files.insert(path, Ok(At { real, stamp: Stamp::of(&found) }));
            }
            Ok(Some(_)) => {}
        }
    }
}

/// Whether a file of this name is read when it is found in a folder.
pub(super) fn configures(path: &Path) -> bool {
    matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"))
}
