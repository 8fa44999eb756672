//! Connections that become something else (RFC 9110 §7.8). Inside there is one form, HTTP/1.1's: a GET with [`Upgrade`], answered by 101.
//! Extended CONNECT (RFC 8441) is brought into it where a client's stream is taken, and out of it where a stream to an endpoint is opened; so
//! every pair of versions works, and none is known to routes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, Request, StatusCode, header};
use sha1::{Digest as _, Sha1};
use sluicegate_model::snapshot::{AppProtocol, ServicePort};

use super::answer::Reason;
use super::body::RequestBody;
use super::reply::Reply;
use super::tunnel::Idle;
use crate::h1::Framing;

const WEBSOCKET: &str = "websocket";

/// A request's extension: what its connection is to become. Only what the service allows gets here.
#[derive(Clone)]
pub(crate) struct Upgrade(pub(crate) HeaderValue);

/// A request's extension: it came as extended CONNECT, so it makes no sense without; and the key that was made for a WebSocket.
#[derive(Clone)]
pub(super) struct Connected {
    key: Option<HeaderValue>,
}

/// Notes what the request's connection is to become. An upgrade that is not allowed is not passed on, and the request is served without it; to
/// extended CONNECT there is no such answer.
pub(super) fn note(asked: Option<HeaderValue>, request: &mut Request<RequestBody<'_>>, service: &ServicePort) -> Result<(), Reason> {
    let Some(asked) = asked else { return Ok(()) };
    let offered = asked.to_str().unwrap_or_default().split(',').map(str::trim);
    let taken = offered.filter(|p| allowed(p, service)).find_map(|p| HeaderValue::from_str(p).ok());
    // Content before the switch would have to be told from what comes after it: no protocol in use has any.
    let fits = *request.method() == Method::GET && request.body().framing() == Framing::Length(0);
    match taken.filter(|_| fits) {
        Some(protocol) => drop(request.extensions_mut().insert(Upgrade(protocol))),
        None if request.extensions().get::<Connected>().is_some() => return Err(Reason::NoUpgrade),
        None => {}
    }
    Ok(())
}

/// Whether the endpoint has agreed. Errors: to something else, or it did not say to what; or it answers extended CONNECT with a success that is
/// none: its client would take that for an agreement.
pub(super) fn is_agreed<B>(
    to: Option<HeaderValue>,
    request: &Request<B>,
    response: &mut Reply<'_>,
    service: &ServicePort,
) -> Result<bool, Reason> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let lost = response.status().is_success() && request.extensions().get::<Connected>().is_some();
        return if lost { Err(Reason::NotUpgraded) } else { Ok(false) };
    }
    let asked = request.extensions().get::<Upgrade>();
    let to = to.filter(|to| asked.is_some_and(|Upgrade(asked)| asked.as_bytes().eq_ignore_ascii_case(to.as_bytes())));
    let to = to.ok_or(Reason::UpstreamBroke)?;
    // The key is ours then, so nobody else checks what it is answered with.
    if let Some(Connected { key: Some(key) }) = request.extensions().get::<Connected>()
        && response.headers_mut().get(header::SEC_WEBSOCKET_ACCEPT) != websocket_accept(key).as_ref()
    {
        return Err(Reason::UpstreamBroke);
    }
    response.headers_mut().insert(header::UPGRADE, to);
    response.extensions_mut().insert(Idle(service.settings.upgrades.idle));
    Ok(true)
}

fn allowed(protocol: &str, service: &ServicePort) -> bool {
    let websocket = protocol.eq_ignore_ascii_case(WEBSOCKET) && service.protocol == AppProtocol::Ws;
    websocket || service.settings.upgrades.allows(protocol)
}

/// What a WebSocket's server answers a key with (RFC 6455 §4.2.2).
pub(crate) fn websocket_accept(key: &HeaderValue) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

/// Makes extended CONNECT the request that HTTP/1.1 has for it.
pub(super) fn from_connect<B>(request: &mut Request<B>, protocol: &h2::ext::Protocol) -> Result<(), Reason> {
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
