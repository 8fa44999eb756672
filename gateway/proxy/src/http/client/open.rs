//! How HTTP connections are told to close: after the running exchange, when their listener is gone or the worker stops; or when their time is up. They are
//! looked at once a second, so that no request arms a timer for it, and time-outs are kept to the second.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use rustc_hash::FxBuildHasher;
use sluicegate_model::settings::ClientTimeouts;
use sluicegate_model::stats::{ClientStats, count};

use super::signal::Signal;

/// How long a silent connection is kept when the worker stops, in seconds.
const DRAIN_SECONDS: u64 = 1;

/// The worker's HTTP connections. Each has a flag and a waker: a look at it costs a load, and no lock.
#[derive(Default)]
pub(crate) struct OpenConnections {
    next: Cell<u64>,
    signals: RefCell<HashMap<u64, Rc<Signal>, FxBuildHasher>>,
    /// The number of seconds since the worker's start.
    clock: Rc<Cell<u64>>,
    /// Since when the worker stops.
    draining: Cell<Option<u64>>,
}

/// A connection's place among [`OpenConnections`], which it leaves when this is dropped.
pub(crate) struct Entered<'a> {
    id: u64,
    pub(crate) signal: Rc<Signal>,
    all: &'a OpenConnections,
}

impl OpenConnections {
    /// `clock`: the seconds since the worker's start, which this counts up.
    pub(crate) fn new(clock: Rc<Cell<u64>>) -> Self {
        Self { clock, ..Self::default() }
    }

    pub(crate) fn enter(&self, listener: SocketAddr, timeouts: &ClientTimeouts) -> Entered<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        let signal = Rc::new(Signal::new(listener, timeouts, self.clock.clone(), self.draining.get().is_some()));
        self.signals.borrow_mut().insert(id, signal.clone());
        Entered { id, signal, all: self }
    }

    /// Is called once a second: ends the connections whose time is up.
    pub(crate) fn second(&self, stats: &ClientStats) {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        for signal in self.signals.borrow().values() {
            if signal.late.get().is_some() {
                // There was a second for the answer.
                signal.over.set(true);
                signal.wake();
            } else if let Some(late) = signal.check(now) {
                count(late.counter(stats));
                signal.late.set(Some(late));
                signal.over.set(!late.is_answered());
                signal.wake();
            } else if (signal.is_old(now) && !signal.closing.replace(true)) || signal.is_deaf() {
                signal.wake();
            }
        }
        if let Some(since) = self.draining.get() {
            for signal in self.signals.borrow().values().filter(|signal| signal.is_silent(since, DRAIN_SECONDS, now)) {
                signal.ending.set(true);
                signal.wake();
            }
        }
    }

    /// Tells the connections of the listeners that `which` names to close.
    pub(crate) fn close(&self, which: impl Fn(SocketAddr) -> bool) {
        for signal in self.signals.borrow().values().filter(|s| which(s.listener)) {
            signal.closing.set(true);
            signal.ending.set(true);
            signal.wake();
        }
    }

    /// The worker stops. A client may be sending its next request at this very moment, and a close would lose it. So a connection that is used gets
    /// `Connection: close` with its next response, and only one that stays silent is closed without it.
    pub(crate) fn drain(&self) {
        self.draining.set(Some(self.clock.get()));
        for signal in self.signals.borrow().values() {
            signal.closing.set(true);
            // HTTP/2 says goodbye at once, and HTTP/1.1 with its next response.
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
    use std::time::Duration;

    use sluicegate_model::settings::MinRate;

    use super::super::signal::Late;
    use super::*;

    /// A connection with these time-outs, and what its worker counts.
    struct Case {
        open: OpenConnections,
        signal: Rc<Signal>,
        stats: ClientStats,
    }

    impl Case {
        fn new(timeouts: &ClientTimeouts) -> Self {
            let open = OpenConnections::default();
            let entered = open.enter(([127, 0, 0, 1], 80).into(), timeouts);
            let signal = entered.signal.clone();
            std::mem::forget(entered);
            Self { open, signal, stats: ClientStats::default() }
        }

        /// The state after so many seconds.
        fn after(&self, seconds: u64) -> Option<Late> {
            (0..seconds).for_each(|_| self.open.second(&self.stats));
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
    fn who_has_half_closed_is_waited_for_while_something_moves_and_a_while_longer() {
        let case = Case::new(&ClientTimeouts { half_closed: Some(Duration::from_secs(5)), ..ClientTimeouts::default() });
        case.signal.begin(false);
        assert_eq!(case.after(6), None, "it has not");
        case.signal.half_closed();
        assert_eq!(case.after(5), None);
        case.signal.moved(1);
        assert_eq!(case.after(5), None, "something moved");
        case.signal.begin(false);
        assert_eq!(case.after(10), None, "the next one has a time of its own");
        case.signal.half_closed();
        assert_eq!(case.after(6), Some(Late::HalfClosed));
        assert!(case.signal.is_given_up() && !case.signal.is_over() && !case.signal.is_request_late());
        case.after(1);
        assert!(case.signal.is_over());
        assert_eq!(case.stats.half_closed.load(Ordering::Relaxed), 1);
        let case = Case::new(&ClientTimeouts { half_closed: None, stalled: None, ..ClientTimeouts::default() });
        case.signal.begin(false);
        case.signal.half_closed();
        assert_eq!(case.after(1000), None, "it is waited for as long as it takes");
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
