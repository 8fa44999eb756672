//! Looks at the head of a request before it is routed: whether it is refused, who the client is, and which fields the next hop is to believe. Routers, hashes
//! and limits see the result.

use http::header::{CONNECTION, EXPECT};
use http::{HeaderMap, HeaderName, Request, Version};
use sluicegate_decide::answer::{LocalReply, Reason};
use sluicegate_decide::{host, method, target};
use sluicegate_model::fields::{is_claim, is_same};
use sluicegate_model::settings::{ClientSettings, Trust, WithUnderscoresAction};

use super::forwarded;
use super::peer::Peer;
use crate::http::rules::deferred::Deferred;
use crate::http::rules::{headers, identify, loops};
use crate::origin::X_FORWARDED_CLIENT_CERT;

/// What is found when a request arrives.
#[derive(Default)]
pub(in crate::http) struct Arrived {
    /// Whom a trusted proxy names; none: the client is who connected.
    pub(in crate::http) client: Option<Box<Peer>>,
    /// The names of fields that `Connection` nominated. They are removed, and are not to come as trailers.
    pub(in crate::http) nominated: Vec<HeaderName>,
}

/// Looks at a request, which has its forwarding headers afterwards.
pub(in crate::http) fn arrive<'p, B>(
    request: &mut Deferred<'_, 'p, B>,
    peer: &'p Peer,
    settings: &ClientSettings,
) -> Result<Arrived, Box<LocalReply>> {
    let told = peer.tls.as_ref().is_some_and(|tls| tls.client.is_some());
    let by_fields = settings.trust != Trust::Nobody || settings.headers.extras.is_some() || told;
    if !request.is_unread() || by_fields || method::ends_hops(request.method()) || request.uri().authority().is_some() {
        return look_closely(request, peer, settings);
    }
    // Most requests come so: of their fields only the host matters.
    request.apart_from_fields(|request| target::check(request))?;
    if !request.settle_host() {
        return Err(Reason::BadHost.into());
    }
    request.defer(Some(peer.forwarding(true)));
    request.apart_from_fields(|request| target::normalize(request, &settings.path))?;
    Ok(Arrived::default())
}

fn look_closely<'p, B>(deferred: &mut Deferred<'_, 'p, B>, peer: &'p Peer, settings: &ClientSettings) -> Result<Arrived, Box<LocalReply>> {
    let request = deferred.fields();
    let names = Names::of(request.headers());
    let nominated = if names.connection { headers::take_nominated(request.headers_mut()) } else { Vec::new() };
    if names.expect {
        expectation(request)?;
    }
    if names.claims {
        client_certificate(request.headers_mut());
    }
    if names.underscore {
        underscores(request.headers_mut(), settings.headers.underscores)?;
    }
    method::last_hop(request)?;
    target::check(request)?;
    host::settle(request)?;
    let claims = forwarded::believe(request.headers(), peer, &settings.trust);
    let trusted = claims.is_some();
    if names.claims && !trusted {
        forwarded::forget(request.headers_mut());
    }
    if let Some(certificate) = peer.tls.as_ref().and_then(|tls| tls.client.clone()) {
        request.headers_mut().insert(X_FORWARDED_CLIENT_CERT, certificate);
    }
    if let Some(extras) = &settings.headers.extras {
        // This comes before the fields of this hop are made, while what the trusted proxy said is still there.
        forwarded::extras(request, extras, peer)?;
        identify::request_id(request.headers_mut(), extras.request_id, trusted);
        identify::trace(request.headers_mut(), extras.trace);
    }
    if names.loops {
        loops::pass(request.headers_mut())?;
    }
    let (client, forwarding) = match claims {
        Some(claims) => (Some(Box::new(forwarded::mark(request, claims, peer))), None),
        None => (None, Some(peer.forwarding(!names.loops))),
    };
    if forwarding.is_none() && !names.loops {
        request.headers_mut().insert(loops::CDN_LOOP, loops::name().clone());
    }
    target::normalize(request, &settings.path)?;
    deferred.defer(forwarding);
    if let Some(extras) = &settings.headers.extras {
        extras.early.apply(deferred.whole().headers_mut());
    }
    Ok(Arrived { client, nominated })
}

/// Which names need a closer look, found in one pass.
#[derive(Default)]
struct Names {
    connection: bool,
    underscore: bool,
    expect: bool,
    /// Whether there are fields that only a trusted proxy may set.
    claims: bool,
    loops: bool,
}

impl Names {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            found.connection |= name == CONNECTION;
            found.underscore |= name.as_str().as_bytes().contains(&b'_');
            found.expect |= name == EXPECT;
            found.claims |= is_claim(name.as_str().as_bytes());
            found.loops |= name == loops::CDN_LOOP;
        }
        found
    }
}

/// Removes what says who a client is by its certificate, in any spelling: not even a trusted proxy may say it, only the gateway.
fn client_certificate(headers: &mut HeaderMap) {
    let is_it = |name: &&HeaderName| is_same(name.as_str(), X_FORWARDED_CLIENT_CERT.as_str());
    while let Some(name) = headers.keys().find(is_it).cloned() {
        headers.remove(name);
    }
}

/// Checks `Expect`: there is only one expectation, and HTTP/1.0 has none (RFC 9110 §10.1.1).
fn expectation<B>(request: &mut Request<B>) -> Result<(), Reason> {
    if request.version() == Version::HTTP_10 || !expects_continue(request.headers())? {
        request.headers_mut().remove(EXPECT);
    }
    Ok(())
}

/// Whether 100 (Continue) is expected. The field is a list, which may be empty. An error says that something else is expected.
pub(in crate::http) fn expects_continue(headers: &HeaderMap) -> Result<bool, Reason> {
    let values = headers.get_all(EXPECT).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let mut members = values.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()).peekable();
    let expects = members.peek().is_some();
    if members.all(|member| member.eq_ignore_ascii_case(b"100-continue")) { Ok(expects) } else { Err(Reason::Expectation) }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::HeaderValue;

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
}
