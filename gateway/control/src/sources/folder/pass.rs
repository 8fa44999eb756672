//! One pass over the disk: look at it, watch what matters, read the files whose content counts. A pass looks at the files that events name, and at
//! everything if something other than plain files may have changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use super::disk::Disk;
use super::entries::{Entries, Found};
use super::events::{Events, Told};
use super::look::{At, Interest, Seen, Stamp, configures, look};
use super::others::{Looks, Others};
use super::settle::{Digest, Known, Verdict, judge, racy};
use super::watches::Watches;
use super::{Change, Counts, MAX_FILE_BYTES};
use crate::regular;
use crate::sources::What;

/// How often a pass looks again when each look changes what is watched.
const MOST_LOOKS: usize = 8;

/// When to look again at a file that changed between two looks of one pass.
const FOLLOWING: Duration = Duration::from_millis(20);

/// What a pass looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// The files that events have named, and those that have to wait.
    Told,
}

/// What lasts from pass to pass, whichever thread makes them.
#[derive(Clone)]
pub(super) struct Memory {
    paths: Arc<[PathBuf]>,
    pub(super) events: Arc<Events>,
    watches: Arc<Mutex<Watches>>,
    counts: Arc<Counts>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: Entries,
    others: Others,
    /// How names lead to files; none if nothing has been read yet.
    map: Option<Arc<Map>>,
}

/// How names led to files when everything was last looked at.
struct Map {
    interest: Interest,
    /// What [`Seen::folders`] was.
    folders: HashMap<PathBuf, Vec<PathBuf>>,
    /// The other files that were asked for.
    others: BTreeSet<PathBuf>,
    /// Whether all folders that are read are watched.
    watched: bool,
}

/// What a pass found.
pub(super) struct Outcome {
    /// Whether the pass looked at everything.
    pub(super) full: bool,
    /// Whether all folders that are read are watched.
    pub(super) watched: bool,
    /// When to look again at the files that have to wait.
    pub(super) again: Option<Duration>,
    /// Whether some file is being written.
    pub(super) waits: bool,
    /// Whether something could not be read.
    pub(super) failed: bool,
    /// The other files that have changed.
    pub(super) others_changed: BTreeSet<PathBuf>,
    /// The other files that must not be read at the moment, as in [`super::Untaken`].
    pub(super) waiting: BTreeMap<PathBuf, Option<String>>,
    /// How many events had been taken in when the pass began.
    pub(super) number: u64,
}

/// A file by the name it is reached by, or none if it is gone; an error if it cannot be looked at.
type Seeing = (PathBuf, Option<Result<At, String>>);

/// The files that may have changed.
struct Touched {
    files: Vec<Seeing>,
    /// All other files, as they are now; none if none of them may have changed.
    others: Option<Looks>,
}

impl Memory {
    pub(super) fn new(paths: Arc<[PathBuf]>, events: Arc<Events>, watches: Watches, counts: Arc<Counts>) -> Self {
        Self { paths, events, watches: Arc::new(Mutex::new(watches)), counts, state: Arc::default() }
    }

    /// What has changed since the last call.
    pub(super) fn take_untold(&self) -> Vec<Change> {
        self.with(|state| state.entries.take_untold())
    }

    /// Makes a pass. None if the disk did not answer in time and nobody waits for it any more.
    pub(super) fn pass(&self, disk: &Disk, others: &BTreeSet<PathBuf>, extent: Extent) -> Option<Outcome> {
        let outcome = self.look_and_read(disk, others, extent);
        self.counts.asked.fetch_add(disk.count(), Ordering::Relaxed);
        outcome
    }

    fn look_and_read(&self, disk: &Disk, others: &BTreeSet<PathBuf>, extent: Extent) -> Option<Outcome> {
        let (told, number) = self.events.since();
        let map = self.with(|state| state.map.clone());
        let first = map.is_none();
        let touched = map.filter(|map| extent == Extent::Told && map.others == *others).and_then(|map| self.touched(disk, &map, &told));
        let (Touched { files: seeing, others: looks }, seen) = match touched {
            Some(touched) => (touched, None),
            None => {
                self.counts.full.fetch_add(1, Ordering::Relaxed);
                let mut seen = self.look(disk, others, &told);
                let (files, looks) = (std::mem::take(&mut seen.files), std::mem::take(&mut seen.others));
                let files = files.into_iter().map(|(path, at)| (path, Some(at))).collect();
                (Touched { files, others: Some(looks) }, Some(seen))
            }
        };
        let now = SystemTime::now();
        let mut found = Vec::with_capacity(seeing.len());
        for (path, at) in seeing {
            let what = self.find(disk, &path, at, &told, first, now);
            found.push((path, what));
        }
        if disk.is_abandoned() {
            return None;
        }
        self.settle();
        let full = seen.is_some();
        let watched = seen.is_some() && self.watches.try_lock().is_ok_and(|watches| watches.complete());
        Some(self.with(|state| {
            let State { entries, others: known, map } = state;
            let others_changed = looks.map(|looks| known.update(looks, &told, &self.events, first, now)).unwrap_or_default();
            if let Some(seen) = seen {
                let there: HashMap<&Path, bool> =
                    found.iter().map(|(path, found)| (path.as_path(), matches!(found, Found::Failed(_)))).collect();
                entries.keep(&there);
                *map = Some(Arc::new(Map { interest: seen.interest, folders: seen.folders, others: others.clone(), watched }));
            }
            for (path, found) in found {
                entries.take_over(path, found, &self.events);
            }
            Outcome {
                full,
                watched: map.as_ref().is_some_and(|map| map.watched),
                again: [entries.again(Instant::now()), known.again()].into_iter().flatten().min(),
                waits: entries.waits() || !known.waiting().is_empty(),
                failed: entries.failed(),
                others_changed,
                waiting: known.waiting().clone(),
                number,
            }
        }))
    }

    /// The files that may have changed. None if something other than a file may have, so that everything has to be looked at.
    fn touched(&self, disk: &Disk, map: &Map, told: &Told) -> Option<Touched> {
        if told.all {
            return None;
        }
        let writing = self.events.writing();
        let is_told = |real: &Path| told.paths.contains(real) || writing.iter().any(|path| path == real);
        let (due, others) = self.with(|state| (state.entries.due(Instant::now()), state.others.due(is_told)));
        let lstat = |path: &Path, real: &Path| {
            disk.ask(path, || match std::fs::symlink_metadata(real) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                other => other.map(Some),
            })
        };
        let mut files: BTreeMap<PathBuf, PathBuf> = due.into_iter().collect();
        for real in told.paths.iter().cloned().chain(writing.iter().cloned()) {
            let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else { return None };
            let names = map.interest.get(folder)?;
            let other = !configures(&real) && others.iter().any(|(_, at)| *at == real);
            if map.interest.contains_key(&real) || (names.named(&real) && !other) {
                return None;
            }
            if other {
                continue;
            }
            if !names.all || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if !configures(&real) {
                // A folder or a link may lead to files.
                match lstat(&real, &real) {
                    Ok(found) if found.as_ref().is_none_or(|found| !found.is_dir() && !found.is_symlink()) => continue,
                    _ => return None,
                }
            }
            files.extend(map.folders.get(folder).into_iter().flatten().map(|reached| (reached.join(name), real.clone())));
        }
        let mut looks = if others.is_empty() { None } else { Some(self.with(|state| state.others.looks().clone())) };
        for (path, real) in others {
            match lstat(&path, &real) {
                Ok(Some(found)) if !found.is_dir() && !found.is_symlink() => {
                    let at = regular::check(&found).map(|()| At { stamp: Stamp::of(&found), real });
                    looks.get_or_insert_default().insert(path, at.map_err(|error| error.to_string()));
                }
                // It is gone, or it may lead elsewhere.
                _ => return None,
            }
        }
        let mut touched = Vec::with_capacity(files.len());
        for (path, real) in files {
            match lstat(&path, &real) {
                Ok(Some(found)) if !found.is_dir() && !found.is_symlink() => {
                    touched.push((path, Some(Ok(At { stamp: Stamp::of(&found), real }))));
                }
                // A link may still lead to it; that link leads nowhere now.
                Ok(None)
                    if real.parent().and_then(|folder| map.interest.get(folder)).is_some_and(|names| names.all)
                        && self.with(|state| state.entries.is_plain(&path)) =>
                {
                    touched.push((path, None));
                }
                _ => return None,
            }
        }
        Some(Touched { files: touched, others: looks })
    }

    fn find(&self, disk: &Disk, path: &Path, at: Option<Result<At, String>>, told: &Told, first: bool, now: SystemTime) -> Found {
        let at = match at {
            None => return Found::Gone,
            Some(Err(error)) => return Found::Failed(error),
            Some(Ok(at)) => at,
        };
        let activity = told.activity(&at.real, &self.events);
        match self.with(|state| judge(state.entries.known(path), &at, activity, first, now)) {
            Verdict::Same => Found::Same,
            Verdict::Wait(left) => Found::Waits(at.real, left),
            Verdict::Read => match disk.ask(path, || read(&at.real)) {
                Err(error) => Found::Failed(error),
                // It changed after it was looked at. The event that tells so is on its way, after the events of its writer's earlier changes.
                Ok((_, stamp)) if !first && stamp != at.stamp => Found::Waits(at.real, FOLLOWING),
                Ok((text, stamp)) => {
                    let at = At { stamp, real: at.real };
                    let (racy, digest) = (racy(&at, now), Digest::of(&text));
                    Found::Read(Known { at, digest, racy, emptied: false }, text)
                }
            },
        }
    }

    /// Looks at everything. It begins to watch before the last look, so that nothing is lost in between.
    fn look(&self, disk: &Disk, others: &BTreeSet<PathBuf>, told: &Told) -> Seen {
        let mut told = told.clone();
        for _ in 1..MOST_LOOKS {
            let seen = look(disk, &self.paths, others);
            self.events.concern(&seen.interest);
            // If a thread hangs while it changes what is watched, later looks do without.
            let more = self.watches.try_lock().is_ok_and(|mut watches| watches.sync(&seen.interest, &told));
            if !more {
                return seen;
            }
            told = Told::default();
        }
        look(disk, &self.paths, others)
    }

    fn settle(&self) {
        match self.watches.try_lock() {
            Ok(mut watches) => watches.settle(),
            Err(TryLockError::Poisoned(watches)) => watches.into_inner().settle(),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(real: &Path) -> std::io::Result<(Arc<str>, Stamp)> {
    let (bytes, found) = regular::read(real, MAX_FILE_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| std::io::Error::other("stream did not contain valid UTF-8"))?;
    Ok((text.into(), Stamp::of(&found)))
}

/// Reads what is on the disk now, without earlier knowledge. This is for a look at the configuration, not for serving.
pub(super) fn once(paths: &[PathBuf]) -> Vec<Change> {
    let disk = Disk::default();
    let seen = look(&disk, paths, &BTreeSet::new());
    let file = |(unit, at): (PathBuf, Result<At, String>)| {
        let text = at.and_then(|at| disk.ask(&unit, || read(&at.real)));
        let what = text.map_or_else(|error| What::Unreadable(Some(error)), |(text, _)| What::Text(text));
        Change { unit, what }
    };
    let mut files: Vec<_> = seen.files.into_iter().collect();
    files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    files.into_iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pass that reads a file after its writer has replaced it must not report that before it reports what the same writer replaced earlier.
    #[test]
    fn a_file_that_was_replaced_after_it_was_looked_at_waits_for_its_event() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, partial) = (folder.path().join("a.yaml"), folder.path().join(".a.yaml"));
        std::fs::write(&path, "a: 1\n").expect("written");
        let watcher = notify::recommended_watcher(|_| {}).expect("a watcher");
        let paths = [folder.path().to_owned()].as_slice().into();
        let memory = Memory::new(paths, Arc::default(), Watches::new(watcher), Arc::default());
        let (disk, now) = (Disk::default(), SystemTime::now());
        assert!(memory.pass(&disk, &BTreeSet::new(), Extent::All).is_some());
        assert_eq!(memory.take_untold().len(), 1);

        let real = std::fs::canonicalize(&path).expect("there");
        let at = |path: &Path| At { stamp: Stamp::of(&std::fs::symlink_metadata(path).expect("there")), real: real.clone() };
        let seen = at(&path);
        std::fs::write(&partial, "a: 2\n").expect("written");
        std::fs::rename(&partial, &path).expect("renamed");
        let unnamed = memory.find(&disk, &path, Some(Ok(seen)), &Told::default(), false, now);
        assert!(matches!(unnamed, Found::Waits(_, FOLLOWING)), "read before anything says that it has changed");
        let told = Told { paths: [real.clone()].into(), ..Told::default() };
        let named = memory.find(&disk, &path, Some(Ok(at(&path))), &told, false, now);
        assert!(matches!(named, Found::Read(_, text) if &*text == "a: 2\n"));
    }
}
