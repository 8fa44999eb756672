//! What both sides of HTTP/2 (RFC 9113) share, over the library `h2`. [`incoming`] and [`outgoing`] move the content of one stream under its flow control.
//! [`guarded`] lets the library read and write a connection's bytes, and has [`meter`] count the [`frames`] that cost much and carry nothing. [`fragments`] has
//! refused what the library would let pass. Clients' streams are taken in [`crate::http`]; streams to endpoints are opened in `http::upstream`.

mod allowance;
mod fragments;
mod frames;
mod guarded;
mod incoming;
mod meter;
mod outgoing;

use http::{HeaderMap, Method, StatusCode, header};

use crate::h1::{BadHead, Framing, MAX_LENGTH};

pub(crate) use allowance::{FAULTS, Peer};
pub(crate) use guarded::Guarded;
pub(crate) use incoming::Incoming;
use meter::SMALL_FRAMES;
pub(crate) use meter::{Meter, REMEMBERED};
pub(crate) use outgoing::{NotSent, Outgoing};

/// The preface with which an HTTP/2 client begins a connection (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest size of a head's fields, in bytes, which is that of HTTP/1.1's heads.
pub(crate) const MAX_HEADER_LIST: u32 = 64 << 10;
/// How many bytes are written to a stream before its window or the socket takes them.
pub(crate) const SEND_BUFFER: usize = 64 << 10;

/// The library's budget for small frames of content that wait, each of which counts as 256 bytes. `window`: the connection's.
pub(crate) fn small_frames(window: u32) -> usize {
    usize::try_from(window).unwrap_or(usize::MAX).saturating_mul(SMALL_FRAMES)
}

/// How long content is, as far as its head says. Frames delimit it, so a length is not needed. `ended`: there is no content. Errors: the head says what HTTP/1.1's
/// heads may not say either. The library has checked that the first length is a number, and holds the content to it.
pub(crate) fn framing(headers: &HeaderMap, ended: bool) -> Result<Framing, BadHead> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(length), None) => length.to_str().ok().and_then(|v| v.parse().ok()).filter(|length| *length <= MAX_LENGTH),
        (Some(_), Some(_)) => return Err(BadHead::Framing),
    };
    match (ended, length) {
        (_, None) if headers.contains_key(header::CONTENT_LENGTH) => Err(BadHead::Framing),
        (true, _) => Ok(Framing::Length(0)),
        (false, length) => Ok(length.map_or(Framing::Chunked, Framing::Length)),
    }
}

/// Whether a response has no content by its nature (RFC 9110 §6.4.1).
pub(crate) fn is_bare(to: &Method, status: StatusCode) -> bool {
    *to == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}
