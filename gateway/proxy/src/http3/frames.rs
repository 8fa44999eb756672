//! The frames of a stream (RFC 9114 §7.1), cut out of its bytes however these come. Frames that are needed as a whole are given out when they are; content
//! passes as it comes; what is not known, and may be anything (§9), is dropped. The parser is our own, as the library's has no limit on what it keeps.

use bytes::{Buf as _, Bytes, BytesMut};

use super::MAX_HEAD;

const DATA: u64 = 0;
const HEADERS: u64 = 1;
/// Frames of the control stream: CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID; and those of HTTP/2 that must not come (§7.2.8). The library knows where
/// each of them is an error.
const OTHERS: [u64; 9] = [3, 4, 5, 7, 0x0d, 2, 6, 8, 9];
/// How large another frame may be that is not content: SETTINGS has a few entries of 16 bytes at most.
const MAX_OTHER: usize = 4 << 10;
/// The longest head of a frame: two numbers of up to eight bytes (RFC 9000 §16). A stream's type comes before the first.
const MAX_NUMBERS: usize = 16;

/// The types of unidirectional streams (§6.2, RFC 9204 §4.2).
const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;
/// A reserved type (§6.2.3), which stands for all types that are not known here.
const RESERVED: &[u8] = &[0x21];

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request.
    Request,
    /// What its type says, which comes first.
    Unidirectional,
}

/// What came, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// A frame that carries something.
    Useful,
    /// A frame that carries nothing, or that is not known.
    Control,
}

/// Why a stream is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("it ends within a frame")]
    Cut,
    #[error("a frame is larger than it may be")]
    TooLarge,
}

/// Where in a stream its reader is.
#[derive(Debug)]
enum State {
    /// In the type of a unidirectional stream, or in the type or the length of a frame.
    Head { typed: bool },
    /// In a frame that is needed as a whole, of which so much is missing.
    Whole(usize),
    /// In content, of which so much is missing.
    Content(u64),
    /// In a frame that is dropped.
    Dropped(u64),
    /// In a stream that has no frames.
    Raw,
}

/// Cuts the bytes of one stream.
#[derive(Debug)]
pub(crate) struct Frames {
    state: State,
    /// What is kept of a head or of a whole frame.
    kept: BytesMut,
}

impl Frames {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { state: State::Head { typed: kind == Kind::Request }, kept: BytesMut::new() }
    }

    /// Takes the next piece out of `bytes`, which may be emptied by that; none: more bytes are needed.
    pub(crate) fn next(&mut self, bytes: &mut Bytes, mut came: impl FnMut(Came)) -> Result<Option<Bytes>, BadFrame> {
        while !bytes.is_empty() {
            match self.state {
                State::Raw => return Ok(Some(std::mem::take(bytes))),
                State::Content(left) => {
                    let piece = bytes.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
                    self.advance(left - piece.len() as u64, State::Content);
                    return Ok(Some(piece));
                }
                State::Dropped(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.advance(count);
                    self.advance(left - count as u64, State::Dropped);
                }
                State::Whole(left) => {
                    let piece = bytes.split_to(left.min(bytes.len()));
                    self.kept.extend_from_slice(&piece);
                    let left = left - piece.len();
                    if left == 0 {
                        self.state = State::Head { typed: true };
                        return Ok(Some(self.kept.split().freeze()));
                    }
                    self.state = State::Whole(left);
                }
                State::Head { typed } => {
                    // Byte by byte, as a head is short.
                    self.kept.extend_from_slice(&bytes.split_to(1));
                    let piece = if typed { self.frame(&mut came)? } else { self.stream() };
                    if piece.is_some() {
                        return Ok(piece);
                    }
                }
            }
        }
        Ok(None)
    }

    /// How many bytes are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The stream has ended. Errors: it must not end here.
    pub(crate) fn end(&self) -> Result<(), BadFrame> {
        match self.state {
            State::Raw | State::Head { typed: false } => Ok(()),
            State::Head { typed: true } if self.kept.is_empty() => Ok(()),
            _ => Err(BadFrame::Cut),
        }
    }

    fn advance(&mut self, left: u64, to: impl FnOnce(u64) -> State) {
        self.state = if left == 0 { State::Head { typed: true } } else { to(left) };
    }

    /// Looks for the type of a unidirectional stream.
    fn stream(&mut self) -> Option<Bytes> {
        let mut rest = &self.kept[..];
        let kind = number(&mut rest)?;
        self.state = if kind == CONTROL { State::Head { typed: true } } else { State::Raw };
        let told = self.kept.split().freeze();
        Some(if matches!(kind, CONTROL | PUSH | ENCODER | DECODER) { told } else { Bytes::from_static(RESERVED) })
    }

    /// Looks for the head of a frame.
    fn frame(&mut self, came: &mut impl FnMut(Came)) -> Result<Option<Bytes>, BadFrame> {
        let mut rest = &self.kept[..];
        let (Some(kind), Some(length)) = (number(&mut rest), number(&mut rest)) else {
            debug_assert!(self.kept.len() < MAX_NUMBERS, "two numbers have 16 bytes at most");
            return Ok(None);
        };
        let most = if kind == HEADERS { MAX_HEAD } else { MAX_OTHER };
        match kind {
            DATA => {
                came(if length == 0 { Came::Control } else { Came::Useful });
                self.advance(length, State::Content);
                // The library does not expect empty frames of content to come alone.
                if length == 0 {
                    self.kept.clear();
                    return Ok(None);
                }
                Ok(Some(self.kept.split().freeze()))
            }
            _ if kind == HEADERS || OTHERS.contains(&kind) => {
                came(if kind == HEADERS { Came::Useful } else { Came::Control });
                let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or(BadFrame::TooLarge)?;
                if length == 0 {
                    return Ok(Some(self.kept.split().freeze()));
                }
                self.state = State::Whole(length);
                Ok(None)
            }
            _ => {
                came(Came::Control);
                self.kept.clear();
                self.advance(length, State::Dropped);
                Ok(None)
            }
        }
    }
}

/// Takes a number of variable length (RFC 9000 §16); none: it is not whole.
fn number(from: &mut &[u8]) -> Option<u64> {
    let (first, _) = from.split_first()?;
    let (number, rest) = from.split_at_checked(1 << (first >> 6))?;
    *from = rest;
    Some(number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) & (u64::MAX >> (66 - 8 * number.len())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// What comes out of a stream whose bytes come in pieces of so many, what was counted, and whether it may end.
    fn read(kind: Kind, stream: &[u8], pieces: usize) -> (Result<Vec<u8>, BadFrame>, Vec<Came>, Result<(), BadFrame>) {
        let (mut frames, mut out, mut all) = (Frames::new(kind), Vec::new(), Vec::new());
        for piece in stream.chunks(pieces) {
            let mut bytes = Bytes::copy_from_slice(piece);
            loop {
                match frames.next(&mut bytes, |came| all.push(came)) {
                    Ok(Some(piece)) => out.extend_from_slice(&piece),
                    Ok(None) => break,
                    Err(bad) => return (Err(bad), all, Ok(())),
                }
            }
        }
        (Ok(out), all, frames.end())
    }

    #[test]
    fn numbers_are_read_as_rfc_9000_shows() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            let mut rest = bytes;
            assert_eq!((number(&mut rest), rest.len()), (Some(value), 0));
            assert_eq!(number(&mut &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_request_comes_out_without_what_is_not_known_however_it_is_cut() {
        let request =
            [&[1, 3][..], b"abc", &[0, 2], b"de", &[0x40, 0x99, 4], b"junk", &[0, 0], &[0x21, 0], &[0, 1], b"f", &[1, 1, b'g']].concat();
        let known = [&[1, 3][..], b"abc", &[0, 2], b"de", &[0, 1], b"f", &[1, 1, b'g']].concat();
        use Came::{Control, Useful};
        for pieces in 1..=request.len() {
            let (out, came, end) = read(Kind::Request, &request, pieces);
            assert_eq!((out.unwrap(), end), (known.clone(), Ok(())), "{pieces}");
            assert_eq!(came, [Useful, Useful, Control, Control, Control, Useful, Useful]);
        }
        for cut in 1..request.len() {
            let whole = [5, 9, 16, 18, 20, 23].contains(&cut);
            assert_eq!(read(Kind::Request, &request[..cut], 7).2.is_ok(), whole, "{cut}");
        }
    }

    #[test]
    fn a_frame_that_is_kept_has_a_limit_and_content_has_none() {
        let headers = |length: u32| [&[1][..], &(length | 0x8000_0000).to_be_bytes()].concat();
        assert_eq!(read(Kind::Request, &headers(64 << 10), 9).0, Ok(Vec::new()));
        assert_eq!(read(Kind::Request, &headers((64 << 10) + 1), 9).0, Err(BadFrame::TooLarge));
        assert_eq!(read(Kind::Unidirectional, &[0, 4, 0x50, 1], 9).0, Err(BadFrame::TooLarge), "SETTINGS");
        let content = [&[0][..], &u64::MAX.to_be_bytes(), b"abc"].concat();
        assert_eq!(read(Kind::Request, &content, 9).0.unwrap(), content);
    }

    #[test]
    fn a_unidirectional_stream_says_what_it_is() {
        let control = [0, 4, 2, 6, 1, 0x21, 1, 9, 7, 1, 0];
        for pieces in 1..=control.len() {
            assert_eq!(read(Kind::Unidirectional, &control, pieces).0.unwrap(), [0, 4, 2, 6, 1, 7, 1, 0]);
        }
        assert_eq!(read(Kind::Unidirectional, &[2, 1, 2, 3], 1).0.unwrap(), [2, 1, 2, 3], "QPACK's have no frames");
        assert_eq!(read(Kind::Unidirectional, &[0x40, 0x54, 1, 2], 9).0.unwrap(), [0x21, 1, 2], "what is not known is one");
        assert_eq!(read(Kind::Unidirectional, &[0x40], 9).2, Ok(()), "it may end before its type (§6.2)");
    }
}
