//! L7: HTTP, request by request.
//!
//! [`connection`] reads requests off a [`client`]'s HTTP/1.1 connection, until it is told to close ([`closing`]); [`streams`] takes them off an
//! HTTP/2 connection, each in a [`stream`]. Either way [`exchange`] takes them through their phases: [`arrival`], host, route, static answers
//! ([`redirect`], [`cors`]), pick, head ([`headers`], [`redirect::rewrite`], [`upgrade`]), [`mirror`], [`send`], stream back ([`body`]), or bytes
//! both ways ([`tunnel`]). What the gateway answers itself stands in [`answer`]; what is different for gRPC in [`grpc`].

mod answer;
mod arrival;
mod body;
mod client;
mod closing;
mod connection;
mod cors;
mod deadline;
mod exchange;
mod forwarded;
mod grpc;
mod headers;
mod host;
mod identify;
mod kept;
mod limit;
mod mirror;
mod redirect;
mod reply;
mod retry;
mod send;
mod stream;
mod streams;
mod target;
mod tunnel;
mod upgrade;

pub(crate) use answer::WORDS;
pub(crate) use body::{BodyError, RequestBody};
pub(crate) use closing::Closings;
pub(crate) use connection::serve;
pub(crate) use forwarded::Marks;
pub(crate) use upgrade::{Upgrade, websocket_accept};
