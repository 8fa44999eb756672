//! What both sides of HTTP/2 (RFC 9113) share, over the library `h2`: [`incoming`] and [`outgoing`] move the content of one stream under its flow
//! control; [`guarded`] lets the library read a connection's bytes and has [`meter`] count the frames that cost much and carry nothing.
//! Clients' streams are taken in [`crate::http`], streams to endpoints are opened in [`crate::upstream`].

mod guarded;
mod incoming;
mod meter;
mod outgoing;

use http::{HeaderMap, Method, StatusCode, header};

use crate::h1::Framing;

pub(crate) use guarded::Guarded;
pub(crate) use incoming::Incoming;
pub(crate) use meter::Meter;
pub(crate) use outgoing::{NotSent, Outgoing};

/// What an HTTP/2 client begins a connection with (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A head's fields may come to so much, as HTTP/1.1's heads may.
pub(crate) const MAX_HEADER_LIST: u32 = 64 << 10;
/// What is written to a stream before its window or the socket takes it.
pub(crate) const SEND_BUFFER: usize = 64 << 10;

/// How long content is, as far as its head says. It is framed by frames, so a length is no need; `ended`: there is none.
pub(crate) fn framing(headers: &HeaderMap, ended: bool) -> Framing {
    if ended {
        return Framing::Length(0);
    }
    // The library has checked that it is a number, and holds the content to it.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    length.map_or(Framing::Chunked, Framing::Length)
}

/// Whether a response has no content by its nature (RFC 9110 §6.4.1).
pub(crate) fn is_bare(to: &Method, status: StatusCode) -> bool {
    *to == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}
