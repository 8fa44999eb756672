//! Sampling of a running gateway's decisions. While nobody records, a pick pays one relaxed load and a branch. A worker that records hands over what it
//! has, or counts it as dropped. It waits for nobody and wakes nobody, as the reader looks by itself now and then.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::plugin::PickContext;
use crate::pool::Pool;
use crate::stats::Sight;
use crate::trace::ReportLine;

/// The number of events that wait for their reader. Further events are dropped and counted.
const QUEUE: usize = 1_024;
/// The number of statistics, and of random numbers, that are kept of one pick.
pub const MOST_KEPT: usize = 256;
/// For pools up to this size all statistics are kept, so that another policy can be asked what it would have done.
pub const SMALL_POOL: usize = 64;

/// The recorder, of which a gateway has one.
#[derive(Debug, Default)]
pub struct Recorder {
    on: AtomicBool,
    session: ArcSwapOption<Session>,
    /// Held while a recording begins or ends.
    turn: Mutex<()>,
}

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The plugin's name.
    pub plugin: String,
    /// Of how many picks of each instance one is recorded, at least 1.
    pub every: u64,
    /// The largest number of picks a second.
    pub rate: u64,
    /// The longest time that the recording lasts.
    pub time: Duration,
}

/// A recording, as workers see it.
#[derive(Debug)]
pub struct Session {
    wanted: Wanted,
    /// From then on another recording may take its place, as its reader may have stalled.
    until: Instant,
    /// Picks that may be recorded before the reader grants more.
    budget: AtomicI64,
    dropped: AtomicU64,
    queue: SyncSender<Event>,
}

/// A recording, as its reader sees it. It ends when this is dropped.
#[derive(Debug)]
pub struct Recording {
    recorder: Arc<Recorder>,
    session: Arc<Session>,
    events: Receiver<Event>,
}

/// What workers record.
#[derive(Debug)]
pub enum Event {
    /// A decision.
    Pick(Box<Recorded>),
    /// The outcome of a decision.
    Report(ReportLine),
}

/// A decision that is not written yet.
#[derive(Debug)]
pub struct Recorded {
    /// The balancer's instance: see [`PickLine::instance`](crate::trace::PickLine::instance).
    pub instance: u64,
    /// The number of the plugin's generation.
    pub generation: u64,
    /// The pool that was picked from.
    pub pool: Arc<Pool>,
    /// The plugin's configuration for the pool.
    pub config: Arc<str>,
    /// What the balancer was told of the exchange.
    pub context: PickContext,
    /// The random bits that the plugin drew.
    pub random: Vec<u64>,
    /// The statistics that the plugin read, by the endpoint's index.
    pub seen: Vec<(u32, Sight)>,
    /// Whether the plugin read more than is kept of one pick.
    pub cut: bool,
    /// The index that was picked, or why the plugin failed.
    pub picked: Result<Option<usize>, String>,
    /// How long the call took.
    pub nanoseconds: u64,
}

impl Recorder {
    /// The recording that wants the pick number `call` of an instance.
    #[inline]
    pub fn sampling(&self, plugin: &str, call: u64) -> Option<Arc<Session>> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        self.sampled(plugin, call)
    }

    #[cold]
    fn sampled(&self, plugin: &str, call: u64) -> Option<Arc<Session>> {
        let session = self.session.load();
        let session = session.as_ref().filter(|s| s.wanted.plugin == plugin && call.is_multiple_of(s.wanted.every))?;
        if session.budget.fetch_sub(1, Ordering::Relaxed) <= 0 {
            session.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(session.clone())
    }

    /// The recording of all picks of a plugin, which wants to know their outcomes, too.
    #[inline]
    pub fn following(&self, plugin: &str) -> Option<Arc<Session>> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        self.session.load().as_ref().filter(|s| s.wanted.plugin == plugin && s.wanted.every == 1).cloned()
    }

    /// Begins a recording. There can be only one at a time; the error names the plugin that is recorded.
    pub fn begin(self: &Arc<Self>, wanted: Wanted) -> Result<Recording, String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = self.session.load().as_ref().filter(|running| running.until > Instant::now()) {
            return Err(format!("plugin {} is being recorded; one recording is made at a time", running.wanted.plugin));
        }
        let (queue, events) = sync_channel(QUEUE);
        let wanted = Wanted { every: wanted.every.max(1), ..wanted };
        let until = Instant::now() + wanted.time;
        let session = Arc::new(Session { wanted, until, budget: AtomicI64::new(0), dropped: AtomicU64::new(0), queue });
        self.session.store(Some(session.clone()));
        self.on.store(true, Ordering::Relaxed);
        Ok(Recording { recorder: self.clone(), session, events })
    }
}

impl Session {
    /// Hands an event over, or counts it as dropped: the reader may be slow, or gone.
    pub fn tell(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Recording {
    /// What this recording records.
    pub fn wanted(&self) -> &Wanted {
        &self.session.wanted
    }

    /// Allows so many picks from now on. What is left of an earlier allowance is lost.
    pub fn grant(&self, picks: u64) {
        self.session.budget.store(i64::try_from(picks).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The next event, if there is one. It does not wait, so workers have nobody to wake.
    pub fn next(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The number of events that were dropped.
    pub fn dropped(&self) -> u64 {
        self.session.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _turn = self.recorder.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.recorder.session.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.session)) {
            self.recorder.on.store(false, Ordering::Relaxed);
            self.recorder.session.store(None);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn wanted(every: u64) -> Wanted {
        Wanted { plugin: "mine".to_owned(), every, rate: 100, time: Duration::from_secs(3600) }
    }

    fn report() -> Event {
        Event::Report(ReportLine { instance: 1, pool: (1, 1), endpoint: 0, success: true, latency_microseconds: 1 })
    }

    #[test]
    fn only_what_is_wanted_and_granted_is_sampled() {
        let recorder = Arc::new(Recorder::default());
        assert!(recorder.sampling("mine", 1).is_none(), "nobody records");
        let recording = recorder.begin(wanted(10)).unwrap();
        assert!(recorder.begin(wanted(1)).unwrap_err().contains("plugin mine is being recorded"));
        recording.grant(2);
        assert!(recorder.sampling("mine", 5).is_none() && recorder.sampling("other", 10).is_none());
        assert!(recorder.sampling("mine", 10).is_some() && recorder.sampling("mine", 20).is_some());
        assert!(recorder.sampling("mine", 30).is_none(), "more than was granted");
        assert_eq!(recording.dropped(), 1);
        assert!(recorder.following("mine").is_none(), "not all picks are recorded");
        drop(recording);
        assert!(recorder.sampling("mine", 10).is_none());
        assert!(recorder.begin(wanted(1)).is_ok());
    }

    #[test]
    fn one_whose_reader_has_stalled_is_no_obstacle_for_ever() {
        let recorder = Arc::new(Recorder::default());
        let stalled = recorder.begin(Wanted { time: Duration::ZERO, ..wanted(1) }).unwrap();
        let recording = recorder.begin(wanted(1)).unwrap();
        drop(stalled);
        recording.grant(1);
        assert!(recorder.sampling("mine", 1).is_some(), "it ended itself and not the other one");
    }

    #[test]
    fn a_slow_reader_costs_events_and_no_time() {
        let recorder = Arc::new(Recorder::default());
        let recording = recorder.begin(wanted(1)).unwrap();
        let session = recorder.following("mine").unwrap();
        (0..QUEUE + 5).for_each(|_| session.tell(report()));
        assert_eq!(recording.dropped(), 5);
        assert_eq!(std::iter::from_fn(|| recording.next()).count(), QUEUE);
        drop(recording);
        session.tell(report());
    }
}
