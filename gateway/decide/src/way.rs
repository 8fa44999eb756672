//! The one way of a request: host → target → rule → static answer → service. Connections and flows take the same way, with fewer steps.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use sluicegate_model::plugin::hash_ip;
use sluicegate_model::route::{Answer, Backend, Choice, Decision, RouteView, Rule};
use sluicegate_model::session::Token;
use sluicegate_model::snapshot::{
    EndpointTls, Front, Hosts, Listener, RouterBinding, RouterRung, ServiceIndex, ServicePort, ServiceSide, Side, Snapshot, Target,
    TlsHost, TlsMode,
};

use crate::answer::{LocalReply, Reason, Why, text};
use crate::ladder::{self, Routers};
use crate::{cors, redirect};

/// A request, as far as it bears on the way. Its fields may be made only when somebody asks for them, which most requests are spared.
pub trait Asked {
    /// The method.
    fn method(&self) -> &Method;
    /// The target.
    fn uri(&self) -> &Uri;
    /// The fields.
    fn headers(&self) -> &HeaderMap;
}

impl<B> Asked for Request<B> {
    fn method(&self) -> &Method {
        Request::method(self)
    }

    fn uri(&self) -> &Uri {
        Request::uri(self)
    }

    fn headers(&self) -> &HeaderMap {
        Request::headers(self)
    }
}

/// What of the client bears on the way.
#[derive(Clone, Copy, Debug)]
pub struct Client<'c> {
    /// The client's address.
    pub address: IpAddr,
    /// The scheme that the client used.
    pub scheme: &'c str,
    /// The server name that the client's TLS asked for, empty if it named none; none: it came without TLS.
    pub server_name: Option<&'c str>,
    /// The time, in seconds since 1970; asked only where a rule keeps sessions.
    pub clock: fn() -> u64,
}

/// The host name of a listener that takes a request.
#[derive(Clone, Copy)]
pub struct Found<'v> {
    /// The host name as it is written; none: any.
    pub hostname: Option<&'v str>,
    /// Where its requests go.
    pub target: &'v Target,
}

/// Finds the host name of a listener that takes a request.
///
/// # Errors
/// No host name of the listener fits; or one does that the connection's TLS was not made for; or the listener takes no requests.
pub fn target<'v>(listener: &'v Listener, host: &str, client: &Client<'_>) -> Result<Found<'v>, Reason> {
    match &listener.front {
        Front::Http(hosts) => {
            let found = hosts.find(host).ok_or(Reason::NoHost)?;
            Ok(Found { hostname: found.hostname.as_deref(), target: &found.target })
        }
        Front::Tls(hosts) => secured(hosts, host, client.server_name),
        Front::Tcp(_) | Front::Udp(_) => Err(Reason::NoRoute),
    }
}

/// Finds the host name among those of a TLS listener. It must be the one that the connection's server name chose, as another one may have asked for another
/// certificate of the client (RFC 9110 §7.4, and misdirected requests in the Gateway API).
fn secured<'v>(hosts: &'v Hosts<TlsHost>, host: &str, server_name: Option<&str>) -> Result<Found<'v>, Reason> {
    let found = hosts.find(host).ok_or(Reason::NoHost)?;
    // Without TLS the listener was another one when the connection began.
    let name = server_name.ok_or(Reason::Misdirected)?;
    let same = name == host || hosts.find(name).is_some_and(|serving| std::ptr::eq(serving, found));
    if !same || !matches!(found.mode, TlsMode::Http(_)) {
        return Err(Reason::Misdirected);
    }
    Ok(Found { hostname: found.hostname.as_deref(), target: &found.target })
}

/// A rule that takes a request, and the rung of the router's ladder that it stands on.
#[derive(Clone, Copy)]
pub struct Matched<'v> {
    /// The rung.
    pub rung: &'v RouterRung,
    /// The rule.
    pub rule: &'v Rule,
    /// What the router chose.
    pub choice: Choice,
}

/// A service port, and the side from which it is reached.
pub type Led<'v> = (&'v ServicePort, Side);

/// What becomes of a request.
pub struct Followed<'v> {
    /// The rule that has left the decision to another router, of which `matched` is then a rule.
    pub handed_by: Option<(&'v RouterRung, Choice)>,
    /// The rule that takes the request, if a router decides and a rule does.
    pub matched: Option<Matched<'v>>,
    /// The client's session that goes on, and has chosen the backend.
    pub session: Option<Token>,
    /// Where the request goes, or how it is answered here.
    pub outcome: Result<Led<'v>, Box<LocalReply>>,
}

/// Follows a request from a listener's target to a service, or to an answer of the gateway's own. `host`: the host that the request is for, as
/// [`crate::host::of`] gives it.
pub fn follow<'v>(
    target: &'v Target,
    request: &impl Asked,
    host: &str,
    client: &Client<'_>,
    snapshot: &'v Snapshot,
    routers: &mut impl Routers,
) -> Followed<'v> {
    let binding = match target {
        Target::Nothing => return Followed { handed_by: None, matched: None, session: None, outcome: Err(Reason::NoRoute.into()) },
        Target::Service(to) => {
            let outcome = serve(snapshot, *to);
            let session = outcome.as_ref().ok().and_then(|led| known(led.0, led.1, request, client));
            return Followed { handed_by: None, matched: None, session, outcome };
        }
        Target::Router(binding) => binding,
    };
    let (handed_by, found) = matched(binding, request, host, client, routers);
    let mut matched = match found {
        Ok(matched) => matched,
        Err(answered) => return Followed { handed_by, matched: None, session: None, outcome: Err(answered) },
    };
    let mut session = resume(&mut matched, request, client, snapshot);
    let outcome = match static_answer(&matched, request, host, client) {
        Some(answer) => Err(answer),
        None => match backend(matched.rung, matched.choice) {
            Some(service) => serve(snapshot, ServiceSide { service, side: Side::Internal }),
            None => Err(Reason::BadBackend.into()),
        },
    };
    if let (None, Ok((service, side))) = (&session, &outcome)
        && matched.rule.session.is_none()
    {
        session = known(service, *side, request, client);
    }
    Followed { handed_by, matched: Some(matched), session, outcome }
}

/// Resumes the client's session with a rule: if its endpoint may still be picked, its backend, which is one of the rule's, is chosen whatever its weight.
/// What the rule says of sessions counts before what Services say.
fn resume(matched: &mut Matched<'_>, request: &impl Asked, client: &Client<'_>, snapshot: &Snapshot) -> Option<Token> {
    let services = matched.rung.backends(matched.choice.rule)?;
    let there = |service: &Result<ServiceIndex, _>| service.as_ref().ok().and_then(|index| snapshot.services.get(index));
    let mut backends = matched.rule.backends.iter().zip(services).enumerate();
    let (backend, token) = match &matched.rule.session {
        // If there is only one backend, this is looked at when the backend has been found.
        None if !matched.rung.keeps_sessions(matched.choice.rule) => return None,
        None => backends.find_map(|(i, (_, service))| Some((i, known(there(service)?, Side::Internal, request, client)?)))?,
        Some(session) => {
            let token = session.of(request.headers(), (client.clock)())?;
            let leads = |service: &ServicePort| service.pool(Side::Internal).find(token.endpoint).is_some();
            let here =
                |(backend, service): (&Backend, _)| token.is_of(&backend.service) && there(service).is_some_and(|service| leads(service));
            let (backend, _) = backends.find(|(_, pair)| here(*pair))?;
            (backend, token)
        }
    };
    matched.choice.backend = Some(backend);
    Some(token)
}

/// The session that a Service itself keeps with a client, if its endpoint may still be picked.
fn known(service: &ServicePort, side: Side, request: &impl Asked, client: &Client<'_>) -> Option<Token> {
    let token = service.settings.session.as_ref()?.of(request.headers(), (client.clock)())?;
    (token.is_of(&service.id) && service.pool(side).find(token.endpoint).is_some()).then_some(token)
}

/// The service port, if its endpoints can be spoken to.
fn serve(snapshot: &Snapshot, to: ServiceSide) -> Result<Led<'_>, Box<LocalReply>> {
    let service: &ServicePort = snapshot.services.get(&to.service).ok_or(Reason::BadBackend)?;
    match service.tls {
        EndpointTls::Untold | EndpointTls::Broken => Err(Reason::EndpointTls.into()),
        EndpointTls::Off | EndpointTls::On(_) => Ok((service, to.side)),
    }
}

/// The service port of a rule's backend; none: there is no such port, or no backend.
fn backend(rung: &RouterRung, choice: Choice) -> Option<ServiceIndex> {
    rung.backends(choice.rule)?.get(choice.backend?)?.as_ref().ok().copied()
}

/// The rule that takes a request. If it leaves the decision to another router, it is returned with that router's rule.
fn matched<'v>(
    binding: &'v RouterBinding,
    request: &impl Asked,
    host: &str,
    client: &Client<'_>,
    routers: &mut impl Routers,
) -> (Option<(&'v RouterRung, Choice)>, Result<Matched<'v>, Box<LocalReply>>) {
    let none = HeaderMap::new();
    let asked = RouteView {
        method: request.method().as_str(),
        host,
        path: request.uri().path(),
        query: request.uri().query().unwrap_or(""),
        headers: if binding.reads_fields() { request.headers() } else { &none },
        client: client.address,
    };
    let first = decided(binding, &asked, routers);
    match &first {
        Ok(Matched { rung, choice, .. }) => match rung.next(choice.rule) {
            Some(next) => (Some((rung, *choice)), decided(next, &asked, routers)),
            None => (None, first),
        },
        Err(_) => (None, first),
    }
}

fn decided<'v>(binding: &'v RouterBinding, asked: &RouteView<'_>, routers: &mut impl Routers) -> Result<Matched<'v>, Box<LocalReply>> {
    let (rung, decision) = ladder::route(binding, asked, routers).ok_or(Reason::RouterFailed)?;
    match decision {
        Decision::Matched(choice) => {
            let rule = rung.table.rules.get(choice.rule).ok_or(Reason::RouterFailed)?;
            Ok(Matched { rung, rule, choice })
        }
        Decision::Answer(answer) => Err(LocalReply::new(Why::Direct, direct(&answer))),
        Decision::NoMatch => Err(Reason::NoRoute.into()),
    }
}

/// The answer that a rule gives by itself. A preflight comes first, as browsers refuse one that is redirected (Fetch standard, "CORS-preflight fetch").
fn static_answer(matched: &Matched<'_>, request: &impl Asked, host: &str, client: &Client<'_>) -> Option<Box<LocalReply>> {
    let actions = &matched.rule.actions;
    if let Some(answer) = actions.cors.as_ref().and_then(|cors| cors::preflight(cors, request.method(), request.headers())) {
        return Some(LocalReply::new(Why::Preflight, answer));
    }
    if let Some(to) = &actions.redirect {
        let listener = (client.scheme, matched.rung.table.listener.port);
        let answer = redirect::redirect(to, request.uri(), host, listener, matched.choice.matched_prefix);
        return Some(LocalReply::new(Why::Redirect, answer));
    }
    actions.answer.as_ref().map(|answer| LocalReply::new(Why::Direct, direct(answer)))
}

/// The answer as a rule or a router gives it. Whoever sends it removes the fields of one hop.
fn direct(answer: &Answer) -> Response<Bytes> {
    let mut response = text(answer.status, answer.body.clone());
    for name in answer.headers.keys() {
        response.headers_mut().remove(name);
    }
    for (name, value) in &answer.headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

/// Where a connection or a flow goes.
pub struct Forwarded<'v> {
    /// The service port.
    pub to: ServiceSide,
    /// The rung of the router's ladder, and its choice; none: the listener leads straight to the service port.
    pub rule: Option<(&'v RouterRung, Choice)>,
}

/// Why a connection is reset, or a datagram dropped.
pub enum Unrouted<'v> {
    /// No router is attached to the listener.
    Nothing,
    /// No generation of the router could decide.
    RouterFailed,
    /// None of the router's rules takes the request.
    NoMatch(&'v RouterRung),
    /// The rule that takes it has no backend, or one that does not exist.
    BadBackend(&'v RouterRung, Choice),
}

/// Where a connection or a flow goes. With TLS `host` is the server name; without TLS only the client's address is known.
///
/// # Errors
/// It goes nowhere, and why.
pub fn forward<'v>(
    target: &'v Target,
    host: &str,
    headers: &HeaderMap,
    client: IpAddr,
    routers: &mut impl Routers,
) -> Result<Forwarded<'v>, Unrouted<'v>> {
    let binding = match target {
        Target::Nothing => return Err(Unrouted::Nothing),
        Target::Service(to) => return Ok(Forwarded { to: *to, rule: None }),
        Target::Router(binding) => binding,
    };
    let asked = RouteView { method: "", host, path: "", query: "", headers, client };
    match ladder::route(binding, &asked, routers).ok_or(Unrouted::RouterFailed)? {
        (rung, Decision::Matched(choice)) => {
            let service = backend(rung, choice).ok_or(Unrouted::BadBackend(rung, choice))?;
            Ok(Forwarded { to: ServiceSide { service, side: Side::Internal }, rule: Some((rung, choice)) })
        }
        (rung, Decision::NoMatch | Decision::Answer(_)) => Err(Unrouted::NoMatch(rung)),
    }
}

/// What a balancer is given to hash for a connection or a flow. It has no header, cookie or path, so the client's address tells it apart.
pub fn hash(service: &ServicePort, client: IpAddr) -> Option<u64> {
    service.hash.as_ref().map(|_| hash_ip(client))
}
