//! Connections that become another protocol (RFC 9110 §7.8). Inside there is one form, that of HTTP/1.1: a GET with [`Upgrade`], answered by 101. Extended
//! CONNECT (RFC 8441) is brought into it where a client's stream is taken, and out of it where a stream to an endpoint is opened. So every pair of versions
//! works, and routes need not know of it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, Request, header};
use sha1::{Digest as _, Sha1};
use sluicegate_decide::answer::Reason;

pub(in crate::http) const WEBSOCKET: &str = "websocket";

/// A request's extension: what its connection is to become. Only what the service allows stands here.
#[derive(Clone)]
pub(crate) struct Upgrade(pub(crate) HeaderValue);

/// A request's extension: it came as extended CONNECT, so it makes no sense without the upgrade; and the key that was made for a WebSocket.
#[derive(Clone)]
pub(in crate::http) struct Connected {
    pub(in crate::http) key: Option<HeaderValue>,
}

/// A response's extension, with 101: how long the connection may be silent; none: for ever.
#[derive(Clone, Copy)]
pub(in crate::http) struct Idle(pub(in crate::http) Option<Duration>);

/// What a WebSocket's server answers a key with (RFC 6455 §4.2.2).
pub(crate) fn websocket_accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

/// Makes of extended CONNECT the request that HTTP/1.1 has for it.
pub(in crate::http) fn from_connect<B>(request: &mut Request<B>, protocol: &h2::ext::Protocol) -> Result<(), Reason> {
    let protocol = HeaderValue::from_str(protocol.as_str()).map_err(|_| Reason::BadRequest)?;
    *request.method_mut() = Method::GET;
    let websocket = protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
    let key = websocket.then(|| HeaderValue::from_str(&STANDARD.encode(rand::random::<[u8; 16]>())).ok()).flatten();
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
    if let Some(key) = &key {
        headers.insert(header::SEC_WEBSOCKET_KEY, key.clone());
    }
    request.extensions_mut().insert(Connected { key });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_rfc_6455_shows() {
        let accept = websocket_accept(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept, Some(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    }
}
