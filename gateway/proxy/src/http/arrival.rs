//! A request's head before it is routed: what is refused, who the client is, and which fields the next hop is to believe. Routers, hashes and
//! limits see what comes of it.

use std::borrow::Cow;

use http::header::{EXPECT, FORWARDED, HOST, MAX_FORWARDS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use sluicegate_model::settings::{ClientSettings, WithUnderscoresAction};

use super::answer::{Own, OwnAnswer, Reason, Why, empty};
use super::connection::Peer;
use super::forwarded::Marks;
use super::{forwarded, identify, target};
use crate::tls::identity::X_FORWARDED_CLIENT_CERT;

/// A client: who connected, or whom a trusted proxy names; and the marks that are not yet among the request's fields.
pub(super) type Arrived<'p> = (Cow<'p, Peer>, Option<Marks<'p>>);

pub(super) fn arrive<'p, B>(request: &mut Request<B>, peer: &'p Peer, settings: &ClientSettings) -> Result<Arrived<'p>, Own> {
    let names = Names::of(request.headers());
    if names.expect {
        expectation(request)?;
    }
    if names.client_certificate {
        // Nobody but the gateway says who a client is, by whichever way it came.
        request.headers_mut().remove(X_FORWARDED_CLIENT_CERT);
    }
    if let Some(certificate) = peer.tls.as_ref().and_then(|tls| tls.client.clone()) {
        request.headers_mut().insert(X_FORWARDED_CLIENT_CERT, certificate);
    }
    if names.underscore {
        underscores(request.headers_mut(), settings.headers.underscores)?;
    }
    if request.version() == Version::HTTP_10 {
        // It is sent on as HTTP/1.1, which must have one (RFC 9112 §3.2).
        request.headers_mut().entry(HOST).or_insert(const { HeaderValue::from_static("") });
    }
    if matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        last_hop(request)?;
    }
    target::check(request)?;
    let claims = forwarded::believe(request.headers(), peer, &settings.trust);
    let trusted = claims.is_some();
    if names.forwarded && !trusted {
        request.headers_mut().remove(FORWARDED);
    }
    if let Some(extras) = &settings.headers.extras {
        // Before the fields of this hop are made: what the trusted proxy said is still there.
        forwarded::extras(request, extras, peer)?;
        identify::request_id(request.headers_mut(), extras.request_id, trusted);
        identify::trace(request.headers_mut(), extras.trace);
    }
    let (client, mut marks) = match claims {
        Some(claims) => (Cow::Owned(forwarded::mark(request, claims, peer)), None),
        None => (Cow::Borrowed(peer), Some(Marks(peer))),
    };
    if names.marks && marks.is_some() {
        forwarded::forget(request.headers_mut());
    }
    if let Some(extras) = &settings.headers.extras {
        put(&mut marks, request);
        extras.early.apply(request.headers_mut());
    }
    target::normalize(request, &settings.path)?;
    Ok((client, marks))
}

/// Puts the marks among the fields, for somebody looks at them.
pub(super) fn put<B>(marks: &mut Option<Marks<'_>>, request: &mut Request<B>) {
    if let Some(marks) = marks.take() {
        marks.put(request);
    }
}

/// Which names call for a closer look, found in one pass.
#[derive(Default)]
struct Names {
    underscore: bool,
    forwarded: bool,
    expect: bool,
    client_certificate: bool,
    marks: bool,
}

impl Names {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            found.underscore |= name.as_str().as_bytes().contains(&b'_');
            found.forwarded |= name == FORWARDED;
            found.expect |= name == EXPECT;
            let forwarded = name.as_str().starts_with("x-forwarded-");
            found.marks |= forwarded;
            found.client_certificate |= forwarded && name == X_FORWARDED_CLIENT_CERT;
        }
        found
    }
}

/// RFC 9110 §10.1.1: there is one expectation, and HTTP/1.0 has none.
fn expectation<B>(request: &mut Request<B>) -> Result<(), Reason> {
    if request.version() == Version::HTTP_10 {
        request.headers_mut().remove(EXPECT);
    } else if request.headers().get_all(EXPECT).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Reason::Expectation);
    }
    Ok(())
}

fn underscores(headers: &mut HeaderMap, action: WithUnderscoresAction) -> Result<(), Reason> {
    match action {
        WithUnderscoresAction::Allow => {}
        WithUnderscoresAction::RejectRequest => return Err(Reason::BadName),
        WithUnderscoresAction::DropHeader => {
            let names: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
            for name in names {
                headers.remove(name);
            }
        }
    }
    Ok(())
}

/// `Max-Forwards` (RFC 9110 §7.6.2): at 0 the request has arrived. TRACE would show a script its own cookies, so nobody is asked for it.
fn last_hop<B>(request: &mut Request<B>) -> Result<(), Own> {
    if request.method() == Method::TRACE {
        return Err(Reason::Trace.into());
    }
    let Some(left) = request.headers().get(MAX_FORWARDS) else { return Ok(()) };
    match left.to_str().ok().and_then(|left| left.parse::<u64>().ok()) {
        Some(0) => Err(Own::new(OwnAnswer { why: Why::Direct, response: empty(StatusCode::NO_CONTENT) })),
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
        // It says nothing that could be counted down.
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_with_underscores_are_dropped_refused_or_kept() {
        let mut headers = HeaderMap::new();
        headers.append("x_forwarded_for", HeaderValue::from_static("192.0.2.1"));
        headers.append("x_forwarded_for", HeaderValue::from_static("192.0.2.2"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        assert!(Names::of(&headers).underscore);
        assert_eq!(underscores(&mut headers, WithUnderscoresAction::RejectRequest), Err(Reason::BadName));
        underscores(&mut headers, WithUnderscoresAction::Allow).unwrap();
        assert_eq!(headers.len(), 3);
        underscores(&mut headers, WithUnderscoresAction::DropHeader).unwrap();
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn forwards_are_counted_down() {
        let mut options = Request::options("/").header("max-forwards", "2").body(()).unwrap();
        assert!(last_hop(&mut options).is_ok());
        assert_eq!(options.headers()["max-forwards"], "1");
        options.headers_mut().insert(MAX_FORWARDS, HeaderValue::from_static("0"));
        assert_eq!(last_hop(&mut options).err().map(|own| own.response.status()), Some(StatusCode::NO_CONTENT));
        let trace = last_hop(&mut Request::trace("/").body(()).unwrap());
        assert_eq!(trace.err().map(|own| own.why), Some(Why::Reason(Reason::Trace)));
    }
}
