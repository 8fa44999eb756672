//! One request and its response, in phases that read top to bottom: check, host, route, static answers, head, mirror, send, stream back.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use sluicegate_model::route::{Actions, Answer, Choice, Decision, RouteView, Rule};
use sluicegate_model::snapshot::{EndpointTls, Front, RouterBinding, RouterRung, ServicePort, Side, Target, TlsHost, TlsMode};
use sluicegate_model::stats::count;

use super::answer::{Own, OwnAnswer, Reason, Why, text};
use super::body::{RequestBody, ResponseBody};
use super::connection::Peer;
use super::send::{send, within};
use super::{cors, headers, mirror, redirect};
use crate::tls::identity::X_FORWARDED_CLIENT_CERT;
use crate::worker::{Shared, View};

/// A rule that takes the request, and the rung of the router's ladder it stands on.
pub(super) struct Matched<'v> {
    pub(super) rung: &'v RouterRung,
    pub(super) rule: &'v Rule,
    pub(super) choice: Choice,
}

/// Where an exchange goes that is not answered here.
pub(super) struct Routed<'v> {
    pub(super) service: &'v ServicePort,
    pub(super) side: Side,
    matched: Option<Matched<'v>>,
    /// When the request's head had come.
    pub(super) begun: Instant,
    tries: Cell<u32>,
    /// The endpoint of the newest try.
    endpoint: Cell<Option<SocketAddr>>,
}

impl<'v> Routed<'v> {
    /// Notes a try at an endpoint.
    pub(super) fn trying(&self, endpoint: SocketAddr) {
        self.tries.set(self.tries.get() + 1);
        self.endpoint.set(Some(endpoint));
    }

    /// How many there were.
    pub(super) fn tries(&self) -> u32 {
        self.tries.get()
    }

    /// The rule's actions, then the backend's.
    fn actions(&self) -> impl Iterator<Item = &'v Actions> + use<'v> {
        let backend = |m: &Matched<'v>| m.choice.backend.and_then(|b| m.rule.backends.get(b)).map(|b| &b.actions);
        let both = self.matched.as_ref().map(|m| (&m.rule.actions, backend(m)));
        both.into_iter().flat_map(|(rule, backend)| std::iter::once(rule).chain(backend))
    }

    /// For one try: the rule's, else the service's.
    pub(super) fn try_time(&self) -> Option<Duration> {
        given(self.matched.as_ref().and_then(|m| m.rule.backend_timeout)).or(given(self.service.settings.timeouts.request))
    }

    fn whole_time(&self) -> Option<Duration> {
        given(self.matched.as_ref().and_then(|m| m.rule.request_timeout))
    }
}

/// Gateway API's `0s` means none.
fn given(time: Option<Duration>) -> Option<Duration> {
    time.filter(|t| !t.is_zero())
}

/// The request stays with the caller until its content is sent, and is lent to all below.
pub(super) async fn exchange<'c>(request: &mut Request<RequestBody<'c>>, peer: &Peer, shared: &Rc<Shared>) -> Response<ResponseBody<'c>> {
    count(&shared.stats.requests);
    match forward(request, peer, shared).await {
        Ok(response) => response,
        Err(own) => {
            shared.stats.own_answers.count(own.why.index());
            own.response
        }
    }
}

async fn forward<'c>(request: &mut Request<RequestBody<'c>>, peer: &Peer, shared: &Rc<Shared>) -> Result<Response<ResponseBody<'c>>, Own> {
    let begun = Instant::now();
    let view = shared.view();
    check(request)?;
    // Before the router sees it: nobody but the gateway says who a client is.
    request.headers_mut().remove(X_FORWARDED_CLIENT_CERT);
    identify(request, peer);
    let routed = route(request, peer, &view, shared, begun)?;
    let hash = routed.service.hash.as_ref();
    let hash = hash.and_then(|key| key.of(request.headers(), request.uri().path(), peer.address.ip()));
    let origin = routed.actions().any(|a| a.cors.is_some()).then(|| request.headers().get(header::ORIGIN).cloned()).flatten();
    head(request, &routed, peer)?;
    if let Some(matched) = routed.matched.as_ref().filter(|m| !m.rule.actions.mirrors.is_empty()) {
        mirror::start(matched, request, &view, peer, shared);
    }
    let sending = pin!(send(request, &routed, hash, peer, shared));
    let mut response = within(routed.whole_time(), sending).await.ok_or(Reason::Timeout)??;
    headers::strip_hop_by_hop(response.headers_mut());
    for actions in routed.actions() {
        actions.response_headers.apply(response.headers_mut());
        if let (Some(cors), Some(origin)) = (&actions.cors, &origin) {
            cors::mark(cors, origin, response.headers_mut());
        }
    }
    count(&routed.service.stats.responses[class(response.status())]);
    Ok(response)
}

fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, 5) - 1
}

/// What must not be forwarded.
fn check<B>(request: &Request<B>) -> Result<(), Reason> {
    if request.method() == Method::CONNECT {
        return Err(Reason::Connect);
    }
    Ok(())
}

fn identify<B>(request: &mut Request<B>, peer: &Peer) {
    if let Some(value) = peer.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
        request.headers_mut().insert(X_FORWARDED_CLIENT_CERT, value.clone());
    }
}

/// Virtual host, rule, static answers, backend.
fn route<'v, B>(request: &Request<B>, peer: &Peer, view: &'v View, shared: &Shared, begun: Instant) -> Result<Routed<'v>, Own> {
    let host = host_of(request).ok_or(Reason::BadHost)?;
    let target = match view.listener(peer.listener).map(|l| &l.front) {
        Some(Front::Http(hosts)) => &hosts.iter().find(|h| h.serves(&host)).ok_or(Reason::NoHost)?.target,
        Some(Front::Tls(hosts)) => secured(hosts, &host, peer)?,
        Some(Front::Tcp(_)) | None => return Err(Reason::NoRoute.into()),
    };
    let (service, side, matched) = match target {
        Target::Nothing => return Err(Reason::NoRoute.into()),
        Target::Service(to) => (to.service, to.side, None),
        Target::Router(binding) => {
            let matched = decide(request, &host, binding, peer, shared)?;
            if let Some(answer) = static_answer(&matched, request, &host, peer) {
                return Err(answer);
            }
            let backend = matched.choice.backend.and_then(|b| matched.rung.backends.get(matched.choice.rule)?.get(b)?.as_ref().ok());
            (*backend.ok_or(Reason::BadBackend)?, Side::Internal, Some(matched))
        }
    };
    let service = view.snapshot.services.get(service).ok_or(Reason::BadBackend)?;
    if matches!(service.tls, EndpointTls::Untold | EndpointTls::Broken) {
        return Err(Reason::EndpointTls.into());
    }
    Ok(Routed { service, side, matched, begun, tries: Cell::new(0), endpoint: Cell::new(None) })
}

/// The listener of a host name among those of a TLS port. It must be the one that the connection's server name chose: another one may have
/// asked for another certificate of the client (RFC 9110 §7.4, Gateway API's misdirected requests).
fn secured<'v>(hosts: &'v [TlsHost], host: &str, peer: &Peer) -> Result<&'v Target, Reason> {
    let serving = |name: &str| hosts.iter().position(|h| h.serves(name));
    let found = serving(host).ok_or(Reason::NoHost)?;
    // Without TLS: the listener was another one when the connection began.
    let name = peer.tls.as_ref().ok_or(Reason::Misdirected)?.server_name.as_deref().unwrap_or("");
    let same = name == host || serving(name) == Some(found);
    if same && matches!(hosts[found].mode, TlsMode::Http(_)) { Ok(&hosts[found].target) } else { Err(Reason::Misdirected) }
}

fn decide<'v, B>(request: &Request<B>, host: &str, binding: &'v RouterBinding, peer: &Peer, shared: &Shared) -> Result<Matched<'v>, Own> {
    let asked = RouteView {
        method: request.method().as_str(),
        host,
        path: request.uri().path(),
        query: request.uri().query().unwrap_or(""),
        headers: request.headers(),
        client: peer.address.ip(),
    };
    let (rung, decision) = shared.decider.borrow_mut().route(binding, &asked).ok_or(Reason::RouterFailed)?;
    match decision {
        Decision::Matched(choice) => {
            let rule = rung.table.rules.get(choice.rule).ok_or(Reason::RouterFailed)?;
            Ok(Matched { rung, rule, choice })
        }
        Decision::Answer(answer) => Err(own(Why::Direct, direct(&answer))),
        Decision::NoMatch => Err(Reason::NoRoute.into()),
    }
}

/// A preflight comes first: browsers refuse one that is redirected (Fetch standard, "CORS-preflight fetch").
fn static_answer<B>(matched: &Matched<'_>, request: &Request<B>, host: &str, peer: &Peer) -> Option<Own> {
    let actions = &matched.rule.actions;
    if let Some(answer) = actions.cors.as_ref().and_then(|cors| cors::preflight(cors, request)) {
        return Some(own(Why::Preflight, answer));
    }
    if let Some(to) = &actions.redirect {
        let listener = (peer.scheme(), matched.rung.table.listener.port);
        let answer = redirect::redirect(to, request, host, listener, matched.choice.matched_prefix);
        return Some(own(Why::Redirect, answer));
    }
    actions.answer.as_ref().map(|answer| own(Why::Direct, direct(answer)))
}

fn own(why: Why, response: Response<ResponseBody<'static>>) -> Own {
    Box::new(OwnAnswer { why, response })
}

fn direct(answer: &Answer) -> Response<ResponseBody<'static>> {
    let mut response = text(answer.status, answer.body.clone());
    for name in answer.headers.keys() {
        response.headers_mut().remove(name);
    }
    for (name, value) in &answer.headers {
        response.headers_mut().append(name, value.clone());
    }
    headers::strip_hop_by_hop(response.headers_mut());
    response
}

/// Makes the head ready for the next hop: hop-by-hop fields, origin form, rewrite, header changes.
fn head<B>(request: &mut Request<B>, routed: &Routed<'_>, peer: &Peer) -> Result<(), Reason> {
    if request.uri().authority().is_some() {
        // RFC 9112 §3.2.2: the target's authority replaces Host, and an origin server gets the origin form.
        if let Some(value) = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            request.headers_mut().insert(header::HOST, value);
        }
        *request.uri_mut() = request.uri().path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    *request.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(request.headers_mut());
    headers::forwarded(request.headers_mut(), &peer.value, peer.scheme());
    // Once more: `Connection` may have nominated it.
    identify(request, peer);
    if let Some(matched) = &routed.matched {
        for actions in routed.actions() {
            if let Some(change) = &actions.rewrite {
                redirect::rewrite(change, request, matched.choice.matched_prefix)?;
            }
            actions.request_headers.apply(request.headers_mut());
        }
    }
    Ok(())
}

/// The one Host, lower case, without its port; copied only if it has capitals. None: missing, doubled or not a host.
fn host_of<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let field = match (values.next(), values.next()) {
        (_, Some(_)) => return None,
        (Some(value), None) => Some(value.to_str().ok()?),
        (None, None) if request.version() >= Version::HTTP_11 => return None,
        (None, None) => None,
    };
    let host = match (request.uri().authority(), field) {
        // Names and passwords in a target are deprecated and a trap (RFC 9110 §4.2.4).
        (Some(authority), _) if authority.as_str().contains('@') => return None,
        (Some(authority), _) => authority.host(),
        (None, Some(field)) => match field.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => field,
        },
        (None, None) => "",
    };
    if host.bytes().any(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'?' | b'#' | b'@' | b',')) {
        return None;
    }
    Some(if host.bytes().any(|b| b.is_ascii_uppercase()) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn host_without_port_in_lower_case() {
        let host = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri).body(()).unwrap();
            for host in hosts {
                request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            host_of(&request).map(Cow::into_owned)
        };
        assert_eq!(host("/", &["A.Example:8080"]).as_deref(), Some("a.example"));
        assert_eq!(host("/", &["[::1]:80"]).as_deref(), Some("[::1]"));
        assert_eq!(host("http://b.example:1/x", &["a.example"]).as_deref(), Some("b.example"));
        assert_eq!(host("/", &["a", "b"]), None);
        assert_eq!(host("/", &[]), None);
        assert_eq!(host("/", &["a b"]), None);
    }
}
