//! L7: HTTP/1.1, request by request.
//!
//! [`connection`] reads requests off a [`client`]'s connection, until it is told to close ([`closing`]); [`exchange`] takes each through its phases: host, route, static answers ([`redirect`],
//! [`cors`]), pick, head ([`headers`], [`redirect::rewrite`]), [`mirror`], send ([`crate::upstream`]), stream back ([`body`]). What the
//! gateway answers itself stands in [`answer`].

mod answer;
mod body;
mod client;
mod closing;
mod connection;
mod cors;
mod exchange;
mod headers;
mod mirror;
mod redirect;
mod send;

pub(crate) use answer::WORDS;
pub(crate) use body::{BodyError, RequestBody};
pub(crate) use closing::Closings;
pub(crate) use connection::serve;
