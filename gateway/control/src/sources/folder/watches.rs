//! What inotify watches: folders one by one, by names without links, each as the inode that has the name at the moment.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::events::Told;
use super::look::Interest;

/// The watcher, and what it has been told to watch.
pub(super) struct Watches {
    inner: RecommendedWatcher,
    /// The watched folders, with device and inode.
    watched: HashMap<PathBuf, (u64, u64)>,
    /// Whether it was logged that not everything can be watched.
    warned: bool,
    /// Whether all folders that are read are watched.
    complete: bool,
}

impl Watches {
    pub(super) fn new(inner: RecommendedWatcher) -> Self {
        Self { inner, watched: HashMap::new(), warned: false, complete: true }
    }

    /// Watches exactly what matters now. True if something is watched that was not before, and may have changed in between.
    pub(super) fn sync(&mut self, interest: &Interest, told: &Told) -> bool {
        let gone = |path: &Path, identity: (u64, u64)| {
            told.all
                || !interest.contains_key(path)
                || told.moved.iter().any(|moved| path.starts_with(moved))
                || self::identity(path) != Some(identity)
        };
        let gone: Vec<PathBuf> = self.watched.iter().filter(|(path, known)| gone(path, **known)).map(|(path, _)| path.clone()).collect();
        // This comes before new watches: the inode of a renamed folder may be watched again by its new name, and it has only one watch.
        for path in gone {
            // This fails if the watcher has noticed by itself that the folder is gone.
            let _ = self.inner.unwatch(&path);
            self.watched.remove(&path);
        }
        let mut more = false;
        self.complete = true;
        for (path, names) in interest.iter().filter(|(path, _)| !self.watched.contains_key(*path)).collect::<Vec<_>>() {
            let Some(identity) = identity(path) else {
                self.complete &= !names.all;
                continue;
            };
            match self.inner.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), identity);
                    more = true;
                }
                Err(error) if names.all && std::mem::replace(&mut self.complete, false) && !std::mem::replace(&mut self.warned, true) => {
                    tracing::warn!(path = %path.display(), %error, "it cannot be watched; changes here are seen within seconds");
                }
                Err(error) => tracing::debug!(path = %path.display(), %error, "it cannot be watched"),
            }
        }
        more
    }

    /// Whether all folders that are read are watched.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    /// When this returns, all events of what happened before have been taken in. The watcher's thread answers each question between two rounds of
    /// events, and the first round may have begun earlier.
    pub(super) fn settle(&mut self) {
        for _ in 0..2 {
            let _ = self.inner.configure(Config::default());
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
