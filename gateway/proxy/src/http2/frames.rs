//! Recognizes the frames in a stream of bytes (RFC 9113 §4.1) by the few bytes that tell them; payloads are passed over.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const WINDOW_UPDATE: u8 = 8;

const HEADER: usize = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;

/// A frame whose header has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    flags: u8,
    length: u32,
    /// For DATA with padding, the length of that; for RST_STREAM, the error code (RFC 9113 §7).
    pub(super) detail: u32,
}

impl Frame {
    /// Whether it is DATA that neither carries content nor ends its stream. Padding is not content.
    pub(super) fn is_empty_data(self) -> bool {
        let padding = if self.flags & PADDED == 0 { 0 } else { self.detail + 1 };
        self.kind == DATA && self.length <= padding && self.flags & END_STREAM == 0
    }
}

/// Where in the bytes the reader is.
pub(super) struct Scanner {
    /// How many bytes need not be looked at: the preface, or the rest of a payload.
    skip: u64,
    /// The header of a frame, and those bytes of its payload that are looked at.
    seen: [u8; HEADER + 4],
    have: usize,
    /// Whether a payload of SETTINGS that is not an acknowledgement is passing.
    settings: bool,
}

impl Scanner {
    /// `preface`: the number of bytes before the first frame.
    pub(super) fn new(preface: usize) -> Self {
        Self { skip: preface as u64, seen: [0; HEADER + 4], have: 0, settings: false }
    }

    /// Tells which frames begin in the next bytes. Returns whether the last byte of settings was among them.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) -> bool {
        let mut settled = false;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= count as u64;
                bytes = &bytes[count..];
            } else {
                let count = (self.want() - self.have).min(bytes.len());
                self.seen[self.have..self.have + count].copy_from_slice(&bytes[..count]);
                self.have += count;
                bytes = &bytes[count..];
                if self.have >= HEADER && self.have == self.want() {
                    each(self.begin());
                }
            }
            settled |= self.settings && self.skip == 0 && self.have == 0;
            self.settings &= self.skip > 0;
        }
        settled
    }

    /// How many bytes tell what the frame is, as far as that is known.
    fn want(&self) -> usize {
        let [l0, l1, l2, kind, flags, ..] = self.seen;
        let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        let of_payload = match kind {
            _ if self.have < HEADER => 0,
            DATA if flags & PADDED != 0 => 1,
            RST_STREAM => 4,
            _ => 0,
        };
        HEADER + length.min(of_payload)
    }

    /// The frame that the bytes tell. The rest of its payload is passed over.
    fn begin(&mut self) -> Frame {
        let [l0, l1, l2, kind, flags, ..] = self.seen;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let told = &self.seen[HEADER..self.have];
        let detail = told.iter().fold(0, |code, byte| code << 8 | u32::from(*byte));
        self.skip = u64::from(length) - told.len() as u64;
        self.settings = kind == SETTINGS && flags & ACK == 0;
        self.have = 0;
        Frame { kind, flags, length, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap_or_default();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_told_in_whatever_pieces_they_come() {
        let all = [
            frame(SETTINGS, 0, &[0, 4, 0, 1, 0, 0]),
            frame(RST_STREAM, 0, &[0, 0, 1, 7]),
            frame(DATA, PADDED, &[3, 0, 0, 0]),
            frame(DATA, PADDED, &[2, 9, 0, 0]),
            frame(DATA, PADDED | END_STREAM, &[0]),
            frame(DATA, 0, &[]),
            frame(HEADERS, 4, &[0x82; 200]),
            frame(RST_STREAM, 0, &[]),
        ];
        let bytes = [b"pre".to_vec(), all.concat()].concat();
        for piece in 1..40 {
            let (mut scanner, mut seen, mut settled) = (Scanner::new(3), Vec::new(), 0);
            for part in bytes.chunks(piece) {
                settled += usize::from(scanner.pass(part, |frame| seen.push((frame.kind, frame.detail, frame.is_empty_data()))));
            }
            let told =
                [(4, 0, false), (3, 0x107, false), (0, 3, true), (0, 2, false), (0, 0, false), (0, 0, true), (1, 0, false), (3, 0, false)];
            assert_eq!((seen, settled), (told.to_vec(), 1), "in pieces of {piece}");
        }
    }

    #[test]
    fn settings_without_a_payload_are_settings_and_an_acknowledgement_is_none() {
        let mut scanner = Scanner::new(0);
        assert!(!scanner.pass(&frame(SETTINGS, ACK, &[]), |_| {}));
        assert!(scanner.pass(&frame(SETTINGS, 0, &[]), |_| {}));
    }
}
