//! What a connection's frames come to, and the limits on that.
//!
//! Real peers send such frames in proportion to what they do: gRPC's C core sends two WINDOW_UPDATE for a call of one message, its Go library a PING for a piece
//! of content. So each limit is a floor, below which nobody is judged, and so many more for each frame that carries a message or a part of one, in either
//! direction.

use h2::Reason;

use super::frames::{DATA, Frame, HEADERS, RST_STREAM, WINDOW_UPDATE};

/// How many frames may come within a second of the kinds PING, SETTINGS, PRIORITY, empty DATA, CONTINUATION, of no known kind, and RST_STREAM of what has no
/// stream.
pub(super) const CONTROL: u32 = 1000;
/// How many more of these may come for each frame that carries something.
const CONTROL_A_FRAME: u32 = 2;
/// How many frames WINDOW_UPDATE may come within a second.
pub(super) const WINDOWS: u32 = 1000;
/// How many more of these may come for each frame that carries something.
const WINDOWS_A_FRAME: u32 = 4;
/// One more WINDOW_UPDATE may come for so many bytes that were sent, as a frame of content may be acknowledged in pieces.
const BYTES_A_WINDOW: u64 = 512;
/// How many streams may come to nothing by the client's own doing within a few seconds, if they are more than half of all.
pub(super) const WASTED: u32 = 1000;

/// After so many streams that broke the protocol, over all the connection's life, the library ends the connection with all that runs on it: it bounds the memory
/// of resets that nobody reads.
pub(crate) const FAULTS: usize = 10_000;
/// After so many frames of empty DATA, over all its life, it does so, too.
pub(super) const EMPTIES: u32 = 100;

/// The peer whose frames are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Client,
    /// An endpoint, which is asked, and resets no more streams than were begun here.
    Endpoint,
}

/// What has come and gone on a connection.
pub(super) struct Allowance {
    peer: Peer,
    second: u64,
    control: u32,
    windows: u32,
    written: u64,
    /// Frames that carry something: in this second, and in the one before.
    useful: u32,
    before: u32,
    streams: u32,
    resets: u32,
    wasted: u32,
    /// Over all the connection's life: streams that broke the protocol, and frames of empty DATA; and how many of these came within the second.
    faults: usize,
    empties: u32,
    empties_now: u32,
}

impl Allowance {
    pub(super) fn new(peer: Peer, second: u64) -> Self {
        Self {
            peer,
            second,
            control: 0,
            windows: 0,
            written: 0,
            useful: 0,
            before: 0,
            streams: 0,
            resets: 0,
            wasted: 0,
            faults: 0,
            empties: 0,
            empties_now: 0,
        }
    }

    /// Begins a new second, with which everything within the limits is forgiven. Half of the streams is remembered, so that a second's end does not hide them.
    pub(super) fn at(&mut self, now: u64) {
        if now == self.second {
            return;
        }
        self.before = if now == self.second + 1 { self.useful } else { 0 };
        let halves = u32::try_from(now - self.second).unwrap_or(u32::MAX).min(31);
        for count in [&mut self.streams, &mut self.resets, &mut self.wasted] {
            *count >>= halves;
        }
        (self.second, self.control, self.windows, self.written) = (now, 0, 0, 0);
        (self.useful, self.empties_now) = (0, 0);
    }

    pub(super) fn is_of_client(&self) -> bool {
        self.peer == Peer::Client
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    pub(super) fn received(&mut self, frame: Frame) {
        match frame.kind {
            DATA if frame.is_empty_data() => {
                self.control += 1;
                self.empties += 1;
                self.empties_now += 1;
            }
            DATA => self.useful += 1,
            HEADERS => {
                self.useful += 1;
                self.streams += u32::from(self.peer == Peer::Client);
            }
            RST_STREAM => {
                self.resets += 1;
                self.control += u32::from(self.resets > self.streams);
            }
            WINDOW_UPDATE => self.windows += 1,
            _ => self.control += 1,
        }
    }

    pub(super) fn sent(&mut self, frame: Frame) {
        match frame.kind {
            DATA if !frame.is_empty_data() => self.useful += 1,
            HEADERS => {
                self.useful += 1;
                self.streams += u32::from(self.peer == Peer::Endpoint);
            }
            RST_STREAM => self.reset(Reason::from(frame.detail)),
            _ => {}
        }
    }

    /// Notes that a client's stream has come to nothing by the client's own doing.
    pub(super) fn wasted(&mut self) {
        self.wasted += 1;
    }

    /// Notes that a frame of content was cut short by the peer's window, and so does not count as useful.
    pub(super) fn cut_short(&mut self) {
        self.useful = self.useful.saturating_sub(1);
        self.control += 1;
    }

    /// Whether the connection comes near a limit that the library has for all its life. If much comes at once, it is a flood instead.
    pub(super) fn is_near_its_end(&self) -> bool {
        self.faults >= FAULTS / 2 || (self.empties >= EMPTIES / 2 && self.empties_now < EMPTIES / 10)
    }

    /// Notes that a stream was reset here, and why. What the gateway ends for its own reasons is not the peer's doing.
    fn reset(&mut self, why: Reason) {
        match why {
            // Frames that were under way to a stream when it was reset are not the stream's fault.
            Reason::STREAM_CLOSED => self.control += 1,
            Reason::PROTOCOL_ERROR | Reason::FLOW_CONTROL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::REFUSED_STREAM => self.wasted += 1,
            _ => return,
        }
        self.faults += 1;
    }

    /// Whether more has come than any purpose needs.
    pub(super) fn is_too_much(&self) -> bool {
        let useful = self.useful.saturating_add(self.before);
        let windows = u64::from(WINDOWS) + u64::from(useful) * u64::from(WINDOWS_A_FRAME) + self.written / BYTES_A_WINDOW;
        let wasted = self.peer == Peer::Client && self.wasted > WASTED && self.wasted > self.streams / 2;
        self.control > CONTROL.saturating_add(useful.saturating_mul(CONTROL_A_FRAME)) || u64::from(self.windows) > windows || wasted
    }
}
