//! Takes content out of its framing (RFC 9112 §6, §7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::head::Framing;

/// A chunk's size line, with its extensions, may have so many bytes.
const MAX_SIZE_LINE: usize = 1 << 10;
/// A trailer section, likewise.
const MAX_TRAILERS: usize = 16 << 10;
const MAX_TRAILER_FIELDS: usize = 32;

/// A part of a message's content.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Data(Bytes),
    /// After the last data.
    Trailers(HeaderMap),
}

/// The framing of content is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the framing of the content is broken")]
pub(crate) struct Malformed;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    Part(Part),
    End,
    /// More bytes are needed.
    More,
}

/// Where in the content reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are left; 0: the end.
    Length(u64),
    UntilClose,
    /// A size line comes.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// A chunk's line end comes.
    ChunkEnd,
    Trailers,
}

impl From<Framing> for Decoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Size,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

impl Decoder {
    pub(crate) fn is_end(&self) -> bool {
        *self == Self::Length(0)
    }

    /// The connection has ended: whether the content has, too.
    pub(crate) fn close(&mut self) -> Result<(), Malformed> {
        match self {
            Self::Length(0) => Ok(()),
            Self::UntilClose => {
                *self = Self::Length(0);
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// Takes what it can off the buffer.
    pub(crate) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self {
                Self::Length(0) => return Ok(Step::End),
                Self::Length(left) => return Ok(take(buffer, left).map_or(Step::More, Step::Part)),
                Self::UntilClose => return Ok(take(buffer, &mut u64::MAX.clone()).map_or(Step::More, Step::Part)),
                Self::Size => match line(buffer, MAX_SIZE_LINE)? {
                    None => return Ok(Step::More),
                    Some(end) => {
                        let size = size(&buffer[..end])?;
                        buffer.advance(end + 2);
                        *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                    }
                },
                Self::Chunk(0) => *self = Self::ChunkEnd,
                Self::Chunk(left) => return Ok(take(buffer, left).map_or(Step::More, Step::Part)),
                Self::ChunkEnd => {
                    if buffer.len() < 2 {
                        return if b"\r\n".starts_with(buffer) { Ok(Step::More) } else { Err(Malformed) };
                    }
                    if !buffer.starts_with(b"\r\n") {
                        return Err(Malformed);
                    }
                    buffer.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(Step::More) };
                    *self = Self::Length(0);
                    if !trailers.is_empty() {
                        return Ok(Step::Part(Part::Trailers(trailers)));
                    }
                }
            }
        }
    }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Option<Part> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= count as u64;
    (count > 0).then(|| Part::Data(buffer.split_to(count).freeze()))
}

/// Where the first line ends.
fn line(buffer: &[u8], most: usize) -> Result<Option<usize>, Malformed> {
    match memchr::memchr(b'\n', &buffer[..buffer.len().min(most)]) {
        Some(at) if at > 0 && buffer[at - 1] == b'\r' => Ok(Some(at - 1)),
        Some(_) => Err(Malformed),
        None if buffer.len() >= most => Err(Malformed),
        None => Ok(None),
    }
}

/// `chunk-size [ chunk-ext ]`. Extensions are left out: they are of one hop (§7.1.1).
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    let rest = rest.trim_ascii_start();
    let extension = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest.starts_with(b";")) || !rest.iter().all(extension) {
        return Err(Malformed);
    }
    Ok(number.iter().fold(0, |size, digit| size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default())))
}

/// The trailer section, if all of it is here; without fields that frame, route or authenticate.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let httparse::Status::Complete((length, fields)) = httparse::parse_headers(buffer, &mut fields).map_err(|_| Malformed)? else {
        return if buffer.len() < MAX_TRAILERS { Ok(None) } else { Err(Malformed) };
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?;
        trailers.append(name, value);
    }
    forbid_in_trailers(&mut trailers);
    buffer.advance(length);
    Ok(Some(trailers))
}

/// Removes what has no business in a trailer section (RFC 9110 §6.5.1).
pub(crate) fn forbid_in_trailers(trailers: &mut HeaderMap) {
    for name in FORBIDDEN {
        trailers.remove(name);
    }
}

const FORBIDDEN: [HeaderName; 10] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::CONNECTION,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Decodes `coded`, given in pieces of `piece` bytes; the data, the trailers' count, and what is left over.
    fn decode(coded: &[u8], piece: usize) -> Result<(Vec<u8>, usize, usize), Malformed> {
        let (mut buffer, mut decoder) = (BytesMut::new(), Decoder::from(Framing::Chunked));
        let (mut data, mut trailers) = (Vec::new(), 0);
        for piece in coded.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.step(&mut buffer)? {
                    Step::Part(Part::Data(part)) => data.extend_from_slice(&part),
                    Step::Part(Part::Trailers(fields)) => trailers += fields.len(),
                    Step::More | Step::End => break,
                }
            }
        }
        decoder.close().map(|()| (data, trailers, buffer.len()))
    }

    #[test]
    fn chunks_in_any_pieces() {
        let coded = b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n000\r\nx-sum: 1\r\ncontent-length: 9\r\n\r\nGET";
        for piece in 1..=coded.len() {
            assert_eq!(decode(coded, piece), Ok((b"abc0123456789".to_vec(), 1, 3)), "pieces of {piece}");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for coded in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "-1\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            "\r\nabc",
            "3 4\r\nabc\r\n0\r\n\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "11111111111111111\r\n",
            "3\r\nab",
            "0\r\n",
            "0\r\nx y: 1\r\n\r\n",
        ] {
            assert_eq!(decode(coded.as_bytes(), 1), Err(Malformed), "{coded:?}");
        }
        assert_eq!(decode(format!("3;{}", "x".repeat(MAX_SIZE_LINE)).as_bytes(), 100), Err(Malformed));
        assert_eq!(decode(format!("0\r\nx: {}", "x".repeat(MAX_TRAILERS)).as_bytes(), 100), Err(Malformed));
    }

    #[test]
    fn a_length_is_kept_to() {
        let (mut buffer, mut decoder) = (BytesMut::from("abcdef"), Decoder::from(Framing::Length(4)));
        assert!(matches!(decoder.step(&mut buffer), Ok(Step::Part(Part::Data(data))) if data == "abcd"));
        assert!(decoder.is_end() && matches!(decoder.step(&mut buffer), Ok(Step::End)));
        assert_eq!(buffer, "ef");
        assert_eq!(Decoder::Length(1).close(), Err(Malformed));
    }
}
