//! Reads a header: a pure function of the bytes that have come so far.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Ends, FIXED, Header, MOST, PATHS, SIGNATURE, TYPE_CHECKSUM, TYPE_NOOP, WORD, crc32c, tlvs};

/// The longest line of version 1, with its end (§2.1).
const LINE: usize = 107;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// They are the beginning of a header, or there are none.
    More,
    /// They are not a header.
    Other,
    /// They are a header, which takes so many bytes.
    Header(Header, usize),
}

/// Why a header is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("its line is longer than 107 bytes")]
    LongLine,
    #[error("its line does not say PROXY, a family, two addresses and two ports, with single spaces, and end by CR LF")]
    Line,
    #[error("it is longer than {MOST} bytes")]
    TooLong,
    #[error("its version or command is unknown")]
    Version,
    #[error("its family or transport is unknown, or not that of a connection")]
    Family,
    #[error("it is shorter than its addresses")]
    Short,
    #[error("one of its TLVs leads beyond its end")]
    Tlv,
    #[error("its checksum is wrong")]
    Checksum,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if bytes.starts_with(WORD) {
        return line(bytes);
    }
    if bytes.starts_with(SIGNATURE) {
        return binary(bytes);
    }
    Ok(if WORD.starts_with(bytes) || SIGNATURE.starts_with(bytes) { Parsed::More } else { Parsed::Other })
}

/// Reads version 1 (§2.1).
fn line(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let window = &bytes[..bytes.len().min(LINE)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < LINE { Ok(Parsed::More) } else { Err(Malformed::LongLine) };
    };
    let text = window[WORD.len()..end].strip_suffix(b"\r").and_then(|text| std::str::from_utf8(text).ok()).ok_or(Malformed::Line)?;
    let mut words = text.split(' ');
    let ends = match words.next() {
        // The rest of the line is not looked at (§2.1).
        Some("UNKNOWN") => Ends::Own,
        Some("TCP4") => addresses::<Ipv4Addr>(words)?,
        Some("TCP6") => addresses::<Ipv6Addr>(words)?,
        _ => return Err(Malformed::Line),
    };
    Ok(Parsed::Header(Header { ends, tlvs: Vec::new(), checksum: false }, end + 1))
}

fn addresses<'a, A: FromStr + Into<IpAddr>>(mut words: impl Iterator<Item = &'a str>) -> Result<Ends, Malformed> {
    let mut address = || -> Option<IpAddr> { words.next()?.parse::<A>().ok().map(Into::into) };
    let (source, destination) = (address().ok_or(Malformed::Line)?, address().ok_or(Malformed::Line)?);
    let mut port = || words.next().and_then(port).ok_or(Malformed::Line);
    let ends = Ends::Inet { source: SocketAddr::new(source, port()?), destination: SocketAddr::new(destination, port()?) };
    if words.next().is_some() { Err(Malformed::Line) } else { Ok(ends) }
}

/// Reads a port, without the sign and the leading zeros that `parse` would take.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| plain)
}

/// Reads version 2 (§2.2).
fn binary(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some(&[version, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else { return Ok(Parsed::More) };
    if version >> 4 != 2 || version & 0xF > 1 {
        return Err(Malformed::Version);
    }
    let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if whole > MOST {
        return Err(Malformed::TooLong);
    }
    let Some(header) = bytes.get(..whole) else { return Ok(Parsed::More) };
    let body = &header[FIXED..];
    if version & 0xF == 0 {
        // With LOCAL the rest is skipped, whatever it is.
        return Ok(Parsed::Header(Header { ends: Ends::Own, tlvs: Vec::new(), checksum: false }, whole));
    }
    // A connection cannot have the header of a datagram.
    if family & 0xF > 1 || family >> 4 > 3 {
        return Err(Malformed::Family);
    }
    let (ends, taken) = match family >> 4 {
        0 => (Ends::Own, 0),
        1 => inet::<4>(body)?,
        2 => inet::<16>(body)?,
        _ => (Ends::Unix(Box::new(*body.first_chunk::<PATHS>().ok_or(Malformed::Short)?)), PATHS),
    };
    // An unspecified family has no addresses, or unknown ones, from which what follows cannot be told.
    match extra(header, FIXED + taken) {
        Err(Malformed::Tlv) if ends == Ends::Own => Ok(Parsed::Header(Header { ends, tlvs: Vec::new(), checksum: false }, whole)),
        Err(error) => Err(error),
        Ok((tlvs, checksum)) => Ok(Parsed::Header(Header { ends, tlvs, checksum }, whole)),
    }
}

/// Reads two addresses of `N` bytes, then two ports.
fn inet<const N: usize>(body: &[u8]) -> Result<(Ends, usize), Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let short = Malformed::Short;
    let (source, rest) = body.split_first_chunk::<N>().ok_or(short)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(short)?;
    let (&[a, b, c, d], _) = rest.split_first_chunk::<4>().ok_or(short)?;
    let source = SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b]));
    let destination = SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d]));
    Ok((Ends::Inet { source, destination }, 2 * N + 4))
}

/// The TLVs that are kept, and whether there was a checksum, which is verified.
fn extra(header: &[u8], from: usize) -> Result<(Vec<u8>, bool), Malformed> {
    let (mut kept, mut checksum) = (Vec::new(), false);
    for piece in tlvs(&header[from..]) {
        match piece? {
            (_, TYPE_NOOP, _) => {}
            (at, TYPE_CHECKSUM, value) => {
                let sum = <[u8; 4]>::try_from(value).map_err(|_| Malformed::Checksum)?;
                let field = from + at + 3..from + at + 7;
                // The checksum is that of the whole header, with zeros in the checksum's place (§2.2.3).
                let blank = header.iter().enumerate().map(|(i, byte)| if field.contains(&i) { 0 } else { *byte });
                if checksum || crc32c(blank) != u32::from_be_bytes(sum) {
                    return Err(Malformed::Checksum);
                }
                checksum = true;
            }
            (_, kind, value) => {
                kept.push(kind);
                kept.extend_from_slice(&u16::try_from(value.len()).map_err(|_| Malformed::Tlv)?.to_be_bytes());
                kept.extend_from_slice(value);
            }
        }
    }
    Ok((kept, checksum))
}
