//! Whether the API server answers, by all requests together. Whoever waits in a pause, or for a connection of which nothing comes, learns from it that the server is back
//! after it did not answer for a while: the network may have been cut, and the kernel does not know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A request that is given up sooner says nothing about the server: nobody may have wanted the answer any more.
const LEAST: Duration = Duration::from_millis(500);

/// The end of a time in which the server did not answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back {
    /// When it began, at the latest.
    pub(crate) since: Instant,
    /// When the server answered again.
    pub(crate) at: Instant,
}

/// Whether the server answers.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Whether `since` is something.
    away: AtomicBool,
    /// When the first request was made that was not answered, if none was answered since.
    since: Mutex<Option<Instant>>,
    back: watch::Sender<Option<Back>>,
}

/// A request that is under way. Dropped without an answer, it counts as one that was not answered.
pub(crate) struct Asked<'r> {
    reach: &'r Reach,
    begun: Instant,
    over: bool,
}

impl Reach {
    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request is made.
    pub(crate) fn ask(&self) -> Asked<'_> {
        Asked { reach: self, begun: Instant::now(), over: false }
    }

    /// Notes that something came from the server, whatever it was.
    pub(crate) fn heard(&self) {
        if !self.away.load(Ordering::Relaxed) {
            return;
        }
        let mut since = self.since();
        self.away.store(false, Ordering::Relaxed);
        if let Some(since) = since.take() {
            self.back.send_replace(Some(Back { since, at: Instant::now() }));
        }
    }

    fn missed(&self, begun: Instant) {
        let mut since = self.since();
        since.get_or_insert(begun);
        self.away.store(true, Ordering::Relaxed);
    }

    /// Tells whenever the server answers again.
    pub(crate) fn back(&self) -> watch::Receiver<Option<Back>> {
        self.back.subscribe()
    }
}

impl Asked<'_> {
    /// It is answered.
    pub(crate) fn answered(mut self) {
        self.over = true;
        self.reach.heard();
    }

    /// It failed.
    pub(crate) fn failed(mut self) {
        self.over = true;
        self.reach.missed(self.begun);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.over && self.begun.elapsed() >= LEAST {
            self.reach.missed(self.begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_back_once_after_it_did_not_answer() {
        let reach = Reach::default();
        let mut back = reach.back();
        reach.ask().answered();
        assert!(!back.has_changed().expect("told"), "it was there");
        let first = reach.ask();
        let begun = first.begun;
        first.failed();
        reach.ask().failed();
        // Somebody who loses interest at once says nothing.
        drop(reach.ask());
        reach.heard();
        reach.heard();
        assert!(back.has_changed().expect("told"));
        let told = (*back.borrow_and_update()).expect("it was away");
        assert_eq!(told.since, begun, "since the first of them was asked");
        assert!(told.at >= begun && !back.has_changed().expect("told"));
        drop(reach.ask());
        reach.heard();
        assert!(!back.has_changed().expect("told"));
        drop(Asked { reach: &reach, begun: begun.checked_sub(LEAST).expect("a time"), over: false });
        reach.heard();
        assert!(back.has_changed().expect("told"), "a request that was waited for in vain counts");
    }
}
