//! How HTTP connections are told to close: when their listener is gone or the worker stops, after the running exchange; or at once, when
//! nothing has moved for too long. Looked at once a second, so that no request arms a timer for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;

use rustc_hash::FxBuildHasher;

/// A client has this long to send a request's head, counted from the end of the exchange before: it also ends idle connections. In seconds.
const HEADER_SECONDS: u64 = 30;
/// An exchange in which no byte of a body has moved for so long is ended with its connection; also while a response's head is waited for
/// (Envoy's stream idle time-out has the same default).
const IDLE_SECONDS: u64 = 300;

/// The worker's HTTP connections. A flag and a waker for each: looking at it costs a load, not a lock.
#[derive(Default)]
pub(crate) struct Closings {
    next: Cell<u64>,
    signals: RefCell<HashMap<u64, Rc<Signal>, FxBuildHasher>>,
    /// Seconds since the worker's start.
    clock: Rc<Cell<u64>>,
}

/// What one connection is told, and tells of itself.
pub(crate) struct Signal {
    listener: SocketAddr,
    closing: Cell<bool>,
    /// Since when a request's head is waited for; none during an exchange.
    waiting_since: Cell<Option<u64>>,
    /// When a part of a body last moved, or the exchange began.
    moved_at: Cell<u64>,
    /// One of the two was too long ago.
    late: Cell<bool>,
    clock: Rc<Cell<u64>>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// The connection is to close after the running exchange.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// It is to close at once.
    pub(crate) fn is_late(&self) -> bool {
        self.late.get()
    }

    /// An exchange begins: no head is waited for.
    pub(crate) fn begin(&self) {
        self.waiting_since.set(None);
        self.moved();
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        self.waiting_since.set(Some(self.clock.get()));
    }

    /// Bytes of it have moved.
    pub(crate) fn moved(&self) {
        self.moved_at.set(self.clock.get());
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
}

/// A connection's place among [`Closings`]; leaves it when dropped.
pub(crate) struct Entered<'a> {
    id: u64,
    pub(crate) signal: Rc<Signal>,
    all: &'a Closings,
}

impl Closings {
    pub(crate) fn enter(&self, listener: SocketAddr) -> Entered<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        let signal = Rc::new(Signal {
            listener,
            closing: Cell::new(false),
            waiting_since: Cell::new(Some(self.clock.get())),
            moved_at: Cell::new(self.clock.get()),
            late: Cell::new(false),
            clock: self.clock.clone(),
            waker: RefCell::default(),
        });
        self.signals.borrow_mut().insert(id, signal.clone());
        Entered { id, signal, all: self }
    }

    /// A second has passed: ends the connections that waited too long for a head, or in an exchange.
    pub(crate) fn second(&self) {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        let late = |s: &&Rc<Signal>| match s.waiting_since.get() {
            Some(since) => now - since > HEADER_SECONDS,
            None => now - s.moved_at.get() > IDLE_SECONDS,
        };
        for signal in self.signals.borrow().values().filter(late) {
            signal.late.set(true);
            signal.wake();
        }
    }

    /// Tells the connections of the listeners that `which` names.
    pub(crate) fn close(&self, which: impl Fn(SocketAddr) -> bool) {
        for signal in self.signals.borrow().values().filter(|s| which(s.listener)) {
            signal.closing.set(true);
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
    use super::*;

    fn seconds(closings: &Closings, count: u64) {
        (0..count).for_each(|_| closings.second());
    }

    #[test]
    fn a_head_has_thirty_seconds_and_an_exchange_may_stall_for_five_minutes() {
        let closings = Closings::default();
        let entered = closings.enter(([127, 0, 0, 1], 80).into());
        let signal = entered.signal.clone();
        seconds(&closings, HEADER_SECONDS);
        assert!(!signal.is_late());
        signal.begin();
        seconds(&closings, IDLE_SECONDS);
        signal.moved();
        seconds(&closings, IDLE_SECONDS);
        assert!(!signal.is_late(), "bytes moved in between");
        signal.end();
        seconds(&closings, HEADER_SECONDS);
        assert!(!signal.is_late(), "the time for the next head begins at the end of the exchange");
        seconds(&closings, 1);
        assert!(signal.is_late());
    }

    #[test]
    fn a_stalled_exchange_is_ended() {
        let closings = Closings::default();
        let entered = closings.enter(([127, 0, 0, 1], 80).into());
        entered.signal.begin();
        seconds(&closings, IDLE_SECONDS);
        assert!(!entered.signal.is_late());
        seconds(&closings, 1);
        assert!(entered.signal.is_late());
    }
}
