//! The signal of one connection: what it is told of closing, and what it tells of itself.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::task::Waker;
use std::time::Duration;

use sluicegate_model::settings::ClientTimeouts;
use sluicegate_model::stats::ClientStats;

/// Why the time of a connection is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// It is idle between two exchanges.
    Idle,
    /// The head of a request does not come to its end.
    Head,
    /// The content of a request does not come to its end.
    Request,
    /// Nothing moves in the exchange.
    Stalled,
    /// The exchange lasts too long.
    Long,
    /// The client sends or reads too slowly.
    Rate,
    /// The client has closed its sending side, and nothing moves.
    HalfClosed,
}

impl Late {
    /// Whether the connection is closed only after something was said: a slow request is answered 408, and an exchange that is given up has its line in the log.
    /// Otherwise it is closed at once.
    pub(in crate::http) fn is_answered(self) -> bool {
        matches!(self, Self::Head | Self::Request | Self::HalfClosed)
    }

    pub(in crate::http) fn counter(self, stats: &ClientStats) -> &AtomicU64 {
        match self {
            Self::Idle => &stats.idle,
            Self::Head => &stats.slow_head,
            Self::Request => &stats.slow_request,
            Self::Stalled => &stats.stalled,
            Self::Long => &stats.long,
            Self::Rate => &stats.slow_rate,
            Self::HalfClosed => &stats.half_closed,
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for a request, of which nothing has come.
    Idle,
    /// It reads the head of a request.
    Head,
    /// It has an exchange, for which content is still to come from the client.
    Receiving,
    /// It has an exchange, for which all content has come from the client.
    Received,
    /// It carries streams, each with a signal of its own; or another protocol, with the seconds that this may be silent.
    Carrying(u64),
}

/// The time-outs of a connection in seconds. One that is not set is as good as for ever.
struct Limits {
    idle: u64,
    head: u64,
    request: u64,
    stalled: u64,
    half_closed: u64,
    stream: u64,
    age: u64,
    /// The least number of bytes in a second, and the grace.
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
            half_closed: seconds(of.half_closed),
            stream: seconds(of.stream),
            age: seconds(of.age),
            rate: of.rate.map(|rate| (rate.bytes_per_second.max(1).into(), seconds(Some(rate.grace)))),
        }
    }
}

/// What one connection is told, and tells of itself.
pub(crate) struct Signal {
    pub(in crate::http) listener: SocketAddr,
    limits: Limits,
    opened: u64,
    pub(in crate::http) closing: Cell<bool>,
    phase: Cell<Phase>,
    /// Since when the connection is idle, or when the first byte of the request came.
    since: Cell<u64>,
    /// Whether it closes although another request may come.
    pub(in crate::http) ending: Cell<bool>,
    /// When a part of a body has last moved, or the exchange began.
    moved_at: Cell<u64>,
    /// How many bytes of bodies have moved in this exchange; whether the client is waited for; and for how many seconds of the exchange it was.
    bytes: Cell<u64>,
    awaited: Cell<bool>,
    waited: Cell<u64>,
    /// Since when in this exchange the client has closed its sending side.
    half_closed: Cell<Option<u64>>,
    /// Why the time of what the connection does is up, if it is.
    pub(in crate::http) late: Cell<Option<Late>>,
    /// Whether the time for an answer to that is up, too.
    pub(in crate::http) over: Cell<bool>,
    clock: Rc<Cell<u64>>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// The signal of a connection that opens now. `closing`: the worker stops already.
    pub(in crate::http) fn new(listener: SocketAddr, timeouts: &ClientTimeouts, clock: Rc<Cell<u64>>, closing: bool) -> Self {
        let now = clock.get();
        Self {
            listener,
            limits: timeouts.into(),
            opened: now,
            closing: Cell::new(closing),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now),
            moved_at: Cell::new(now),
            bytes: Cell::new(0),
            awaited: Cell::new(false),
            waited: Cell::new(0),
            half_closed: Cell::new(None),
            late: Cell::new(None),
            over: Cell::new(false),
            ending: Cell::new(false),
            clock,
            waker: RefCell::default(),
        }
    }

    /// Whether the connection is older than it may be.
    pub(in crate::http) fn is_old(&self, now: u64) -> bool {
        now - self.opened > self.limits.age
    }

    /// Whether no event tells of a reset any more, as the client has closed its sending side and waits for its answer.
    pub(in crate::http) fn is_deaf(&self) -> bool {
        self.half_closed.get().is_some() && self.phase.get() == Phase::Received
    }

    /// Whether the connection has been silent between exchanges for more than so many seconds since `since`.
    pub(in crate::http) fn is_silent(&self, since: u64, seconds: u64, now: u64) -> bool {
        self.phase.get() == Phase::Idle && now - self.since.get().max(since) > seconds
    }

    /// Whether the connection is to close after the running exchange.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether the connection is to close now, if no exchange runs.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Whether the connection is to close at once.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether the request that is being read takes too long.
    pub(crate) fn is_request_late(&self) -> bool {
        matches!(self.late.get(), Some(Late::Head | Late::Request))
    }

    /// Whether the client has closed its sending side, and is not waited for any longer.
    pub(crate) fn is_given_up(&self) -> bool {
        self.late.get() == Some(Late::HalfClosed)
    }

    /// Notes that the client has closed its sending side while it waits for an answer. Once a second is looked whether the connection still stands.
    pub(crate) fn half_closed(&self) {
        if self.half_closed.get().is_none() {
            self.half_closed.set(Some(self.clock.get()));
        }
    }

    /// Notes that some of a head has come.
    pub(crate) fn head(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.since.set(self.clock.get());
        }
    }

    /// Notes that an exchange begins. `receiving`: the request has content.
    pub(crate) fn begin(&self, receiving: bool) {
        // A head that came in one piece had no phase of its own.
        self.head();
        self.phase.set(if receiving { Phase::Receiving } else { Phase::Received });
        self.bytes.set(0);
        self.waited.set(0);
        self.half_closed.set(None);
        self.moved(0);
    }

    /// Notes that the connection carries streams, or another protocol, which may be silent for so long; none: for ever.
    pub(crate) fn carry(&self, silent: Option<Duration>) {
        self.phase.set(Phase::Carrying(silent.map_or(u64::MAX, |s| s.as_secs().max(1))));
        self.moved(0);
    }

    /// Notes that the whole request has come.
    pub(crate) fn received(&self) {
        if self.phase.get() == Phase::Receiving {
            self.phase.set(Phase::Received);
        }
    }

    /// Notes that the exchange has ended.
    pub(crate) fn end(&self) {
        self.phase.set(Phase::Idle);
        self.since.set(self.clock.get());
    }

    /// Notes that so many bytes of a body have moved.
    pub(crate) fn moved(&self, bytes: usize) {
        self.moved_at.set(self.clock.get());
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.awaited.set(false);
    }

    /// Notes that the client is waited for, to send or to read.
    pub(crate) fn awaits(&self) {
        self.awaited.set(true);
    }

    /// Sets who is to be woken.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    pub(in crate::http) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Why the time of the connection is up, if it is.
    pub(in crate::http) fn check(&self, now: u64) -> Option<Late> {
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
                if self.half_closed.get().is_some_and(|at| moved.min(now - at) > limits.half_closed) {
                    return Some(Late::HalfClosed);
                }
                if moved > limits.stalled { Some(Late::Stalled) } else { (since > limits.stream).then_some(Late::Long) }
            }
        }
    }
}
