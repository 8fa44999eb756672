//! Objects from files. A separate [`thread`] makes passes over the disk ([`pass`]): it looks at the disk ([`look`], following links with
//! [`follow`]), watches what matters ([`watches`], whose [`events`] begin the next pass), and reads the files whose content counts ([`settle`]). A pass
//! looks at the files that events name. It looks at everything when something other than a file has changed, when events were lost, and from time to
//! time, as the watcher alone is never relied on. A disk that does not answer ([`disk`]) holds up nobody.

mod disk;
mod entries;
mod events;
mod follow;
mod look;
mod others;
mod pass;
mod settle;
mod thread;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Feed, Running, Source, SourceError};
use thread::{Thread, Wake};

/// Files larger than this are refused.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads all `.yaml`, `.yml` and `.json` files of the paths once, sorted. This is for a look at the configuration, not for serving.
pub fn read(paths: &[PathBuf]) -> Vec<Change> {
    pass::once(paths)
}

/// A source of files and folders that are read again when they change. Each file is a unit.
pub struct Folder {
    paths: Vec<PathBuf>,
    thread: Thread,
    others: Untold,
    counts: Arc<Counts>,
}

/// What is told of other files.
type Untold = Arc<Mutex<Untaken>>;

/// What there is to tell of other files.
#[derive(Debug, Default)]
struct Untaken {
    /// The files that must not be read at the moment, because they are being written or are empty, and what to report about each.
    waiting: BTreeMap<PathBuf, Option<String>>,
    /// The files that have changed since this was last asked.
    changed: BTreeSet<PathBuf>,
}

/// What was done so far. Tests measure the cost of a change by this.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The number of questions to the disk.
    pub(crate) asked: std::sync::atomic::AtomicU64,
    /// The number of passes over everything.
    pub(crate) full: std::sync::atomic::AtomicU64,
}

/// Follows files other than those with objects, such as plugins.
#[derive(Clone)]
pub struct Followed {
    to: Sender<Wake>,
    others: Untold,
}

impl Folder {
    /// A source of these files and folders. Nothing is read yet.
    pub fn new(paths: Vec<PathBuf>) -> (Self, Followed) {
        let (thread, others) = (Thread::new(), Untold::default());
        let followed = Followed { to: thread.handle(), others: others.clone() };
        (Self { paths, thread, others, counts: Arc::default() }, followed)
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }
}

impl Source for Folder {
    fn name(&self) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        paths.join(", ")
    }

    fn start(self: Box<Self>, feed: Feed) -> Result<Running, SourceError> {
        let name = self.name();
        let running = self.thread.start(self.paths, feed, self.others, self.counts);
        Ok(Box::new(running.map_err(|error| SourceError { name, reason: format!("it cannot be watched: {error}") })?))
    }

    /// The disk has a limited time to answer.
    fn is_awaited(&self) -> bool {
        true
    }
}

impl Followed {
    /// Sets the other files to follow. A change of one of them wakes whoever takes from the folder, though no unit has changed.
    pub fn follow(&self, others: impl Iterator<Item = PathBuf>) {
        // If the folder has ended, nobody receives this.
        let _ = self.to.send(Wake::Follow(others.collect()));
    }

    /// The followed files that must not be read at the moment, because they are being written or are empty, and what to report about each.
    pub fn waiting(&self) -> BTreeMap<PathBuf, Option<String>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).waiting.clone()
    }

    /// The followed files that have changed since the last call.
    pub fn take_changed(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.others.lock().unwrap_or_else(PoisonError::into_inner).changed)
    }
}

#[cfg(test)]
mod tests;
