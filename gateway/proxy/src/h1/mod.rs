//! HTTP/1.1 messages (RFC 9112), apart from sockets and from what is done with them: [`head`] reads and [`mod@write`] writes the part before the
//! content ([`fields`] holds a response's), [`content`] reads and frames the content, [`outgoing`] holds what is to be written.
//!
//! Our own, over `httparse`, instead of hyper's: gateway/README.md, "Measured". It is also stricter where a lenient reading would let a client
//! smuggle a request, and passes interim responses on.

mod content;
mod fields;
mod head;
mod outgoing;
mod write;

pub(crate) use content::{Decoder, Malformed, Part, Step, forbid_in_trailers};
pub(crate) use fields::Fields;
pub(crate) use head::{BadHead, Framing, Head, Status, request, response};
pub(crate) use outgoing::Outgoing;
pub(crate) use write::{Connection, Encoder, field, interim_head, request_head, response_head};
