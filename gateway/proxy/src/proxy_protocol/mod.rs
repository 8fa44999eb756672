//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>): how a proxy tells the next hop for
//! whom it speaks. [`parse()`] and [`write()`] are pure; [`receive()`] waits for a header on a connection.
//!
//! It is written here, rather than taken from the crate `ppp`, which reads and writes both versions well, but knows no checksum; and as a header may come in
//! pieces, it would have to be asked twice at each piece, once for each version.

mod parse;
mod receive;
mod write;

use std::net::SocketAddr;

pub(crate) use parse::{Malformed, Parsed, parse};
pub(crate) use receive::receive;
pub(crate) use write::write;

/// The first bytes of version 2. They are chosen so that what does not know them fails.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const WORD: &[u8] = b"PROXY ";
/// The length of the fixed part: signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// The length of the two paths of a UNIX family.
const PATHS: usize = 216;
/// The longest header that is read, in bytes. The names in certificates and the identifiers of load balancers come to some hundreds of bytes.
const MOST: usize = 4096;
/// The type `PP2_TYPE_CRC32C`.
const TYPE_CHECKSUM: u8 = 0x03;
/// The type `PP2_TYPE_NOOP`, which is padding.
const TYPE_NOOP: u8 = 0x04;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ends: Ends,
    /// Types, lengths and values, one after the other. Checksum and padding are left out, as they belong to one header.
    pub(crate) tlvs: Vec<u8>,
    /// Whether it had a checksum. Then the next hop gets one, too.
    pub(crate) checksum: bool,
}

/// The ends of the connection for which a proxy speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The proxy speaks for itself (`LOCAL`), or does not say: the socket's own addresses count.
    Own,
    Inet {
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// Two paths, as they came. The addresses of the socket count here, and the next hop is told the paths.
    Unix(Box<[u8; PATHS]>),
}

/// CRC-32C (RFC 3720 §12.1), bit by bit: it is computed over some hundred bytes once a connection, if at all.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

/// The pieces of a block of TLVs: where each begins, its type and its value. It ends early, with an error, if a length leads beyond the block.
fn tlvs(block: &[u8]) -> impl Iterator<Item = Result<(usize, u8, &[u8]), Malformed>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = block.get(at..).filter(|rest| !rest.is_empty())?;
        let begins = at;
        let piece = match rest {
            [kind, high, low, after @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                at += 3 + length;
                after.get(..length).map(|value| (begins, *kind, value)).ok_or(Malformed::Tlv)
            }
            _ => Err(Malformed::Tlv),
        };
        if piece.is_err() {
            at = block.len();
        }
        Some(piece)
    })
}

#[cfg(test)]
mod tests;
