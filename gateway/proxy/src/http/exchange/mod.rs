//! One request and its response, in phases that read from top to bottom: check, host, route, static answers, head, mirror, send, stream back. [`arrival`]
//! settles who asks for what; the way is [`sluicegate_decide`]'s; [`send()`] tries endpoints, by the rules of [`retry`].

pub(in crate::http) mod arrival;
mod challenge;
mod deadline;
mod forwarded;
mod grpc;
mod limit;
mod mirror;
mod observer;
mod peer;
mod preview;
mod refuse;
mod reply;
mod response;
mod retry;
mod seen;
mod send;
mod traced;
mod trailing;
mod upgrade;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Request, StatusCode, Version, header};
use sluicegate_decide::answer::{LocalReply, Reason, Why};
use sluicegate_decide::way::{self, Followed, Matched};
use sluicegate_decide::{cors, method, redirect};
use sluicegate_model::route::{Actions, Choice};
use sluicegate_model::session::Token;
use sluicegate_model::snapshot::{Listener, RouterRung, ServicePort, Side, Target};
use sluicegate_model::trace_context::TraceContext;
use sluicegate_model::unix::seconds;

pub(in crate::http) use peer::Peer;
pub use preview::{Arrived, Asked, Outcome, Preview, preview};
pub(in crate::http) use refuse::refuse;
pub(crate) use reply::{Parts, Reply};
pub(crate) use response::ResponseBody;

use deadline::Deadline;
use observer::Observer;
use retry::Tries;
use send::send;
use traced::Traced;

use crate::core::{Core, View};
use crate::endpoint::Endpoints;
use crate::h1::RequestLines;
use crate::http::body::RequestBody;
use crate::http::rules::deferred::Deferred;
use crate::http::rules::headers;
use crate::http::rules::trailers::Trailers;
use crate::http::upstream::Upstreams;
use crate::overload;

/// What all exchanges of a worker share.
pub(crate) struct Exchanges {
    pub(in crate::http) core: Rc<Core>,
    pub(in crate::http) endpoints: Rc<Endpoints>,
    pub(crate) upstreams: Rc<Upstreams>,
    /// The number of copies of requests under way, see [`mirror`].
    mirrors: Cell<usize>,
}

impl Exchanges {
    pub(crate) fn new(endpoints: Rc<Endpoints>) -> Self {
        Self { core: endpoints.core.clone(), endpoints, upstreams: Rc::default(), mirrors: Cell::new(0) }
    }
}

/// Where an exchange goes that is not answered here.
pub(in crate::http) struct Routed<'v> {
    pub(in crate::http) service: &'v ServicePort,
    pub(in crate::http) side: Side,
    matched: Option<Matched<'v>>,
    /// The rule that has left the decision to another router.
    handed_by: Option<(&'v RouterRung, Choice)>,
    /// The client's session, which leads to one endpoint.
    pub(in crate::http) session: Option<Token>,
    /// When the request's head had come.
    pub(in crate::http) begun: Instant,
    tries: Cell<u32>,
    /// The endpoint of the last try.
    endpoint: Cell<Option<SocketAddr>>,
    /// What a gRPC call asks for.
    pub(in crate::http) call: Option<grpc::Asked>,
    /// What is recorded for its trace while it is sent.
    pub(in crate::http) traced: RefCell<Traced>,
}

impl<'v> Routed<'v> {
    /// Notes a try at an endpoint. Returns what the endpoint is told of the trace.
    pub(in crate::http) fn trying(&self, endpoint: SocketAddr) -> Option<TraceContext> {
        self.tries.set(self.tries.get() + 1);
        self.endpoint.set(Some(endpoint));
        self.traced.borrow_mut().trying(endpoint)
    }

    /// How many tries there were.
    pub(in crate::http) fn tries(&self) -> u32 {
        self.tries.get()
    }

    /// The actions of the rule, then those of the backend.
    pub(in crate::http) fn actions(&self) -> impl Iterator<Item = &'v Actions> + use<'v> {
        let backend = |m: &Matched<'v>| m.choice.backend.and_then(|b| m.rule.backends.get(b)).map(|b| &b.actions);
        let both = self.matched.as_ref().map(|m| (&m.rule.actions, backend(m)));
        both.into_iter().flat_map(|(rule, backend)| std::iter::once(rule).chain(backend))
    }

    /// The header fields that the router decides by.
    pub(in crate::http) fn names_read(&self) -> impl Iterator<Item = &'v HeaderName> {
        let rungs = self.matched.as_ref().map(|m| m.rung).into_iter().chain(self.handed_by.map(|(rung, _)| rung));
        rungs.flat_map(|rung| &rung.table.interests.headers)
    }

    /// What the client is told of its session with whoever answered, where the rule or the service keeps sessions.
    fn told_of_session(&self, peer: &Peer) -> Option<(HeaderName, HeaderValue)> {
        let of_rule = self.matched.as_ref().and_then(|matched| matched.rule.session.as_deref());
        let session = of_rule.or(self.service.settings.session.as_ref())?;
        let used = Token::new(&self.service.id, self.endpoint.get()?, seconds());
        session.told(self.session, used, peer.scheme() == "https")
    }

    /// The state of an exchange before its first try.
    pub(in crate::http) fn first_try(&self) -> Tries<'v> {
        Tries::new(self.service, self.matched.as_ref().and_then(|m| m.rule.retry.as_deref()))
    }

    /// How long one try may take: the rule's time, else the service's.
    pub(in crate::http) fn try_time(&self) -> Option<Duration> {
        let of_service = || self.service.settings.retry.as_ref().and_then(|r| r.per_try);
        given(self.matched.as_ref().and_then(|m| m.rule.backend_timeout).or_else(of_service))
    }

    /// How long the whole exchange may take: the rule's time, else the service's; never more than the service allows, nor than a call asks for. And the reason
    /// that is given when that time has passed.
    fn whole_time(&self) -> (Option<Duration>, Reason) {
        let of = &self.service.settings.timeouts;
        let time = given(self.matched.as_ref().and_then(|m| m.rule.request_timeout).or(of.request));
        let time = time.into_iter().chain(given(of.stream)).min();
        match self.call.and_then(|call| call.timeout) {
            Some(call) if time.is_none_or(|time| call <= time) => (Some(call), Reason::Deadline),
            _ => (time, Reason::Timeout),
        }
    }
}

/// A time that is given; Gateway API's `0s` means no limit, even if the service has one.
fn given(time: Option<Duration>) -> Option<Duration> {
    time.filter(|t| !t.is_zero())
}

/// Carries out one exchange. The request stays with the caller until its content is sent, and is lent to all below. `lines`: its fields, if they are not in its
/// map. `begun`: when its head had come.
pub(in crate::http) async fn exchange<'c>(
    request: &mut Request<RequestBody<'c>>,
    lines: Option<RequestLines>,
    peer: &Peer,
    begun: Instant,
    shared: &Rc<Exchanges>,
) -> Reply<'c> {
    let mut observer = Observer::begun(&shared.core);
    let mut request = Deferred::new(request, lines);
    let mut response = match forward(&mut request, peer, begun, shared, &mut observer).await {
        Ok(response) => response,
        Err(own) => {
            observer.refused(&own, request.body().taken());
            if request.is_call() { grpc::answer(*own) } else { Reply::local(*own) }
        }
    };
    if let Some(alternative) = &peer.alternative {
        // Whoever has said something of its own about it knows better.
        response.headers_mut().entry(header::ALT_SVC).or_insert_with(|| alternative.clone());
    }
    observer.end(&mut response);
    response
}

async fn forward<'c, 'p>(
    request: &mut Deferred<'_, 'p, RequestBody<'c>>,
    peer: &'p Peer,
    begun: Instant,
    shared: &Rc<Exchanges>,
    observer: &mut Observer<'_>,
) -> Result<Reply<'c>, Box<LocalReply>> {
    if overload::is_refusing(&shared.core.stats) {
        observer.overloaded();
        return Err(Reason::Overloaded.into());
    }
    let view = shared.core.view();
    let listener = view.listener(peer.listener).ok_or(Reason::NoRoute)?;
    let settings = &*listener.settings;
    observer.looked_at(request, peer, begun, listener, &view);
    request.apart_from_fields(|request| method::check(request))?;
    let arrival::Arrived { client, nominated } = arrival::arrive(request, peer, settings)?;
    let peer = client.as_deref().unwrap_or(peer);
    observer.arrived(peer.address.ip(), request);
    // It comes before limits and routes, so that neither keeps a name from being validated.
    if shared.core.acme.is_open()
        && let Some(answer) = challenge::answer(&shared.core.acme, request)
    {
        return Err(answer);
    }
    if let Some(most) = settings.content {
        limit::length(request.body(), most, shared)?;
    }
    let mut verdict = None;
    if let Some(limiter) = &listener.limiter {
        let stats = &shared.core.stats.clients;
        verdict = limit::rate(limiter, request.whole(), peer.address.ip(), begun, (&stats.rate, &stats.evicted))?;
    }
    let mut routed = route(request, peer, listener, &view, shared, begun, observer)?;
    if routed.service.protocol.is_http2() {
        routed.call = request.of_call(grpc::Asked::new);
    }
    observer.routed(&routed);
    if let Some(limiter) = &routed.service.limiter {
        let stats = &routed.service.stats.refused;
        let of_service = limit::rate(limiter, request.whole(), peer.address.ip(), begun, (&stats.rate, &stats.evicted))?;
        verdict = limit::stricter(verdict, of_service);
    }
    if let Some(limiter) = routed.matched.as_ref().and_then(|matched| matched.rung.limiter(matched.choice.rule)) {
        let stats = &routed.service.stats.refused;
        let of_rule = limit::rate(limiter, request.whole(), peer.address.ip(), begun, (&stats.rate, &stats.evicted))?;
        verdict = limit::stricter(verdict, of_rule);
    }
    let hash = routed.service.hash.as_ref();
    let known = hash.and_then(|key| {
        if key.reads_fields() {
            request.whole();
        }
        key.of(|| request.headers(), request.uri().path(), peer.address.ip())
    });
    let given = hash.filter(|_| known.is_none()).and_then(|key| key.give(rand::random, peer.scheme() == "https"));
    let (hash, cookie) = given.map_or((known, None), |(hash, cookie)| (Some(hash), Some(cookie)));
    let origin = routed.actions().any(|a| a.cors.is_some()).then(|| request.origin().cloned()).flatten();
    let takes_trailers = request.version() >= Version::HTTP_2;
    let asked = head(request, &routed)?;
    let takes_trailers = takes_trailers || asked.trailers;
    let trailers =
        if request.body().may_end_in_trailers() { trailing::of_request(nominated, settings, &routed) } else { Trailers::default() };
    request.announce(&trailers);
    request.body_mut().pass_trailers(trailers);
    if asked.trailers && routed.service.protocol.is_http2() {
        request.set(header::TE, HeaderValue::from_static("trailers"));
    }
    request.apart_from_fields(|request| upgrade::note(asked.upgrade, request, routed.service))?;
    if let Some(matched) = routed.matched.as_ref().filter(|_| routed.actions().any(|actions| !actions.mirrors.is_empty())) {
        mirror::start(matched, request.whole(), &view, peer, shared);
    }
    if let Some(most) = settings.content {
        limit::watch(request.body_mut(), most);
    }
    let (time, passed) = routed.whole_time();
    let mut deadline = Deadline::new(begun, time);
    observer.sending(&routed);
    let sent = deadline::by(&mut deadline, pin!(send(request, &routed, hash, peer, shared))).await;
    observer.sent(&routed);
    let mut response = sent.ok_or_else(|| {
        observer.timed_out(&routed);
        passed
    })??;
    // RFC 9110 §15.5.22: a 426 says what to upgrade to. The client may do so without us.
    let wanted = response.status() == StatusCode::UPGRADE_REQUIRED;
    let wanted = response.fields().made().filter(|_| wanted).and_then(|fields| headers::upgrade(fields));
    // A response that passes as it came has no such fields.
    let (asked, nominated) = response.fields().made().map(headers::strip_response).unwrap_or_default();
    if let Some(wanted) = wanted {
        response.headers_mut().insert(header::UPGRADE, wanted);
    }
    let trailers =
        if response.body().may_end_in_trailers() { trailing::of_response(nominated, takes_trailers, &routed) } else { Trailers::default() };
    if let Some(fields) = response.fields().made().filter(|fields| fields.contains_key(header::TRAILER)) {
        trailers.announce(fields);
    }
    response.body_mut().pass_trailers(trailers);
    if request.apart_from_fields(|request| upgrade::is_agreed(asked.upgrade, request, &mut response, routed.service))? {
        observer.upgraded();
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
    if let Some((name, value)) = routed.told_of_session(peer) {
        response.headers_mut().append(name, value);
    }
    if let Some(verdict) = &verdict {
        limit::tell(verdict, response.headers_mut());
    }
    observer.answered(&routed, response.status());
    Ok(response)
}

/// Finds virtual host, rule, static answer and backend.
fn route<'v, B>(
    request: &mut Deferred<'_, '_, B>,
    peer: &Peer,
    listener: &'v Listener,
    view: &'v View,
    shared: &Exchanges,
    begun: Instant,
    observer: &mut Observer<'_>,
) -> Result<Routed<'v>, Box<LocalReply>> {
    let client = peer.asks();
    let host = request.host().ok_or(Reason::BadHost)?;
    let found = way::target(listener, &host, &client)?;
    let reads_fields = matches!(found.target, Target::Router(binding) if binding.reads_fields());
    let host = if reads_fields {
        let host = host.into_owned();
        request.whole();
        Cow::Owned(host)
    } else {
        host
    };
    let Followed { handed_by, matched, session, outcome } =
        way::follow(found.target, request, &host, &client, &view.snapshot, &mut *shared.core.decider.borrow_mut());
    observer.decided(handed_by, matched.as_ref());
    let (service, side) = outcome.map_err(|mut own| {
        if own.why == Why::Direct {
            headers::strip_response(own.response.headers_mut());
        }
        own
    })?;
    let (tries, endpoint, traced) = (Cell::new(0), Cell::new(None), RefCell::default());
    Ok(Routed { service, side, matched, handed_by, session, begun, tries, endpoint, call: None, traced })
}

/// Prepares the head for the next hop: removes fields of one hop, rewrites, and changes header fields.
fn head<B>(request: &mut Deferred<'_, '_, B>, routed: &Routed<'_>) -> Result<headers::Asked, Reason> {
    let asked = request.take_hop();
    if let Some(matched) = &routed.matched {
        for actions in routed.actions().filter(|actions| actions.reads_or_changes_requests()) {
            let request = request.whole();
            if let Some(change) = &actions.rewrite {
                redirect::rewrite(change, request, matched.choice.matched_prefix)?;
            }
            actions.request_headers.apply(request.headers_mut());
        }
    }
    Ok(asked)
}
