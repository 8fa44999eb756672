//! Floods. Some frames make the receiver work or answer, and cost the sender nothing: PING, SETTINGS, RST_STREAM (CVE-2023-44487), PRIORITY,
//! empty DATA, WINDOW_UPDATE (CVE-2019-9511 to 9518), CONTINUATION (CVE-2024-24549 and its kin). The library bounds the memory they take; this
//! counts them, from the nine bytes before each frame, and says when a peer sends more than any purpose needs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Of PING, SETTINGS, PRIORITY, empty DATA, CONTINUATION, and frames of no known type, within a second.
const CONTROL: u32 = 1000;
/// Of RST_STREAM in a few seconds, when they are more than half of the streams begun: cancelling is allowed, doing nothing else is not.
const RESETS: u32 = 200;
/// Of WINDOW_UPDATE within a second; more when content is sent, as each piece of it may be acknowledged,
const WINDOWS: u32 = 1000;
/// that is, for so many bytes sent.
const BYTES_A_WINDOW: u64 = 512;

const HEADER: usize = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// Counts the frames of one connection. Windows of time come from the worker's clock of seconds: no look at the time for a frame.
pub(crate) struct Meter {
    clock: Rc<Cell<u64>>,
    exceeded: Cell<bool>,
    settled: Cell<bool>,
    place: RefCell<Place>,
    tally: RefCell<Tally>,
}

/// Where in the bytes reading is.
struct Place {
    /// Bytes that are no frame's header: the preface, or a payload.
    skip: u64,
    header: [u8; HEADER],
    have: usize,
    /// The payload is that of SETTINGS.
    settings: bool,
}

#[derive(Default)]
struct Tally {
    second: u64,
    control: u32,
    windows: u32,
    written: u64,
    streams: u32,
    resets: u32,
}

impl Meter {
    /// `preface`: bytes before the first frame.
    pub(crate) fn new(clock: Rc<Cell<u64>>, preface: usize) -> Rc<Self> {
        let tally = Tally { second: clock.get(), ..Tally::default() };
        let place = Place { skip: preface as u64, header: [0; HEADER], have: 0, settings: false };
        Rc::new(Self {
            clock,
            exceeded: Cell::new(false),
            settled: Cell::new(false),
            place: RefCell::new(place),
            tally: RefCell::new(tally),
        })
    }

    /// Whether the peer has sent too many.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Whether the peer's settings have come.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    pub(super) fn wrote(&self, count: usize) {
        self.tally.borrow_mut().written += count as u64;
    }

    pub(super) fn read(&self, mut bytes: &[u8]) {
        let place = &mut *self.place.borrow_mut();
        while !bytes.is_empty() {
            if place.skip > 0 {
                let count = usize::try_from(place.skip).unwrap_or(usize::MAX).min(bytes.len());
                place.skip -= count as u64;
                bytes = &bytes[count..];
                if place.skip == 0 && place.settings {
                    self.settled.set(true);
                }
                continue;
            }
            let count = (HEADER - place.have).min(bytes.len());
            place.header[place.have..place.have + count].copy_from_slice(&bytes[..count]);
            place.have += count;
            bytes = &bytes[count..];
            if place.have == HEADER {
                let [l0, l1, l2, kind, flags, ..] = place.header;
                let length = u32::from_be_bytes([0, l0, l1, l2]);
                (place.have, place.skip, place.settings) = (0, u64::from(length), kind == 4);
                if place.settings && length == 0 && flags & ACK == 0 {
                    self.settled.set(true);
                }
                if !self.tally.borrow_mut().count(self.clock.get(), kind, flags, length) {
                    self.exceeded.set(true);
                }
            }
        }
    }
}

impl Tally {
    /// False: it is too many.
    fn count(&mut self, now: u64, kind: u8, flags: u8, length: u32) -> bool {
        if now != self.second {
            // What was within limits is forgiven; of resets half is remembered, so that a second's end does not hide them.
            let halves = u32::try_from(now - self.second).unwrap_or(u32::MAX).min(31);
            (self.streams, self.resets) = (self.streams >> halves, self.resets >> halves);
            (self.second, self.control, self.windows, self.written) = (now, 0, 0, 0);
        }
        match kind {
            // DATA: content is what it is all about; without any it must at least end the stream.
            0 if length == 0 && flags & END_STREAM == 0 => self.control += 1,
            0 => {}
            // HEADERS.
            1 => self.streams += 1,
            // RST_STREAM.
            3 => self.resets += 1,
            // WINDOW_UPDATE.
            8 => self.windows += 1,
            _ => self.control += 1,
        }
        let windows = u64::from(WINDOWS) + self.written / BYTES_A_WINDOW;
        self.control <= CONTROL && u64::from(self.windows) <= windows && (self.resets <= RESETS || self.resets <= self.streams / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.resize(HEADER + usize::from(length), 0);
        frame
    }

    /// How many of a frame pass in one second, given in pieces.
    fn pass(frames: &[Vec<u8>], piece: usize) -> usize {
        let meter = Meter::new(Rc::default(), 3);
        meter.read(b"pre");
        for count in 0..10_000 {
            for part in frames.concat().chunks(piece) {
                meter.read(part);
            }
            if meter.is_exceeded() {
                return count;
            }
        }
        usize::MAX
    }

    #[test]
    fn frames_without_a_purpose_are_limited() {
        for piece in [1, 4, 9, 100] {
            assert_eq!(pass(&[frame(6, 8)], piece), CONTROL as usize, "PING");
            assert_eq!(pass(&[frame(4, 6)], piece), CONTROL as usize, "SETTINGS");
            assert_eq!(pass(&[frame(0, 0)], piece), CONTROL as usize, "empty DATA");
            assert_eq!(pass(&[frame(9, 1)], piece), CONTROL as usize, "CONTINUATION");
            assert_eq!(pass(&[frame(200, 1)], piece), CONTROL as usize, "unknown");
            assert_eq!(pass(&[frame(8, 4)], piece), WINDOWS as usize, "WINDOW_UPDATE");
            assert_eq!(pass(&[frame(1, 20), frame(3, 4)], piece), RESETS as usize, "streams that are all reset");
            assert_eq!(pass(&[frame(1, 20), frame(1, 20), frame(3, 4), frame(0, 100)], piece), usize::MAX, "half of them");
        }
    }

    #[test]
    fn a_second_forgives_and_content_pays_for_window_updates() {
        let clock = Rc::new(Cell::new(0));
        let meter = Meter::new(clock.clone(), 0);
        for second in 0..5 {
            clock.set(second);
            (0..CONTROL).for_each(|_| meter.read(&frame(6, 8)));
        }
        for _ in 0..10_000 {
            meter.wrote(1024);
            meter.read(&frame(8, 4));
        }
        assert!(!meter.is_exceeded());
        meter.read(&frame(6, 8));
        assert!(meter.is_exceeded());
    }
}
