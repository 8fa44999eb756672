//! Floods. Some frames make the receiver work or answer, and cost the sender nothing: PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE (CVE-2019-9511
//! to 9518), CONTINUATION (CVE-2024-24549 and its kin), streams that are reset at once (CVE-2023-44487) or that provoke a reset (CVE-2025-8671).
//! The library bounds the memory they take; this counts them, and says when a peer sends more than any purpose needs. How much that is, [`allowance`](super::allowance) says.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::PREFACE;
use super::allowance::{Allowance, Peer};
use super::frames::{HEADERS, Scanner};

/// How many requests are taken off the connection before those that began are looked at. One that is reset meanwhile is never begun.
const TURN: u32 = 64;
/// The library's budget for small frames that wait is so many times the connection's window: a stream's window may be full of messages as small as gRPC's, of
/// six bytes, while their receiver is slow.
pub(crate) const SMALL_FRAMES: usize = 4;
/// How many streams that were reset here are remembered for a second, so that what is still under way for them is no error.
pub(crate) const REMEMBERED: usize = 1000;

/// Counts the frames of one connection. Its time is the worker's clock of seconds, so that no frame costs a look at the time.
pub(crate) struct Meter {
    clock: Rc<Cell<u64>>,
    exceeded: Cell<bool>,
    settled: Cell<bool>,
    /// The number of clients' heads that have come since everything that has begun was looked at.
    begun: Cell<u32>,
    incoming: RefCell<Scanner>,
    outgoing: RefCell<Scanner>,
    allowance: RefCell<Allowance>,
}

impl Meter {
    pub(crate) fn new(clock: Rc<Cell<u64>>, peer: Peer) -> Rc<Self> {
        let (read, written) = if peer == Peer::Client { (PREFACE.len(), 0) } else { (0, PREFACE.len()) };
        Rc::new(Self {
            exceeded: Cell::new(false),
            settled: Cell::new(false),
            begun: Cell::new(0),
            incoming: RefCell::new(Scanner::new(read)),
            outgoing: RefCell::new(Scanner::new(written)),
            allowance: RefCell::new(Allowance::new(peer, clock.get())),
            clock,
        })
    }

    /// Whether the peer has sent too many frames.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Whether the peer's settings have come.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// Whether the connection comes near a limit that the library has for all its life. It is better to say goodbye then, and to let what runs end.
    pub(crate) fn is_near_its_end(&self) -> bool {
        self.allowance.borrow().is_near_its_end()
    }

    /// Whether so many requests have come that they are to be looked at before more is read.
    pub(super) fn is_turn_full(&self) -> bool {
        self.begun.get() >= TURN
    }

    /// Notes that all requests that have come were begun. Returns whether reading waited for that.
    pub(crate) fn end_turn(&self) -> bool {
        self.begun.replace(0) >= TURN
    }

    /// Notes that a client's stream has come to nothing by the client's own doing, at once.
    pub(crate) fn wasted(&self) {
        self.count(Allowance::wasted);
    }

    /// Notes that a part of a message goes out in a small piece, as the peer's window has no room for more (CVE-2019-9511).
    pub(super) fn cut_short(&self) {
        self.count(Allowance::cut_short);
    }

    pub(super) fn wrote(&self, bytes: &[u8]) {
        self.count(|allowance| {
            allowance.wrote(bytes.len());
            self.outgoing.borrow_mut().pass(bytes, |frame| allowance.sent(frame));
        });
    }

    pub(super) fn read(&self, bytes: &[u8]) {
        self.count(|allowance| {
            let settled = self.incoming.borrow_mut().pass(bytes, |frame| {
                if frame.kind == HEADERS && allowance.is_of_client() {
                    self.begun.set(self.begun.get().saturating_add(1));
                }
                allowance.received(frame);
            });
            self.settled.set(self.settled.get() || settled);
        });
    }

    fn count(&self, what: impl FnOnce(&mut Allowance)) {
        let allowance = &mut *self.allowance.borrow_mut();
        allowance.at(self.clock.get());
        what(allowance);
        self.exceeded.set(self.exceeded.get() || allowance.is_too_much());
    }
}

#[cfg(test)]
mod tests {
    use super::super::allowance::{CONTROL, EMPTIES, WASTED, WINDOWS};
    use super::super::frames::{DATA, RST_STREAM, WINDOW_UPDATE};
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap_or_default();
        [&[0, 0, length, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    fn client() -> Rc<Meter> {
        let meter = Meter::new(Rc::default(), Peer::Client);
        meter.read(PREFACE);
        meter
    }

    /// How often a client may do something in one second.
    fn pass(what: impl Fn(&Meter)) -> u32 {
        let meter = client();
        (0..100_000)
            .find(|_| {
                what(&meter);
                meter.is_exceeded()
            })
            .unwrap_or(u32::MAX)
    }

    #[test]
    fn frames_without_a_purpose_are_limited() {
        for (what, kind, payload) in [("PING", 6, 8), ("SETTINGS", 4, 6), ("empty DATA", 0, 0), ("CONTINUATION", 9, 1), ("unknown", 200, 1)]
        {
            assert_eq!(pass(|m| m.read(&frame(kind, &vec![0; payload]))), CONTROL, "{what}");
        }
        assert_eq!(pass(|m| m.read(&frame(WINDOW_UPDATE, &[0; 4]))), WINDOWS);
        assert_eq!(pass(|m| m.read(&frame(RST_STREAM, &[0; 4]))), CONTROL, "of nothing");
    }

    #[test]
    fn streams_that_come_to_nothing_are_limited_where_they_are_most() {
        let stream = |m: &Meter| m.read(&frame(HEADERS, &[0; 20]));
        assert_eq!(
            pass(|m| {
                stream(m);
                m.wasted()
            }),
            WASTED
        );
        assert_eq!(
            pass(|m| {
                stream(m);
                m.wrote(&frame(RST_STREAM, &7_u32.to_be_bytes()))
            }),
            WASTED,
            "refused"
        );
        assert_eq!(
            pass(|m| {
                stream(m);
                m.wrote(&frame(RST_STREAM, &1_u32.to_be_bytes()))
            }),
            WASTED,
            "provoked"
        );
        assert_eq!(
            pass(|m| {
                stream(m);
                m.wrote(&frame(RST_STREAM, &8_u32.to_be_bytes()))
            }),
            u32::MAX,
            "by us"
        );
        assert_eq!(
            pass(|m| {
                stream(m);
                m.read(&frame(RST_STREAM, &8_u32.to_be_bytes()))
            }),
            u32::MAX,
            "after an answer"
        );
        assert_eq!(
            pass(|m| {
                stream(m);
                stream(m);
                m.wasted()
            }),
            u32::MAX,
            "half of them"
        );
    }

    #[test]
    fn messages_pay_for_what_comes_with_them() {
        // A call by gRPC's C core; a message each way by its Go library; a download whose reader takes little at a time.
        let window = || frame(WINDOW_UPDATE, &[0; 4]);
        assert_eq!(
            pass(|m| {
                m.read(&[frame(HEADERS, &[0; 20]), window(), window()].concat());
                m.wrote(&frame(HEADERS, &[0; 9]))
            }),
            u32::MAX
        );
        assert_eq!(
            pass(|m| {
                m.read(&[frame(DATA, &[0; 6]), frame(6, &[0; 8]), window(), window()].concat());
                m.wrote(&frame(DATA, &[0]))
            }),
            u32::MAX
        );
        assert_eq!(
            pass(|m| {
                m.wrote(&frame(DATA, &[0; 200]));
                m.wrote(&[0; 6000]);
                (0..12).for_each(|_| m.read(&window()))
            }),
            u32::MAX
        );
        // A window that is opened byte by byte allows no more.
        assert!(
            pass(|m| {
                m.read(&window());
                m.wrote(&frame(DATA, &[0]));
                m.cut_short()
            }) <= WINDOWS
        );
    }

    #[test]
    fn a_second_forgives_and_remembers_what_was_carried() {
        let clock = Rc::new(Cell::new(0));
        let meter = Meter::new(clock.clone(), Peer::Client);
        meter.read(PREFACE);
        for second in 0..5 {
            clock.set(second);
            (0..CONTROL).for_each(|_| meter.read(&frame(6, &[0; 8])));
        }
        (0..500).for_each(|_| meter.wrote(&frame(DATA, &[0])));
        clock.set(5);
        (0..2 * CONTROL).for_each(|_| meter.read(&frame(6, &[0; 8])));
        assert!(!meter.is_exceeded());
        meter.read(&frame(6, &[0; 8]));
        assert!(meter.is_exceeded());
    }

    #[test]
    fn an_endpoint_may_reset_all_that_was_asked_of_it() {
        let meter = Meter::new(Rc::default(), Peer::Endpoint);
        meter.wrote(PREFACE);
        for _ in 0..10_000 {
            meter.wrote(&frame(HEADERS, &[0; 20]));
            meter.read(&[frame(HEADERS, &[0; 9]), frame(RST_STREAM, &[0; 4])].concat());
        }
        assert!(!meter.is_exceeded());
    }

    #[test]
    fn a_connection_comes_near_its_end_by_what_adds_up_and_not_by_a_flood() {
        let clock = Rc::new(Cell::new(0));
        let meter = Meter::new(clock.clone(), Peer::Client);
        meter.read(PREFACE);
        (0..EMPTIES).for_each(|_| meter.read(&frame(DATA, &[])));
        assert!(!meter.is_near_its_end());
        clock.set(1);
        meter.read(&frame(6, &[0; 8]));
        assert!(meter.is_near_its_end());
    }
}
