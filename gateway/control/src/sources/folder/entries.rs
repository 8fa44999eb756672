//! The files as they were found last, and what is to be reported about them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Change;
use super::events::Events;
use super::settle::{Known, RACY, being_written, emptied, tell};
use crate::sources::What;

/// What a pass found out about a file.
pub(super) enum Found {
    /// The file is the same as before.
    Same,
    /// The file was read.
    Read(Known, Arc<str>),
    /// The file has to wait, and is looked at again by this name after this time.
    Waits(PathBuf, Duration),
    Failed(String),
    Gone,
}

/// All files, and folders that could not be read, by the names they are reached by.
#[derive(Default)]
pub(super) struct Entries {
    /// This is looked up several times for each file when everything is looked at. Hashes are faster than comparing long paths that begin alike.
    all: HashMap<PathBuf, Entry>,
    /// The files that have to wait, and since when.
    waiting: BTreeMap<PathBuf, Instant>,
    /// When to look at a file again, and by which name.
    again: BTreeMap<PathBuf, (Instant, PathBuf)>,
    failed: usize,
    untold: Vec<Change>,
}

#[derive(Default)]
struct Entry {
    known: Option<Known>,
    told: Told,
    held: Option<String>,
}

/// What was last reported about a file.
#[derive(Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Content,
    Unreadable(Option<String>),
}

impl Entries {
    pub(super) fn take_untold(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.untold)
    }

    pub(super) fn known(&self, path: &Path) -> Option<&Known> {
        self.all.get(path).and_then(|entry| entry.known.as_ref())
    }

    /// Whether the path is known as a readable file, or is not known at all.
    pub(super) fn is_plain(&self, path: &Path) -> bool {
        self.all.get(path).is_none_or(|entry| !matches!(entry.told, Told::Unreadable(_)))
    }

    /// The files that are to be looked at again now, and the names to do it by.
    pub(super) fn due(&self, now: Instant) -> Vec<(PathBuf, PathBuf)> {
        self.again.iter().filter(|(_, (due, _))| *due <= now).map(|(path, (_, real))| (path.clone(), real.clone())).collect()
    }

    /// The time until the next file is to be looked at again.
    pub(super) fn again(&self, now: Instant) -> Option<Duration> {
        self.again.values().map(|(due, _)| due.saturating_duration_since(now)).min()
    }

    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn failed(&self) -> bool {
        self.failed > 0
    }

    /// Drops what is gone after everything was looked at. `there` has the paths that exist; `true` says that a path could not be examined, so that
    /// anything below it may still be there.
    pub(super) fn keep(&mut self, there: &HashMap<&Path, bool>) {
        let missing: Vec<PathBuf> = self.all.keys().filter(|path| !there.contains_key(path.as_path())).cloned().collect();
        for path in missing {
            if path.ancestors().any(|above| there.get(above) == Some(&true)) {
                self.unreadable(&path, None);
            } else {
                self.gone(&path);
            }
        }
    }

    /// Takes in what was found. What was read counts, unless somebody began to write the file meanwhile, or it is empty now and was not before.
    pub(super) fn take_over(&mut self, path: PathBuf, found: Found, events: &Events) {
        match found {
            Found::Gone => self.gone(&path),
            Found::Failed(error) => self.unreadable(&path, Some(error)),
            Found::Same => {
                self.waiting.remove(&path);
                self.again.remove(&path);
                let entry = self.all.get(&path);
                let emptied_before = entry.and_then(|entry| entry.known.as_ref()).is_some_and(|known| known.emptied);
                // This is the case for nearly all files nearly always.
                if entry.is_some_and(|entry| entry.told == Told::Content && entry.held.is_none()) && !emptied_before {
                    return;
                }
                self.readable(&path);
                self.hold(&path, emptied_before.then(|| emptied(&path)));
            }
            Found::Waits(real, left) => self.wait(&path, real, left),
            Found::Read(read, _) if events.written(&read.at.real).is_some_and(being_written) => {
                self.wait(&path, read.at.real, Duration::from_millis(50));
            }
            Found::Read(mut read, text) => {
                self.waiting.remove(&path);
                if read.racy {
                    self.again.insert(path.clone(), (Instant::now() + RACY, read.at.real.clone()));
                } else {
                    self.again.remove(&path);
                }
                let entry = self.all.entry(path.clone()).or_default();
                let known = entry.known.as_ref().map(|known| known.digest);
                let held = known.filter(|known| read.digest.blank && !known.blank).map(|known| {
                    (read.digest, read.emptied) = (known, true);
                    emptied(&path)
                });
                let other = known != Some(read.digest);
                entry.known = Some(read);
                if other || entry.told == Told::Nothing {
                    self.failed -= usize::from(matches!(entry.told, Told::Unreadable(Some(_))));
                    (entry.told, entry.held) = (Told::Content, None);
                    self.untold.push(Change { unit: path.clone(), what: What::Text(text) });
                } else {
                    self.readable(&path);
                }
                self.hold(&path, held);
            }
        }
    }

    /// Keeps the file's last version until it can be read.
    fn wait(&mut self, path: &Path, real: PathBuf, left: Duration) {
        let since = *self.waiting.entry(path.to_owned()).or_insert_with(Instant::now);
        let (held, after) = match tell(since) {
            Ok(held) => (Some(held), left),
            Err(until) => (None, left.min(until)),
        };
        self.again.insert(path.to_owned(), (Instant::now() + after, real));
        if self.all.entry(path.to_owned()).or_default().known.is_some() {
            self.readable(path);
        }
        self.hold(path, held);
    }

    fn readable(&mut self, path: &Path) {
        let Some(entry) = self.all.get_mut(path) else { return };
        if let Told::Unreadable(why) = &entry.told {
            self.failed -= usize::from(why.is_some());
            (entry.told, entry.held) = (Told::Content, None);
            self.untold.push(Change { unit: path.to_owned(), what: What::Again });
        }
    }

    fn unreadable(&mut self, path: &Path, why: Option<String>) {
        self.waiting.remove(path);
        self.again.remove(path);
        let entry = self.all.entry(path.to_owned()).or_default();
        let told = Told::Unreadable(why.clone());
        // A file about which nothing was reported is not missed when it cannot be seen.
        if entry.told == told || (why.is_none() && entry.told == Told::Nothing) {
            return;
        }
        self.failed -= usize::from(matches!(entry.told, Told::Unreadable(Some(_))));
        self.failed += usize::from(why.is_some());
        (entry.told, entry.held) = (told, None);
        self.untold.push(Change { unit: path.to_owned(), what: What::Unreadable(why) });
    }

    fn hold(&mut self, path: &Path, held: Option<String>) {
        let Some(entry) = self.all.get_mut(path) else { return };
        if entry.held != held {
            entry.held.clone_from(&held);
            self.untold.push(Change { unit: path.to_owned(), what: What::Held(held) });
        }
    }

    fn gone(&mut self, path: &Path) {
        self.waiting.remove(path);
        self.again.remove(path);
        let Some(entry) = self.all.remove(path) else { return };
        self.failed -= usize::from(matches!(entry.told, Told::Unreadable(Some(_))));
        if entry.told != Told::Nothing || entry.held.is_some() {
            self.untold.push(Change { unit: path.to_owned(), what: What::Gone });
        }
    }
}
