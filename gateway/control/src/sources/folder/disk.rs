//! Questions to the disk, one at a time and under supervision: a file of a network or user space file system may never answer, and the
//! thread that asked is then lost. A path that does not answer is not asked about again until it has answered.

use std::collections::BTreeSet;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Paths that do not answer, for all threads that asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Hung(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Hung {
    pub(super) fn is(&self, path: &Path) -> bool {
        self.lock().contains(path)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The questions of one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    hung: Hung,
    /// The path that is asked about at the moment, and since when.
    now: Arc<Mutex<Option<(PathBuf, Instant)>>>,
    /// Whether the thread is no longer waited for.
    abandoned: Arc<AtomicBool>,
    /// How many questions were asked.
    asked: Arc<AtomicU64>,
}

impl Disk {
    pub(super) fn new(hung: Hung) -> Self {
        Self { hung, ..Self::default() }
    }

    /// Asks the disk about a path.
    pub(super) fn ask<T>(&self, path: &Path, question: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
        if self.hung.is(path) || self.abandoned.load(Ordering::Relaxed) {
            return Err("the file system does not answer; it is asked again when it has".to_owned());
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.now() = Some((path.to_owned(), Instant::now()));
        #[cfg(test)]
        wait_for(path);
        let answer = question();
        *self.now() = None;
        if self.abandoned.load(Ordering::Acquire) {
            self.hung.lock().remove(path);
        }
        answer.map_err(|error| error.to_string())
    }

    /// How many questions were asked.
    pub(super) fn count(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether nobody wants the answers any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// If a question was asked before `since` and is still open, gives the thread up and returns the path, which counts as hung from now on.
    pub(super) fn abandon(&self, since: Instant) -> Option<PathBuf> {
        let asked = self.now();
        let (path, _) = asked.as_ref().filter(|(_, begun)| *begun < since)?;
        self.hung.lock().insert(path.clone());
        self.abandoned.store(true, Ordering::Release);
        Some(path.clone())
    }

    fn now(&self) -> MutexGuard<'_, Option<(PathBuf, Instant)>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Paths that do not answer, in tests.
#[cfg(test)]
static STALLED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

#[cfg(test)]
pub(super) struct Stalled(PathBuf);

#[cfg(test)]
pub(super) fn stall(path: &Path) -> Stalled {
    STALLED.lock().expect("not poisoned").insert(path.to_owned());
    Stalled(path.to_owned())
}

#[cfg(test)]
impl Drop for Stalled {
    fn drop(&mut self) {
        STALLED.lock().expect("not poisoned").remove(&self.0);
    }
}

#[cfg(test)]
fn wait_for(path: &Path) {
    while STALLED.lock().expect("not poisoned").contains(path) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_does_not_answer_is_not_asked_again_until_it_has() {
        let hung = Hung::default();
        let (disk, path) = (Disk::new(hung.clone()), Path::new("/far/away"));
        let (answer, answered) = channel::<()>();
        let (asking, asked) = channel();
        let thread = {
            let disk = disk.clone();
            std::thread::spawn(move || {
                disk.ask(path, || {
                    asking.send(()).expect("watched");
                    answered.recv().map_err(std::io::Error::other)
                })
            })
        };
        asked.recv_timeout(Duration::from_secs(10)).expect("asks");
        assert_eq!(disk.abandon(Instant::now() - Duration::from_secs(60)), None, "not yet");
        assert_eq!(disk.abandon(Instant::now() + Duration::from_secs(60)).as_deref(), Some(path));
        let other = Disk::new(hung.clone());
        assert!(other.ask(path, || Ok(())).is_err());
        assert_eq!(other.ask(Path::new("/near"), || Ok(7)), Ok(7));
        answer.send(()).expect("heard");
        thread.join().expect("ends").expect("answered");
        assert_eq!((hung.len(), other.ask(path, || Ok(7))), (0, Ok(7)));
    }
}
