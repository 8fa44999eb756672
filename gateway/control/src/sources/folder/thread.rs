//! When passes are made, and on which thread. The supervisor never touches the disk itself: a second thread makes the passes. It is given up and
//! replaced when the disk does not answer it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::disk::{Disk, Hung};
use super::events::Events;
use super::pass::{Extent, Memory, Outcome};
use super::watches::Watches;
use super::{Counts, Feed, Untold};

/// Writers, and programs that write many files, do so in several steps: changes are taken in when there was none for this long.
const QUIET: Duration = Duration::from_millis(15);
/// Changes are taken in when the first of them is this old, whatever follows.
const PATIENCE: Duration = Duration::from_millis(120);
/// The watcher may miss something, so everything is looked at this often in any case.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often everything is looked at where something cannot be watched or read.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looking at everything takes at most one part in this many of the time.
const SHARE: u32 = 50;
/// The pause after a failed read, which doubles each time up to [`LOOK_EVERY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// A question to the disk that takes longer than this is given up, and its thread with it.
const ANSWER: Duration = Duration::from_secs(2);
/// How many threads may wait for a disk. Beyond that nothing is read until one has its answer.
const MOST_LOST: usize = 32;
/// How many passes in a row may be repeated because something changed during them.
const MOST_STALE: usize = 5;

pub(super) enum Wake {
    /// Something that matters has happened.
    Event,
    Follow(BTreeSet<PathBuf>),
    Done(Box<Outcome>),
    End,
}

/// A supervisor that is about to start.
pub(super) struct Thread {
    to: Sender<Wake>,
    wakes: Receiver<Wake>,
}

/// Ends the supervisor when it is dropped.
struct End(Sender<Wake>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.send(Wake::End);
    }
}

impl Thread {
    pub(super) fn new() -> Self {
        let (to, wakes) = channel();
        Self { to, wakes }
    }

    pub(super) fn handle(&self) -> Sender<Wake> {
        self.to.clone()
    }

    pub(super) fn start(
        self,
        paths: Vec<PathBuf>,
        feed: Feed,
        told: Untold,
        counts: Arc<Counts>,
    ) -> Result<impl Send + Sync + use<>, notify::Error> {
        let Self { to, wakes } = self;
        let events = Arc::new(Events::default());
        let watcher = {
            let (events, to) = (events.clone(), to.clone());
            notify::recommended_watcher(move |event| {
                if events.take(event) {
                    let _ = to.send(Wake::Event);
                }
            })?
        };
        let memory = Memory::new(paths.into(), events, Watches::new(watcher), counts);
        let (others, hung) = (BTreeSet::new(), Hung::default());
        let supervisor = Supervisor { memory, to: to.clone(), wakes, feed, told, others, follows: false, hung, ended: false };
        std::thread::Builder::new().name("files".to_owned()).spawn(move || supervisor.run()).map_err(notify::Error::io)?;
        Ok(End(to))
    }
}

struct Supervisor {
    memory: Memory,
    to: Sender<Wake>,
    wakes: Receiver<Wake>,
    feed: Feed,
    told: Untold,
    others: BTreeSet<PathBuf>,
    /// Whether the other files to follow differ from those of the last pass.
    follows: bool,
    hung: Hung,
    ended: bool,
}

impl Supervisor {
    fn run(mut self) {
        let (mut retry, mut synced) = (FIRST_RETRY, false);
        let mut sweep = Instant::now();
        while !self.ended {
            let begun = Instant::now();
            let swept = begun >= sweep || self.follows;
            let Some(outcome) = self.passes(if swept { Extent::All } else { Extent::Told }) else { break };
            if outcome.full {
                let every = if outcome.watched { SWEEP_EVERY } else { LOOK_EVERY };
                let least = begun.elapsed() * SHARE;
                sweep = Instant::now() + every.max(least);
                if outcome.failed {
                    sweep = sweep.min(Instant::now() + retry.max(least));
                    retry = (retry * 2).min(LOOK_EVERY);
                } else {
                    retry = FIRST_RETRY;
                }
            }
            self.publish(&outcome);
            if !std::mem::replace(&mut synced, true) {
                self.feed.synced();
            }
            let mut pause = sweep.saturating_duration_since(Instant::now());
            pause = pause.min(outcome.again.unwrap_or(pause));
            self.wait(pause, outcome.number);
        }
    }

    fn publish(&self, outcome: &Outcome) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let other = told.waiting != outcome.waiting || !outcome.others_changed.is_empty();
        told.waiting.clone_from(&outcome.waiting);
        told.changed.extend(outcome.others_changed.iter().cloned());
        drop(told);
        let changes = self.memory.take_untold();
        if !changes.is_empty() {
            self.feed.tell(changes);
        }
        if other {
            self.feed.nudge();
        }
    }

    /// Waits until something happens that a pass which began after `seen` events has not seen, then until nothing more happens; for at most `pause`.
    fn wait(&mut self, pause: Duration, seen: u64) {
        if self.memory.events.number() == seen && self.next(pause).is_none() {
            return;
        }
        let patience = Instant::now() + PATIENCE;
        while !self.ended {
            let quiet = QUIET.min(patience.saturating_duration_since(Instant::now()));
            if quiet.is_zero() || self.next(quiet).is_none() {
                return;
            }
        }
    }

    /// Waits for the next message. None if there was none within `patience`.
    fn next(&mut self, patience: Duration) -> Option<()> {
        match self.wakes.recv_timeout(patience) {
            Ok(Wake::Follow(others)) => self.follow(others),
            Ok(Wake::Event | Wake::Done(_)) => {}
            Ok(Wake::End) => self.ended = true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
        Some(())
    }

    fn follow(&mut self, others: BTreeSet<PathBuf>) {
        self.follows |= others != self.others;
        self.others = others;
    }

    /// Makes passes until nothing changed during one, within limits, so that a folder that is being replaced is not read half old and half new.
    fn passes(&mut self, mut extent: Extent) -> Option<Outcome> {
        let (mut full, mut others_changed) = (false, BTreeSet::new());
        for left in (0..MOST_STALE).rev() {
            let mut outcome = self.pass(extent)?;
            full |= outcome.full;
            others_changed.append(&mut outcome.others_changed);
            if left == 0 || self.memory.events.number() == outcome.number || outcome.waits {
                (outcome.full, outcome.others_changed) = (full, others_changed);
                return Some(outcome);
            }
            extent = Extent::Told;
        }
        None
    }

    /// Makes one pass. None if the source has ended.
    fn pass(&mut self, extent: Extent) -> Option<Outcome> {
        loop {
            while self.hung.len() >= MOST_LOST {
                tracing::error!("the file system does not answer for {MOST_LOST} paths; no changes are read until it does");
                self.next(LOOK_EVERY);
                if self.ended {
                    return None;
                }
            }
            let disk = Disk::new(self.hung.clone());
            let (memory, others, to, asking) = (self.memory.clone(), self.others.clone(), self.to.clone(), disk.clone());
            let reader = move || {
                let outcome = memory.pass(&asking, &others, extent);
                if outcome.is_none() {
                    memory.events.lost();
                }
                // If this thread had been given up, the disk now has answered and is asked again.
                let _ = to.send(outcome.map_or(Wake::Event, |outcome| Wake::Done(Box::new(outcome))));
            };
            if let Err(error) = std::thread::Builder::new().name("files-read".to_owned()).spawn(reader) {
                tracing::warn!(%error, "files cannot be read for want of a thread");
                self.next(LOOK_EVERY);
                if self.ended {
                    return None;
                }
                continue;
            }
            self.follows = false;
            loop {
                match self.wakes.recv_timeout(ANSWER / 4) {
                    Ok(Wake::Done(outcome)) => return Some(*outcome),
                    Ok(Wake::Follow(others)) => self.follow(others),
                    Ok(Wake::Event) => {}
                    Ok(Wake::End) | Err(RecvTimeoutError::Disconnected) => {
                        self.ended = true;
                        return None;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let long_ago = Instant::now().checked_sub(ANSWER);
                if let Some(path) = long_ago.and_then(|since| disk.abandon(since)) {
                    tracing::error!(path = %path.display(), "the file system does not answer; what is below keeps its last version");
                    self.memory.events.lost();
                    break;
                }
            }
        }
    }
}
