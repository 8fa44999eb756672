//! One request and its response, in phases that read top to bottom: check, host, route, static answers, head, mirror, send, stream back.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use sluicegate_model::route::{Actions, Answer, Choice, Decision, RouteView, Rule};
use sluicegate_model::snapshot::{EndpointTls, Front, Listener, RouterBinding, RouterRung, ServicePort, Side, Target, TlsHost, TlsMode};
use sluicegate_model::stats::count;

use super::answer::{Own, OwnAnswer, Reason, Why, text};
use super::arrival::put;
use super::body::RequestBody;
use super::connection::Peer;
use super::deadline::{self, Deadline};
use super::forwarded::Marks;
use super::reply::Reply;
use super::retry::Tries;
use super::send::send;
use super::{arrival, cors, grpc, headers, identify, limit, mirror, redirect, upgrade};
use crate::access::Entry;
use crate::overload;
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
    /// What a gRPC call asks for.
    pub(super) call: Option<grpc::Asked>,
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

    /// Where tries begin.
    pub(super) fn first_try(&self) -> Tries<'v> {
        Tries::new(self.service, self.matched.as_ref().and_then(|m| m.rule.retry.as_deref()))
    }

    /// For one try: the rule's, else the service's.
    pub(super) fn try_time(&self) -> Option<Duration> {
        let of_service = || self.service.settings.retry.as_ref().and_then(|r| r.per_try);
        given(self.matched.as_ref().and_then(|m| m.rule.backend_timeout).or_else(of_service))
    }

    /// For the whole exchange: the rule's, else the service's; and never more than the service allows, nor than a call asks for. Then what has
    /// happened when it has passed.
    fn whole_time(&self) -> (Option<Duration>, Reason) {
        let of = &self.service.settings.timeouts;
        let time = given(self.matched.as_ref().and_then(|m| m.rule.request_timeout).or(of.request));
        let time = time.into_iter().chain(of.stream).min();
        match self.call.and_then(|call| call.timeout) {
            Some(call) if time.is_none_or(|time| call <= time) => (Some(call), Reason::Deadline),
            _ => (time, Reason::Timeout),
        }
    }
}

/// Gateway API's `0s` means none, also where the service has one.
fn given(time: Option<Duration>) -> Option<Duration> {
    time.filter(|t| !t.is_zero())
}

/// The request stays with the caller until its content is sent, and is lent to all below.
pub(super) async fn exchange<'c>(request: &mut Request<RequestBody<'c>>, peer: &Peer, shared: &Rc<Shared>) -> Reply<'c> {
    count(&shared.stats.requests);
    let mut entry = None;
    let mut response = match forward(request, peer, shared, &mut entry).await {
        Ok(response) => response,
        Err(own) => {
            shared.stats.own_answers.count(own.why.index());
            if let Some(entry) = &mut entry {
                (entry.reason, entry.bytes_in) = (Some(own.why.word()), request.body().taken());
            }
            if grpc::is_call(request.headers()) { grpc::answer(own.response) } else { own.response }
        }
    };
    if let Some(mut entry) = entry {
        entry.status = Some(response.status());
        response.body_mut().log(entry);
    }
    response
}

/// `entry`: where what the access log wants to know is put, if there is one.
async fn forward<'c>(
    request: &mut Request<RequestBody<'c>>,
    peer: &Peer,
    shared: &Rc<Shared>,
    entry: &mut Option<Box<Entry>>,
) -> Result<Reply<'c>, Own> {
    if overload::is_refusing(&shared.stats) {
        count(&shared.stats.overload.requests);
        return Err(Reason::Overloaded.into());
    }
    let begun = Instant::now();
    let view = shared.view();
    let listener = view.listener(peer.listener).ok_or(Reason::NoRoute)?;
    let settings = &*listener.settings;
    *entry = shared.log.as_ref().map(|log| Entry::of(log, request, peer.address.ip(), &listener.name));
    check(request)?;
    let (arrived, mut marks) = arrival::arrive(request, peer, settings)?;
    let peer = arrived.as_ref();
    if let Some(entry) = entry {
        (entry.client, entry.request_id) = (peer.address.ip(), request.headers().get(identify::X_REQUEST_ID).cloned());
    }
    if let Some(most) = settings.content {
        limit::length(request, most, shared)?;
    }
    let mut verdict = None;
    if let Some(limiter) = &listener.limiter {
        put(&mut marks, request);
        let stats = &shared.stats.clients;
        verdict = limit::rate(limiter, request, peer.address.ip(), begun, (&stats.rate, &stats.evicted))?;
    }
    let mut routed = route(request, &mut marks, peer, listener, &view, shared, begun)?;
    if routed.service.protocol.is_http2() && grpc::is_call(request.headers()) {
        routed.call = Some(grpc::Asked::new(request.headers()));
    }
    if let Some(entry) = entry {
        entry.routed(&routed.service.id, routed.matched.as_ref().and_then(|m| m.rule.name.as_deref()));
    }
    if let Some(limiter) = &routed.service.limiter {
        put(&mut marks, request);
        let stats = &routed.service.stats.refused;
        let of_service = limit::rate(limiter, request, peer.address.ip(), begun, (&stats.rate, &stats.evicted))?;
        verdict = limit::stricter(verdict, of_service);
    }
    let hash = routed.service.hash.as_ref();
    if hash.is_some() || routed.actions().any(Actions::reads_or_changes_requests) {
        put(&mut marks, request);
    }
    let known = hash.and_then(|key| key.of(request.headers(), request.uri().path(), peer.address.ip()));
    let given = hash.filter(|_| known.is_none()).and_then(|key| key.give(rand::random, peer.scheme() == "https"));
    let (hash, cookie) = given.map_or((known, None), |(hash, cookie)| (Some(hash), Some(cookie)));
    let origin = routed.actions().any(|a| a.cors.is_some()).then(|| request.headers().get(header::ORIGIN).cloned()).flatten();
    let asked = head(request, &routed)?;
    if asked.trailers && routed.service.protocol.is_http2() {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    upgrade::note(asked.upgrade, request, routed.service)?;
    if let Some(matched) = routed.matched.as_ref().filter(|m| !m.rule.actions.mirrors.is_empty()) {
        mirror::start(matched, request, &view, peer, shared);
    }
    if let Some(most) = settings.content {
        limit::watch(request, most);
    }
    let (time, passed) = routed.whole_time();
    let mut deadline = Deadline::new(begun, time);
    let sent = deadline::by(&mut deadline, send(request, &routed, hash, peer, marks, shared)).await;
    if let Some(entry) = entry {
        (entry.attempts, entry.endpoint) = (routed.tries.get(), routed.endpoint.get());
        entry.answered();
    }
    let mut response = sent.ok_or_else(|| {
        count(&routed.service.stats.refused.timeout);
        passed
    })??;
    // What passes as it came has none of them.
    let asked = response.fields().made().map(headers::strip_hop_by_hop).unwrap_or_default();
    if upgrade::is_agreed(asked.upgrade, request, &mut response, routed.service)? {
        count(&shared.stats.upgrades);
    } else if deadline.is_some() {
        response.body_mut().until(deadline);
    }
    if let Some(via) = settings.headers.extras.as_ref().and_then(|extras| extras.via.as_ref()) {
        response.headers_mut().append(header::VIA, via.element.clone());
    }
    for actions in routed.actions() {
        if !actions.response_headers.is_empty() {
            actions.response_headers.apply(response.headers_mut());
        }
        if let (Some(cors), Some(origin)) = (&actions.cors, &origin) {
            cors::mark(cors, origin, response.headers_mut());
        }
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    if let Some(verdict) = &verdict {
        limit::tell(verdict, &mut response);
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

/// Virtual host, rule, static answers, backend.
fn route<'v, B>(
    request: &mut Request<B>,
    marks: &mut Option<Marks<'_>>,
    peer: &Peer,
    listener: &'v Listener,
    view: &'v View,
    shared: &Shared,
    begun: Instant,
) -> Result<Routed<'v>, Own> {
    let mut host = host_of(request).ok_or(Reason::BadHost)?;
    let target = match &listener.front {
        Front::Http(hosts) => &hosts.iter().find(|h| h.serves(&host)).ok_or(Reason::NoHost)?.target,
        Front::Tls(hosts) => secured(hosts, &host, peer)?,
        Front::Tcp(_) | Front::Udp(_) => return Err(Reason::NoRoute.into()),
    };
    let (service, side, matched) = match target {
        Target::Nothing => return Err(Reason::NoRoute.into()),
        Target::Service(to) => (to.service, to.side, None),
        Target::Router(binding) => {
            if marks.is_some() && binding.reads_fields() {
                drop(host);
                put(marks, request);
                host = host_of(request).ok_or(Reason::BadHost)?;
            }
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
    Ok(Routed { service, side, matched, begun, tries: Cell::new(0), endpoint: Cell::new(None), call: None })
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

fn own(why: Why, response: Reply<'static>) -> Own {
    Box::new(OwnAnswer { why, response })
}

fn direct(answer: &Answer) -> Reply<'static> {
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
fn head<B>(request: &mut Request<B>, routed: &Routed<'_>) -> Result<headers::Asked, Reason> {
    if request.uri().authority().is_some() {
        // RFC 9112 §3.2.2: the target's authority replaces Host, and an origin server gets the origin form.
        if let Some(value) = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            request.headers_mut().insert(header::HOST, value);
        }
        *request.uri_mut() = request.uri().path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    *request.version_mut() = Version::HTTP_11;
    let asked = headers::strip_hop_by_hop(request.headers_mut());
    if let Some(matched) = &routed.matched {
        for actions in routed.actions() {
            if let Some(change) = &actions.rewrite {
                redirect::rewrite(change, request, matched.choice.matched_prefix)?;
            }
            actions.request_headers.apply(request.headers_mut());
        }
    }
    Ok(asked)
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
        (None, Some(field)) => super::host::split(field)?,
        (None, None) => "",
    };
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
