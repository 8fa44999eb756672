//! Forwarding headers: the fields that tell the next hop of the client.

use std::cell::OnceCell;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Request};

use super::loops;
use crate::h1;

pub(in crate::http) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(in crate::http) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(in crate::http) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(in crate::http) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// `X-Forwarded-*` for a request whose client is not believed. While nobody looks at its fields, they are not among these but are written behind them, which
/// saves as much as all other changes of a head cost.
#[derive(Clone, Copy)]
pub(crate) struct Forwarding<'p> {
    /// The address of who connected.
    pub(in crate::http) client: &'p HeaderValue,
    /// The scheme that the client used.
    pub(in crate::http) scheme: &'static str,
    /// The port that the client connected to.
    pub(in crate::http) port: &'p HeaderValue,
    /// Whether this pass is still to be added to those that the fields tell of: see [`loops`].
    pub(in crate::http) loops: bool,
    /// All these as they are written, but for the host. They are made once for the connection.
    pub(in crate::http) written: &'p OnceCell<Box<[u8]>>,
}

impl Forwarding<'_> {
    /// Puts the headers among the fields.
    pub(crate) fn put<B>(self, request: &mut Request<B>) {
        let host = host(request);
        self.each(host.as_ref(), |name, value| drop(request.headers_mut().insert(name, value.clone())));
    }

    /// Gives each of the headers. `host`: the request's.
    pub(crate) fn each(self, host: Option<&HeaderValue>, mut take: impl FnMut(HeaderName, &HeaderValue)) {
        let Self { client, scheme, port, loops, .. } = self;
        if loops {
            take(loops::CDN_LOOP, loops::name());
        }
        take(X_FORWARDED_FOR, client);
        take(X_FORWARDED_PROTO, &HeaderValue::from_static(scheme));
        take(X_FORWARDED_PORT, port);
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            take(X_FORWARDED_HOST, host);
        }
    }

    /// Writes the headers. `host`: the request's.
    pub(crate) fn write(self, out: &mut Vec<u8>, host: &[u8]) {
        let lines = |loops| {
            let mut lines = Vec::new();
            Self { loops, ..self }.each(None, |name, value| h1::field(&mut lines, &name, value));
            lines.into_boxed_slice()
        };
        if self.loops {
            out.extend_from_slice(self.written.get_or_init(|| lines(true)));
        } else {
            out.extend_from_slice(&lines(false));
        }
        if !host.is_empty() {
            for piece in [X_FORWARDED_HOST.as_str().as_bytes(), b": ", host, b"\r\n"] {
                out.extend_from_slice(piece);
            }
        }
    }
}

/// The host that a request is for.
pub(in crate::http) fn host<B>(request: &Request<B>) -> Option<HeaderValue> {
    request.headers().get(HOST).filter(|host| !host.is_empty()).cloned()
}
