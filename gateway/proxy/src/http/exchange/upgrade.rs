//! Whether a connection may become another protocol, and whether its endpoint has agreed. The rules are in [`rules::upgrade`](crate::http::rules::upgrade).

use http::{HeaderValue, Method, Request, StatusCode, header};
use sluicegate_decide::answer::Reason;
use sluicegate_model::snapshot::{AppProtocol, ServicePort};

use super::reply::Reply;
use crate::h1::Framing;
use crate::http::body::RequestBody;
use crate::http::rules::upgrade::{Connected, Idle, Upgrade, WEBSOCKET, websocket_accept};

/// Notes what the request's connection is to become. An upgrade that is not allowed is not passed on, and the request is served without it. Extended CONNECT
/// cannot be answered so.
pub(in crate::http) fn note(
    asked: Option<HeaderValue>,
    request: &mut Request<RequestBody<'_>>,
    service: &ServicePort,
) -> Result<(), Reason> {
    let Some(asked) = asked else { return Ok(()) };
    let offered = asked.to_str().unwrap_or_default().split(',').map(str::trim);
    let taken = offered.filter(|p| allowed(p, service)).find_map(|p| HeaderValue::from_str(p).ok());
    // Content before the switch would have to be told from what comes after it. No protocol in use has any.
    let fits = *request.method() == Method::GET && request.body().framing() == Framing::Length(0);
    match taken.filter(|_| fits) {
        Some(protocol) => drop(request.extensions_mut().insert(Upgrade(protocol))),
        None if request.extensions().get::<Connected>().is_some() => return Err(Reason::NoUpgrade),
        None => {}
    }
    Ok(())
}

/// Whether the endpoint has agreed. Errors: it has agreed to something else, or did not say to what; or it answers extended CONNECT with another success, which
/// the client would take for an agreement.
pub(in crate::http) fn is_agreed<B>(
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
    let to = to.ok_or(Reason::BadResponse)?;
    // The gateway has made the key, so nobody else checks the answer to it.
    if let Some(Connected { key: Some(key) }) = request.extensions().get::<Connected>()
        && response.headers_mut().get(header::SEC_WEBSOCKET_ACCEPT) != websocket_accept(key).as_ref()
    {
        return Err(Reason::BadResponse);
    }
    response.headers_mut().insert(header::UPGRADE, to);
    response.extensions_mut().insert(Idle(service.settings.upgrades.idle));
    Ok(true)
}

fn allowed(protocol: &str, service: &ServicePort) -> bool {
    let websocket = protocol.eq_ignore_ascii_case(WEBSOCKET) && service.protocol == AppProtocol::Ws;
    websocket || service.settings.upgrades.allows(protocol)
}
