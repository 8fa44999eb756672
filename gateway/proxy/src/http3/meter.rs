//! Floods. What [`http2::meter`](crate::http2) counts of HTTP/2 exists here, too: frames that carry nothing or are not known, control frames, unidirectional
//! streams that are opened and closed, and streams that are reset at once (CVE-2023-44487) or that break the protocol (CVE-2025-8671). PING, windows and the
//! like are QUIC's: each costs its sender a packet of its own, sealed, and the library answers many of them with one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use super::frames::Came;

/// How many frames may come within a second that carry nothing.
const CONTROL: u32 = 1000;
/// How many more of these may come for each frame that carries something, in this second and the one before.
const CONTROL_A_FRAME: u32 = 2;
/// How many streams may come to nothing by the client's own doing within a few seconds, if they are more than half of all.
const WASTED: u32 = 1000;
/// How many bytes of heads that are not whole yet are kept for a connection, over all its streams: as much as it may send ahead by default.
const KEPT: usize = 1 << 20;
/// How many requests are taken off the connection before those that began are looked at.
const TURN: u32 = 64;

/// Counts what comes on one connection. Its time is the worker's clock of seconds.
pub(crate) struct Meter {
    clock: Rc<Cell<u64>>,
    exceeded: Cell<bool>,
    begun: Cell<u32>,
    kept: Cell<usize>,
    counts: RefCell<Counts>,
    /// Wakes the connection's own task, as streams are read by theirs.
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Counts {
    second: u64,
    control: u32,
    useful: u32,
    before: u32,
    streams: u32,
    wasted: u32,
}

impl Meter {
    pub(crate) fn new(clock: Rc<Cell<u64>>) -> Rc<Self> {
        let counts = RefCell::new(Counts { second: clock.get(), ..Counts::default() });
        Rc::new(Self { clock, exceeded: Cell::new(false), begun: Cell::new(0), kept: Cell::new(0), counts, waker: RefCell::default() })
    }

    /// Whether the client has sent more than any purpose needs.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Sets who is woken when too much has come.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Whether so many requests have come that they are to be looked at before more are taken.
    pub(super) fn is_turn_full(&self) -> bool {
        self.begun.get() >= TURN
    }

    /// Notes that all requests that have come were begun. Returns whether others wait for that.
    pub(crate) fn end_turn(&self) -> bool {
        self.begun.replace(0) >= TURN
    }

    /// Notes that a request's stream has come.
    pub(super) fn stream(&self) {
        self.begun.set(self.begun.get().saturating_add(1));
        self.count(|counts| counts.streams = counts.streams.saturating_add(1));
    }

    /// Notes that a stream has come to nothing by the client's own doing.
    pub(crate) fn wasted(&self) {
        self.count(|counts| counts.wasted = counts.wasted.saturating_add(1));
    }

    /// Notes that a frame has come, or a unidirectional stream, which counts as a control frame.
    pub(super) fn came(&self, what: Came) {
        self.count(|counts| {
            let count = if what == Came::Useful { &mut counts.useful } else { &mut counts.control };
            *count = count.saturating_add(1);
        });
    }

    /// Notes that a part of a response was sent.
    pub(super) fn sent(&self) {
        self.count(|counts| counts.useful = counts.useful.saturating_add(1));
    }

    /// Notes that so many bytes of a stream are kept, where so many were before.
    pub(super) fn keep(&self, before: usize, now: usize) {
        self.kept.set((self.kept.get() + now).saturating_sub(before));
        if self.kept.get() > KEPT {
            self.exceed();
        }
    }

    fn exceed(&self) {
        if !self.exceeded.replace(true) {
            self.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    fn count(&self, what: impl FnOnce(&mut Counts)) {
        let counts = &mut *self.counts.borrow_mut();
        counts.at(self.clock.get());
        what(counts);
        if counts.is_too_much() {
            self.exceed();
        }
    }
}

impl Counts {
    /// Begins a new second. Half of the streams is remembered, so that a second's end does not hide them.
    fn at(&mut self, now: u64) {
        if now == self.second {
            return;
        }
        self.before = if now == self.second + 1 { self.useful } else { 0 };
        let halves = u32::try_from(now - self.second).unwrap_or(u32::MAX).min(31);
        (self.streams, self.wasted) = (self.streams >> halves, self.wasted >> halves);
        (self.second, self.control, self.useful) = (now, 0, 0);
    }

    fn is_too_much(&self) -> bool {
        let useful = self.useful.saturating_add(self.before);
        self.control > CONTROL.saturating_add(useful.saturating_mul(CONTROL_A_FRAME))
            || (self.wasted > WASTED && self.wasted > self.streams / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a client may do something in one second.
    fn pass(what: impl Fn(&Meter)) -> u32 {
        let meter = Meter::new(Rc::default());
        (0..20_000)
            .find(|_| {
                what(&meter);
                meter.is_exceeded()
            })
            .unwrap_or(u32::MAX)
    }

    #[test]
    fn what_has_no_purpose_is_limited_and_messages_pay_for_what_comes_with_them() {
        assert_eq!(pass(|m| m.came(Came::Control)), CONTROL);
        assert_eq!(
            pass(|m| {
                m.came(Came::Useful);
                m.came(Came::Control);
                m.came(Came::Control);
            }),
            u32::MAX
        );
        assert_eq!(
            pass(|m| {
                m.sent();
                m.came(Came::Control);
            }),
            u32::MAX
        );
    }

    #[test]
    fn streams_that_come_to_nothing_are_limited_where_they_are_most() {
        let stream = |m: &Meter, all: u32| {
            (0..all).for_each(|_| m.stream());
            m.wasted();
        };
        assert_eq!(pass(|m| stream(m, 1)), WASTED);
        assert_eq!(pass(|m| stream(m, 2)), u32::MAX, "half of them");
    }

    #[test]
    fn heads_that_are_not_whole_are_kept_up_to_a_limit() {
        let meter = Meter::new(Rc::default());
        meter.keep(0, KEPT);
        meter.keep(KEPT, 0);
        (0..16).for_each(|_| meter.keep(0, KEPT / 16));
        assert!(!meter.is_exceeded());
        meter.keep(0, 1);
        assert!(meter.is_exceeded());
    }

    #[test]
    fn a_second_forgives_and_remembers_what_was_carried() {
        let clock = Rc::new(Cell::new(0));
        let meter = Meter::new(clock.clone());
        (0..CONTROL).for_each(|_| meter.came(Came::Control));
        (0..500).for_each(|_| meter.came(Came::Useful));
        clock.set(1);
        (0..2 * CONTROL).for_each(|_| meter.came(Came::Control));
        assert!(!meter.is_exceeded());
        meter.came(Came::Control);
        assert!(meter.is_exceeded());
    }
}
