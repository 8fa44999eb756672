//! Takes content out of its framing (RFC 9112 §6, §7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::{Framing, MAX_LENGTH};
use super::scan::{self, BadLine};

/// The longest size line of a chunk, with its extensions, in bytes.
const MAX_SIZE_LINE: usize = 1 << 10;
/// The longest trailer section, in bytes.
const MAX_TRAILERS: usize = 16 << 10;
const MAX_TRAILER_FIELDS: usize = 32;

/// A part of a message's content.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Data(Bytes),
    /// The trailers, which come after the last data.
    Trailers(HeaderMap),
}

/// Why content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it is shorter or longer than it says")]
    Length,
    #[error("a chunk is malformed, or its size line is longer than 1 KiB")]
    Chunk,
    #[error("the trailers are malformed, or more than 16 KiB or 32 fields")]
    Trailers,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Step {
    Part(Part),
    End,
    /// More bytes are needed.
    More,
}

/// Where in the content the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are left; 0: it is the end.
    Length(u64),
    UntilClose,
    /// A size line comes next.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line end of a chunk comes next.
    ChunkEnd,
    /// Trailers come next, or the empty line that is all of them; so many bytes were looked at in vain.
    Trailers(usize),
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

    /// The connection has ended. Checks that the content has, too.
    pub(crate) fn close(&mut self) -> Result<(), Malformed> {
        match self {
            Self::Length(0) => Ok(()),
            Self::UntilClose => {
                *self = Self::Length(0);
                Ok(())
            }
            _ => Err(Malformed::Length),
        }
    }

    /// Checks that what has come of chunks, from the first size on, is well formed. Nothing is taken.
    pub(crate) fn look(self, mut buffer: &[u8]) -> Result<(), Malformed> {
        if self != Self::Size {
            return Ok(());
        }
        while let Some((size, length)) = size(buffer)? {
            buffer = &buffer[length..];
            if size == 0 {
                return trailers(buffer, 0).map(drop);
            }
            let Some(rest) = usize::try_from(size).ok().and_then(|size| buffer.get(size..)) else { break };
            if !is_chunk_end(rest)? {
                break;
            }
            buffer = &rest[2..];
        }
        Ok(())
    }

    /// Takes off the buffer what can be taken.
    pub(crate) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self {
                Self::Length(0) => return Ok(Step::End),
                Self::Length(left) => return Ok(take(buffer, left).map_or(Step::More, Step::Part)),
                Self::UntilClose => return Ok(take(buffer, &mut u64::MAX.clone()).map_or(Step::More, Step::Part)),
                Self::Size => {
                    let Some((size, length)) = size(buffer)? else { return Ok(Step::More) };
                    buffer.advance(length);
                    *self = if size == 0 { Self::Trailers(0) } else { Self::Chunk(size) };
                }
                Self::Chunk(0) => *self = Self::ChunkEnd,
                Self::Chunk(left) => return Ok(take(buffer, left).map_or(Step::More, Step::Part)),
                Self::ChunkEnd => {
                    if !is_chunk_end(buffer)? {
                        return Ok(Step::More);
                    }
                    buffer.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers(seen) => {
                    let Some((trailers, length)) = trailers(buffer, *seen)? else {
                        *seen = buffer.len();
                        return Ok(Step::More);
                    };
                    buffer.advance(length);
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

/// The size in a size line, and the line's length with its end; none: the line has not come.
fn size(buffer: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let start = &buffer[..buffer.len().min(MAX_SIZE_LINE)];
    let Some(at) = memchr::memchr(b'\n', start) else {
        // What is wrong already need not be waited for.
        let (last, before) = start.split_last().map_or((None, start), |(last, before)| (Some(last), before));
        let fits = before.iter().all(|b| is_text(*b)) && last.is_none_or(|b| is_text(*b) || *b == b'\r');
        return if fits && buffer.len() < MAX_SIZE_LINE { Ok(None) } else { Err(Malformed::Chunk) };
    };
    let line = start[..at].strip_suffix(b"\r").ok_or(Malformed::Chunk)?;
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (number, mut extensions) = line.split_at(digits);
    while !extensions.is_empty() {
        extensions = extension(extensions).ok_or(Malformed::Chunk)?;
    }
    let size = number.iter().fold(0, |size, digit| size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default()));
    if digits == 0 || digits > 16 || size > MAX_LENGTH { Err(Malformed::Chunk) } else { Ok(Some((size, at + 1))) }
}

/// What follows an extension of a chunk, `BWS ";" BWS name [ BWS "=" BWS value ]` (§7.1.1); none: it is malformed. Extensions are left out, as they are of
/// one hop. A malformed one might be read otherwise by somebody else.
fn extension(line: &[u8]) -> Option<&[u8]> {
    let rest = token(skip_spaces(skip_spaces(line).strip_prefix(b";")?))?;
    let Some(value) = skip_spaces(rest).strip_prefix(b"=").map(skip_spaces) else { return Some(rest) };
    let Some(mut quoted) = value.strip_prefix(b"\"") else { return token(value) };
    loop {
        quoted = match quoted {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text(*escaped) => rest,
            [b'\\', ..] | [] => return None,
            [byte, rest @ ..] => is_text(*byte).then_some(rest)?,
        };
    }
}

/// What follows a token, which has at least one character (RFC 9110 §5.6.2).
fn token(text: &[u8]) -> Option<&[u8]> {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let length = text.iter().take_while(|b| is_token(b)).count();
    (length > 0).then(|| &text[length..])
}

/// Skips white space, of which RFC 9110 §5.6.3 has only these two.
fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &text[spaces..]
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether the line end behind a chunk's data is there.
fn is_chunk_end(buffer: &[u8]) -> Result<bool, Malformed> {
    let end = &buffer[..buffer.len().min(2)];
    if b"\r\n".starts_with(end) { Ok(end.len() == 2) } else { Err(Malformed::Chunk) }
}

/// The trailer section and its length, if all of it is here.
fn trailers(buffer: &[u8], seen: usize) -> Result<Option<(HeaderMap, usize)>, Malformed> {
    let length = match scan::trailers(buffer, seen).map_err(|BadLine| Malformed::Trailers)? {
        Some(length) if length <= MAX_TRAILERS => length,
        None if buffer.len() < MAX_TRAILERS => return Ok(None),
        _ => return Err(Malformed::Trailers),
    };
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&buffer[..length], &mut fields) else {
        return Err(Malformed::Trailers);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed::Trailers)?;
        trailers.append(name, value);
    }
    Ok(Some((trailers, length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Decodes `coded`, given in pieces of `piece` bytes: the data, the number of trailers, and what is left over.
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
        let coded = b"3;a\r\nabc\r\nA ; x = \"y;\\\"\" ;z=1\r\n0123456789\r\n000\r\nx-sum: 1\r\nx-own: 9\r\n\r\nGET";
        for piece in 1..=coded.len() {
            assert_eq!(decode(coded, piece), Ok((b"abc0123456789".to_vec(), 2, 3)), "pieces of {piece}");
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
            "3\r;a\r\nabc\r\n0\r\n\r\n",
            "3\r\r\nabc\r\n0\r\n\r\n",
            "3\u{c}\r\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "3;a=\"b\r\nabc\r\n0\r\n\r\n",
            "3;a=\"b\\\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\r\nx: 1\n\r\n",
            "3\r\nabc\r\n0\r\nx: 1\r\n\n",
            "3\r\nabc\r\n0\r\n\r\r\n",
            "8000000000000000\r\n",
        ] {
            for piece in [1, 2, 3, coded.len()] {
                assert!(decode(coded.as_bytes(), piece).is_err(), "{coded:?} in pieces of {piece}");
            }
        }
        assert_eq!(decode(format!("3;{}", "x".repeat(MAX_SIZE_LINE)).as_bytes(), 100), Err(Malformed::Chunk));
        // The limit is the same however they arrive, with or without their end.
        let trailers = format!("0\r\nx: {}\r\n\r\n", "x".repeat(MAX_TRAILERS));
        for piece in [1, 100, 4096, trailers.len()] {
            assert_eq!(decode(trailers.as_bytes(), piece), Err(Malformed::Trailers), "in pieces of {piece}");
        }
        let most = format!("0\r\nx: {}\r\n\r\n", "x".repeat(MAX_TRAILERS - 7));
        assert!([1, most.len()].iter().all(|piece| decode(most.as_bytes(), *piece).is_ok()));
    }

    #[test]
    fn a_length_is_kept_to() {
        let (mut buffer, mut decoder) = (BytesMut::from("abcdef"), Decoder::from(Framing::Length(4)));
        assert!(matches!(decoder.step(&mut buffer), Ok(Step::Part(Part::Data(data))) if data == "abcd"));
        assert!(decoder.is_end() && matches!(decoder.step(&mut buffer), Ok(Step::End)));
        assert_eq!(buffer, "ef");
        assert_eq!(Decoder::Length(1).close(), Err(Malformed::Length));
    }
}
