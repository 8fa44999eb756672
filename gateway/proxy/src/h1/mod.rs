//! HTTP/1.1 messages (RFC 9112), apart from sockets and from what is done with them: [`head`] reads and [`mod@write`] writes the part before the
//! content ([`fields`] holds those that nobody looks at, [`spelling`] the case of names), [`content`] reads and frames the content, [`outgoing`] holds what is to be
//! written. Where a head or the trailers end is told by [`scan`] alone.
//!
//! The code is our own, over `httparse`, rather than hyper's (gateway/README.md, "Measured"). It is also stricter where a lenient reading would let a client
//! smuggle a request, and it passes interim responses on.

mod content;
mod fields;
mod head;
mod outgoing;
mod scan;
mod spelling;
mod write;

pub(crate) use content::{Decoder, Malformed, Part, Step};
pub(crate) use fields::{Fields, RequestLines};
#[cfg(fuzzing)]
pub(crate) use head::request;
pub(crate) use head::{BadHead, Framing, Head, MAX_LENGTH, Message, Status, message, response};
pub(crate) use outgoing::Outgoing;
pub(crate) use spelling::{Case, Spellings};
pub(crate) use write::{Connection, Encoder, field, interim_head, request_head, response_head};
