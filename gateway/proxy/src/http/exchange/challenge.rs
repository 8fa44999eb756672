//! Answers a CA that validates a name by HTTP-01 (RFC 8555 §8.3), while an order of that name runs.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use sluicegate_decide::answer::{LocalReply, Why};
use sluicegate_model::tls::Acme;

use crate::http::rules::deferred::Deferred;

/// The key authorization, if the request asks for one. All other requests go their way, also those below the same path: an endpoint may have orders of its own.
pub(super) fn answer<B>(acme: &Acme, request: &Deferred<'_, '_, B>) -> Option<Box<LocalReply>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let authorization = acme.http(&request.host()?, request.uri().path())?;
    let mut response = Response::new(Bytes::copy_from_slice(authorization.as_bytes()));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, const { HeaderValue::from_static("application/octet-stream") });
    fields.insert(header::CACHE_CONTROL, const { HeaderValue::from_static("no-store") });
    Some(LocalReply::new(Why::Direct, response))
}
