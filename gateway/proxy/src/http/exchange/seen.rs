//! A request as its client sent it, for those who sample requests.

use http::{HeaderName, HeaderValue, header};
use sluicegate_decide::grpc;
use sluicegate_model::requests::{Early, Fields, RequestLine, Requests};
use sluicegate_model::snapshot::Listener;

use super::peer::Peer;
use crate::core::View;
use crate::h1::Framing;
use crate::http::body::RequestBody;
use crate::http::rules::deferred::Deferred;
use crate::sampled::Sampled;

/// What those want to know who sample a request; none if nobody does. The request is only read: it goes on as it would.
#[cold]
pub(super) fn sampled(
    requests: &Requests,
    request: &Deferred<'_, '_, RequestBody<'_>>,
    peer: &Peer,
    listener: &Listener,
    view: &View,
) -> Option<Box<Sampled>> {
    let (uri, headers) = (request.uri(), request.headers());
    let host = uri.authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| headers.get(header::HOST)?.to_str().ok()).unwrap_or_default();
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let early = Early { request: true, method: request.method().as_str(), host, path: target };
    Sampled::of(requests, &early, &view.snapshot, |fields| RequestLine {
        listener: listener.name.clone(),
        address: Some(listener.address),
        protocol: protocol(headers),
        server_name: peer.tls.as_ref().map(|tls| tls.server_name.clone().unwrap_or_default()),
        client: peer.address.ip().to_canonical().to_string(),
        method: early.method.to_owned(),
        host: host.to_owned(),
        target: target.to_owned(),
        version: format!("{:?}", request.version()),
        headers: kept(fields, headers.iter()),
        content_length: match request.body().framing() {
            Framing::Length(length) => Some(length),
            _ => None,
        },
        ..RequestLine::default()
    })
}

fn protocol(headers: &http::HeaderMap) -> String {
    if grpc::is_call(headers) {
        return "grpc".to_owned();
    }
    let upgrade = headers.get(header::UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    upgrade.map_or_else(|| "http".to_owned(), str::to_ascii_lowercase)
}

/// The fields whose values are kept. Host is told apart from them.
fn kept<'h>(fields: &Fields, all: impl Iterator<Item = (&'h HeaderName, &'h HeaderValue)>) -> Vec<(String, String)> {
    let kept = all.filter(|(name, _)| **name != header::HOST && fields.keep(name));
    kept.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}
