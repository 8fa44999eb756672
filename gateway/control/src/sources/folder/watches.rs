//! What inotify watches: folders one by one, by names without links, each as the inode that has the name now.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::events::Told;
use super::look::Interest;

/// The watcher, and what it has been told to watch.
pub(super) struct Watches {
    inner: RecommendedWatcher,
    /// With device and inode.
    watched: HashMap<PathBuf, (u64, u64)>,
    /// It was said that not everything can be watched.
    warned: bool,
    /// All folders that are read are watched.
    complete: bool,
}

impl Watches {
    pub(super) fn new(inner: RecommendedWatcher) -> Self {
        Self { inner, watched: HashMap::new(), warned: false, complete: true }
    }

    /// Watches what matters now, and nothing else. True if something is watched that was not before: it may have changed in between.
    pub(super) fn sync(&mut self, interest: &Interest, told: &Told) -> bool {
        let gone = |path: &Path, identity: (u64, u64)| {
            told.all
                || !interest.contains_key(path)
                || told.moved.iter().any(|moved| path.starts_with(moved))
                || self::identity(path) != Some(identity)
        };
        let gone: Vec<PathBuf> = self.watched.iter().filter(|(path, known)| gone(path, **known)).map(|(path, _)| path.clone()).collect();
        // All before the first new one: the inode of one that was renamed may be watched again by its new name, and has one watch only.
        for path in gone {
            // The watcher may have seen itself that it is gone.
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

    /// When this returns, all events of what happened before are taken in. The watcher's thread answers each question between two rounds of
    /// events, and the first may have been in a round that began before.
    pub(super) fn settle(&mut self) {
        for _ in 0..2 {
            let _ = self.inner.configure(Config::default());
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
