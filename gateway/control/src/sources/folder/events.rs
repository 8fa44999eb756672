//! The watcher's events, sorted as they come: files whose content counts, files that are being written, folders that have changed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, Flag, ModifyKind};
use notify::{Event, EventKind};

use super::look::Interest;
use super::settle::Activity;

/// The events: the watcher's thread adds to them, and passes take them.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    interest: Interest,
    told: Told,
    writing: HashMap<PathBuf, Instant>,
    number: u64,
}

/// What happened since the last pass.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The names by which the watcher knows what has changed.
    pub(super) paths: HashSet<PathBuf>,
    /// Events were lost, so anything may have changed.
    pub(super) all: bool,
    /// Names that were renamed or removed. What was watched by these names is not watched any longer.
    pub(super) moved: HashSet<PathBuf>,
}

impl Events {
    /// Takes an event in; true if it matters.
    pub(super) fn take(&self, event: Result<Event, notify::Error>) -> bool {
        let mut inner = self.lock();
        let event = match event {
            Ok(event) if event.flag() != Some(Flag::Rescan) => event,
            _ => {
                inner.told.all = true;
                // Whoever is still writing will cause another event.
                inner.writing.clear();
                inner.number += 1;
                return true;
            }
        };
        let mut matters = false;
        let content = matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)));
        for path in event.paths {
            if !concerns(&inner.interest, &path, content) {
                continue;
            }
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                    inner.writing.remove(&path);
                    inner.told.paths.insert(path);
                }
                // This is the gateway's own reading.
                EventKind::Access(_) => continue,
                EventKind::Modify(ModifyKind::Data(_)) => drop(inner.writing.insert(path, Instant::now())),
                EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                    inner.writing.remove(&path);
                    inner.told.moved.insert(path.clone());
                    inner.told.paths.insert(path);
                }
                _ => drop(inner.told.paths.insert(path)),
            }
            matters = true;
        }
        inner.number += u64::from(matters);
        matters
    }

    /// What happened since the last call, and how many events that mattered there have been in all.
    pub(super) fn since(&self) -> (Told, u64) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.told), inner.number)
    }

    pub(super) fn number(&self) -> u64 {
        self.lock().number
    }

    /// Notes that events were taken but not looked at in the end.
    pub(super) fn lost(&self) {
        self.lock().told.all = true;
    }

    /// The files that are being written.
    pub(super) fn writing(&self) -> Vec<PathBuf> {
        self.lock().writing.keys().cloned().collect()
    }

    pub(super) fn written(&self, real: &Path) -> Option<Instant> {
        self.lock().writing.get(real).copied()
    }

    /// Sets what matters from now on.
    pub(super) fn concern(&self, interest: &Interest) {
        let mut inner = self.lock();
        if inner.interest != *interest {
            inner.interest.clone_from(interest);
            let Inner { interest, writing, .. } = &mut *inner;
            writing.retain(|path, _| concerns(interest, path, true));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    pub(super) fn activity(&self, real: &Path, events: &Events) -> Activity {
        Activity { told: self.all || self.paths.contains(real), written: events.written(real) }
    }
}

/// Whether an event matters that concerns a name, or a folder itself.
fn concerns(interest: &Interest, path: &Path, content: bool) -> bool {
    let names = path.parent().and_then(|folder| interest.get(folder));
    names.is_some_and(|names| if content { names.content(path) } else { names.place(path) }) || interest.contains_key(path)
}
