//! How HTTP connections are told to close: when their listener is gone or the worker stops, after the running exchange; or because their
//! time is up. Looked at once a second, so that no request arms a timer for it; time-outs are kept to the second.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use sluicegate_model::settings::ClientTimeouts;
use sluicegate_model::stats::{ClientStats, count};

/// A silent connection is kept so long when the worker stops.
const DRAIN_SECONDS: u64 = 1;

/// The worker's HTTP connections. A flag and a waker for each: looking at it costs a load, not a lock.
#[derive(Default)]
pub(crate) struct Closings {
    next: Cell<u64>,
    signals: RefCell<HashMap<u64, Rc<Signal>, FxBuildHasher>>,
    /// Seconds since the worker's start.
    clock: Rc<Cell<u64>>,
    /// Since when the worker stops.
    draining: Cell<Option<u64>>,
}

/// Why a connection's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Between exchanges.
    Idle,
    /// A request's head does not come to its end,
    Head,
    /// or its content.
    Request,
    /// Nothing moves.
    Stalled,
    /// The exchange lasts too long.
    Long,
    /// The client sends or reads too slowly.
    Rate,
}

impl Late {
    /// A slow request gets an answer, 408; then, and otherwise at once, the connection is closed.
    fn is_answered(self) -> bool {
        matches!(self, Self::Head | Self::Request)
    }

    fn counter(self, stats: &ClientStats) -> &AtomicU64 {
        match self {
            Self::Idle => &stats.idle,
            Self::Head => &stats.slow_head,
            Self::Request => &stats.slow_request,
            Self::Stalled => &stats.stalled,
            Self::Long => &stats.long,
            Self::Rate => &stats.slow_rate,
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request has come.
    Idle,
    /// Some of its head has.
    Head,
    /// An exchange, of which content is still to come from the client,
    Receiving,
    /// or all has come.
    Received,
    /// Streams, each with a signal of its own; or another protocol, with the seconds that it may be silent.
    Carrying(u64),
}

/// The time-outs of a connection in seconds, none being as good as for ever.
struct Limits {
    idle: u64,
    head: u64,
    request: u64,
    stalled: u64,
    stream: u64,
    age: u64,
    /// Bytes a second, and the grace.
    rate: Option<(u64, u64)>,
}

impl From<&ClientTimeouts> for Limits {
    fn from(of: &ClientTimeouts) -> Self {
        let seconds = |time: Option<Duration>| time.map_or(u64::MAX, |t| t.as_secs() + u64::from(t.subsec_nanos() > 0));
        Self {
            idle: seconds(of.idle),
            head: seconds(of.head),
            request: seconds(of.request),
            stalled: seconds(of.stalled),
            stream: seconds(of.stream),
            age: seconds(of.age),
            rate: of.rate.map(|rate| (rate.bytes_per_second.max(1).into(), seconds(Some(rate.grace)))),
        }
    }
}

/// What one connection is told, and tells of itself.
pub(crate) struct Signal {
    listener: SocketAddr,
    limits: Limits,
    opened: u64,
    closing: Cell<bool>,
    phase: Cell<Phase>,
    /// Since when the connection is idle, or when the first byte of the request came.
    since: Cell<u64>,
    /// It closes although another request may come.
    ending: Cell<bool>,
    /// When a part of a body last moved, or the exchange began.
    moved_at: Cell<u64>,
    /// Bytes of bodies that have moved in this exchange; the client is waited for; for so many seconds of it in all.
    bytes: Cell<u64>,
    awaited: Cell<bool>,
    waited: Cell<u64>,
    /// Its time is up,
    late: Cell<Option<Late>>,
    /// and so is the time for an answer to that.
    over: Cell<bool>,
    clock: Rc<Cell<u64>>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// The connection is to close after the running exchange.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// It is to close now, if no exchange runs.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// It is to close at once.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The request that is being read takes too long.
    pub(crate) fn is_request_late(&self) -> bool {
        self.late.get().is_some_and(Late::is_answered)
    }

    /// Some of a head has come.
    pub(crate) fn head(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.since.set(self.clock.get());
        }
    }

    /// An exchange begins. `receiving`: the request has content.
    pub(crate) fn begin(&self, receiving: bool) {
        // What came in one piece had no phase of its own.
        self.head();
        self.phase.set(if receiving { Phase::Receiving } else { Phase::Received });
        self.bytes.set(0);
        self.waited.set(0);
        self.moved(0);
    }

    /// The connection carries streams, or another protocol, which may be silent for so long; none: for ever.
    pub(crate) fn carry(&self, silent: Option<Duration>) {
        self.phase.set(Phase::Carrying(silent.map_or(u64::MAX, |s| s.as_secs().max(1))));
        self.moved(0);
    }

    /// All of the request has come.
    pub(crate) fn received(&self) {
        if self.phase.get() == Phase::Receiving {
            self.phase.set(Phase::Received);
        }
    }

    /// The exchange has ended.
    pub(crate) fn end(&self) {
        self.phase.set(Phase::Idle);
        self.since.set(self.clock.get());
    }

    /// So many bytes of a body have moved.
    pub(crate) fn moved(&self, bytes: usize) {
        self.moved_at.set(self.clock.get());
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.awaited.set(false);
    }

    /// The client is waited for, to send or to read.
    pub(crate) fn awaits(&self) {
        self.awaited.set(true);
    }

    /// Who is to be told.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// What its time is up for, if it is.
    fn check(&self, now: u64) -> Option<Late> {
        let (limits, since, moved) = (&self.limits, now - self.since.get(), now - self.moved_at.get());
        match self.phase.get() {
            Phase::Idle => (since > limits.idle).then_some(Late::Idle),
            Phase::Head if since > limits.head => Some(Late::Head),
            Phase::Head | Phase::Receiving if since > limits.request => Some(Late::Request),
            Phase::Head => None,
            Phase::Carrying(silent) => (moved > silent).then_some(Late::Stalled),
            Phase::Receiving | Phase::Received => {
                if let Some((rate, grace)) = limits.rate
                    && self.awaited.get()
                {
                    self.waited.set(self.waited.get() + 1);
                    if self.waited.get() > grace.saturating_add(self.bytes.get() / rate) {
                        return Some(Late::Rate);
                    }
                }
                if moved > limits.stalled { Some(Late::Stalled) } else { (since > limits.stream).then_some(Late::Long) }
            }
        }
    }
}

/// A connection's place among [`Closings`]; leaves it when dropped.
pub(crate) struct Entered<'a> {
    id: u64,
    pub(crate) signal: Rc<Signal>,
    all: &'a Closings,
}

impl Closings {
    /// Seconds since the worker's start.
    pub(crate) fn clock(&self) -> Rc<Cell<u64>> {
        self.clock.clone()
    }

    pub(crate) fn enter(&self, listener: SocketAddr, timeouts: &ClientTimeouts) -> Entered<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        let now = self.clock.get();
        let signal = Rc::new(Signal {
            listener,
            limits: timeouts.into(),
            opened: now,
            closing: Cell::new(self.draining.get().is_some()),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            moved_at: Cell::new(now),
            bytes: Cell::new(0),
            awaited: Cell::new(false),
            waited: Cell::new(0),
            late: Cell::new(None),
            over: Cell::new(false),
            ending: Cell::new(false),
            clock: self.clock.clone(),
            waker: RefCell::default(),
        });
        self.signals.borrow_mut().insert(id, signal.clone());
        Entered { id, signal, all: self }
    }

    /// A second has passed: ends the connections whose time is up.
    pub(crate) fn second(&self, stats: &ClientStats) {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        for signal in self.signals.borrow().values() {
            if signal.late.get().is_some() {
                // The answer had a second.
                signal.over.set(true);
                signal.wake();
            } else if let Some(late) = signal.check(now) {
                count(late.counter(stats));
                signal.late.set(Some(late));
                signal.over.set(!late.is_answered());
                signal.wake();
            } else if now - signal.opened > signal.limits.age && !signal.closing.replace(true) {
                signal.wake();
            }
        }
        if let Some(since) = self.draining.get() {
            let silent = |s: &&Rc<Signal>| s.phase.get() == Phase::Idle && now - s.since.get().max(since) > DRAIN_SECONDS;
            for signal in self.signals.borrow().values().filter(silent) {
                signal.ending.set(true);
                signal.wake();
            }
        }
    }

    /// Tells the connections of the listeners that `which` names.
    pub(crate) fn close(&self, which: impl Fn(SocketAddr) -> bool) {
        for signal in self.signals.borrow().values().filter(|s| which(s.listener)) {
            signal.closing.set(true);
            signal.ending.set(true);
            signal.wake();
        }
    }

    /// The worker stops. A client may be sending its next request this very moment, which a close would lose: so a connection that is used gets
    /// `Connection: close` with its next response, and only one that stays silent is closed without it.
    pub(crate) fn drain(&self) {
        self.draining.set(Some(self.clock.get()));
        for signal in self.signals.borrow().values() {
            signal.closing.set(true);
            // HTTP/2 says goodbye at once; HTTP/1.1 with its next response.
            signal.wake();
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.all.signals.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use sluicegate_model::settings::MinRate;

    use super::*;

    /// A connection with these time-outs, and what its worker counts.
    struct Case {
        closings: Closings,
        signal: Rc<Signal>,
        stats: ClientStats,
    }

    impl Case {
        fn new(timeouts: &ClientTimeouts) -> Self {
            let closings = Closings::default();
            let entered = closings.enter(([127, 0, 0, 1], 80).into(), timeouts);
            let signal = entered.signal.clone();
            std::mem::forget(entered);
            Self { closings, signal, stats: ClientStats::default() }
        }

        /// The state after so many seconds.
        fn after(&self, seconds: u64) -> Option<Late> {
            (0..seconds).for_each(|_| self.closings.second(&self.stats));
            self.signal.late.get()
        }
    }

    #[test]
    fn idle_and_head_have_thirty_seconds_each_and_an_exchange_may_stall_for_five_minutes() {
        let case = Case::new(&ClientTimeouts::default());
        assert_eq!(case.after(30), None);
        case.signal.head();
        assert_eq!(case.after(30), None, "the head has its own time");
        case.signal.begin(false);
        assert_eq!(case.after(300), None);
        case.signal.moved(1);
        assert_eq!(case.after(300), None, "bytes moved in between");
        case.signal.end();
        assert_eq!(case.after(30), None, "the time for the next one begins at the end of the exchange");
        assert_eq!(case.after(1), Some(Late::Idle));
        assert!(case.signal.is_over());
        assert_eq!(case.stats.idle.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_slow_head_is_answered_and_then_over() {
        let case = Case::new(&ClientTimeouts::default());
        case.signal.head();
        assert_eq!(case.after(31), Some(Late::Head));
        assert!(case.signal.is_request_late() && !case.signal.is_over());
        case.after(1);
        assert!(case.signal.is_over());
        assert_eq!(case.stats.slow_head.load(Ordering::Relaxed), 1, "counted once");
    }

    #[test]
    fn a_stalled_exchange_is_ended() {
        let case = Case::new(&ClientTimeouts::default());
        case.signal.begin(true);
        assert_eq!(case.after(300), None);
        assert_eq!(case.after(1), Some(Late::Stalled));
    }

    #[test]
    fn a_request_has_its_time_from_the_first_byte_to_the_last() {
        let timeouts = ClientTimeouts { request: Some(Duration::from_secs(10)), ..ClientTimeouts::default() };
        let case = Case::new(&timeouts);
        case.signal.head();
        case.after(5);
        case.signal.begin(true);
        (0..5).for_each(|_| {
            case.after(1);
            case.signal.moved(1);
        });
        assert_eq!(case.after(1), Some(Late::Request), "a byte a second is too slow");
        let case = Case::new(&timeouts);
        case.signal.begin(true);
        case.signal.received();
        assert_eq!(case.after(60), None, "the endpoint may take longer");
    }

    #[test]
    fn who_is_waited_for_must_keep_to_the_rate() {
        let rate = Some(MinRate { bytes_per_second: 100, grace: Duration::from_secs(5) });
        let case = Case::new(&ClientTimeouts { rate, ..ClientTimeouts::default() });
        case.signal.begin(true);
        for _ in 0..20 {
            assert_eq!(case.after(1), None, "nobody waits for the client");
            case.signal.moved(10);
        }
        case.signal.begin(true);
        for _ in 0..5 {
            case.signal.moved(1);
            case.signal.awaits();
            assert_eq!(case.after(1), None);
        }
        case.signal.awaits();
        assert_eq!(case.after(1), Some(Late::Rate));
    }

    #[test]
    fn an_old_connection_closes_and_a_long_exchange_ends() {
        let second = Some(Duration::from_millis(900));
        let case = Case::new(&ClientTimeouts { age: second, stalled: None, idle: None, ..ClientTimeouts::default() });
        assert_eq!((case.after(1), case.signal.is_closing()), (None, false));
        assert_eq!((case.after(1), case.signal.is_closing()), (None, true));
        let case = Case::new(&ClientTimeouts { stream: second, ..ClientTimeouts::default() });
        case.signal.begin(false);
        assert_eq!(case.after(1), None);
        case.signal.moved(1);
        assert_eq!(case.after(1), Some(Late::Long));
    }
}
