//! One request and its response, in phases that read top to bottom: host, route, static answers, pick, head, send, stream back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Either;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sluicegate_model::plugin::{hash_bytes, hash_ip};
use sluicegate_model::route::{Actions, Answer, Choice, Decision, Redirect, RouteView, Rule};
use sluicegate_model::snapshot::{
    Front, HashKey, RouterBinding, RouterRung, ServicePort, ServiceSide, Side, Snapshot, Target, VirtualHost,
};
use sluicegate_model::stats::count;

use super::answer::{Body, Reason, full};
use super::headers;
use crate::tcp::{Busy, NoConnection, TRIES, dial};
use crate::worker::Shared;

/// What a route decided for an exchange that goes on.
struct Routed {
    service: Arc<ServicePort>,
    side: Side,
    /// The rung and choice, for the rule's actions.
    by: Option<(Arc<RouterBinding>, usize, Choice)>,
    timeout: Option<Duration>,
}

impl Routed {
    fn actions(&self) -> impl Iterator<Item = &Actions> {
        let rule =
            self.by.as_ref().and_then(|(binding, rung, choice)| Some((binding.ladder.get(*rung)?.table.rules.get(choice.rule)?, choice)));
        rule.into_iter().flat_map(|(rule, choice)| {
            let backend = choice.backend.and_then(|b| rule.backends.get(b)).map(|b| &b.actions);
            std::iter::once(&rule.actions).chain(backend)
        })
    }
}

pub(super) async fn exchange(
    mut request: Request<Incoming>,
    client: SocketAddr,
    address: SocketAddr,
    shared: &Rc<Shared>,
) -> Result<Response<Body>, Infallible> {
    count(&shared.stats.requests);
    let answered = match prepare(&mut request, client, address, shared) {
        Ok(routed) => {
            let timeout = routed.timeout;
            let sending = send(request, &routed, client, shared);
            let sent = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, sending).await.unwrap_or_else(|_| Err(Reason::Timeout)),
                None => sending.await,
            };
            let class = |status: StatusCode| usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
            sent.map(|mut response| {
                for actions in routed.actions() {
                    actions.response_headers.apply(response.headers_mut());
                }
                count(&routed.service.stats.responses[class(response.status())]);
                response
            })
            .map_err(|reason| reason.answer())
        }
        Err(answer) => Err(*answer),
    };
    let mut response = answered.unwrap_or_else(|answer| {
        count(&shared.stats.own_answers);
        answer
    });
    if shared.stopping.get() || shared.listener(address).is_none() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Host, route, static answers; then the request's head is made ready for the next hop.
fn prepare(
    request: &mut Request<Incoming>,
    client: SocketAddr,
    address: SocketAddr,
    shared: &Rc<Shared>,
) -> Result<Routed, Box<Response<Body>>> {
    let host = host_of(request).ok_or_else(|| Box::new(Reason::BadHost.answer()))?;
    let listener = shared.listener(address).ok_or_else(|| Box::new(Reason::NoRoute.answer()))?;
    let Front::Http(hosts) = &listener.front else { return Err(Box::new(Reason::NoRoute.answer())) };
    let snapshot = shared.snapshot.borrow().clone();
    let routed = match hosts.iter().find(|h| serves(h, &host)).map(|h| &h.target) {
        None | Some(Target::Nothing) => return Err(Box::new(Reason::NoRoute.answer())),
        Some(Target::Service(to)) => plain(&snapshot, *to).ok_or_else(|| Box::new(Reason::NoRoute.answer()))?,
        Some(Target::Router(binding)) => route(request, &host, client, binding, &snapshot, shared)?,
    };
    headers::strip_hop_by_hop(request.headers_mut());
    headers::forwarded(request.headers_mut(), client.ip());
    if request.uri().authority().is_some() {
        // Absolute form (RFC 9112 §3.2.2): Host is what the target says, the next hop gets the origin form.
        if let Some(value) = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            request.headers_mut().insert(header::HOST, value);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }
    if let Some((_, _, choice)) = &routed.by {
        for actions in routed.actions() {
            rewrite(request, actions, choice.matched_prefix);
            actions.request_headers.apply(request.headers_mut());
        }
    }
    Ok(routed)
}

/// The one Host, lower case, without its port.
fn host_of(request: &Request<Incoming>) -> Option<String> {
    let mut values = request.headers().get_all(header::HOST).iter();
    let field = match (values.next(), values.next()) {
        (_, Some(_)) => return None,
        (Some(value), None) => Some(value.to_str().ok()?),
        (None, None) => None,
    };
    let host = match (request.uri().host(), field) {
        (Some(host), _) => host,
        (None, Some(field)) => match field.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => field,
        },
        (None, None) if request.version() < http::Version::HTTP_11 => "",
        (None, None) => return None,
    };
    Some(host.to_ascii_lowercase())
}

fn serves(virtual_host: &VirtualHost, host: &str) -> bool {
    match virtual_host.hostname.as_deref() {
        None => true,
        Some(wanted) => match wanted.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => wanted == host,
        },
    }
}

fn plain(snapshot: &Snapshot, to: ServiceSide) -> Option<Routed> {
    let service = snapshot.services.get(to.service)?.clone();
    Some(Routed { timeout: service.request_timeout, service, side: to.side, by: None })
}

fn route(
    request: &Request<Incoming>,
    host: &str,
    client: SocketAddr,
    binding: &Arc<RouterBinding>,
    snapshot: &Snapshot,
    shared: &Shared,
) -> Result<Routed, Box<Response<Body>>> {
    let view = RouteView {
        method: request.method().as_str(),
        scheme: "http",
        host,
        path: request.uri().path(),
        query: request.uri().query().unwrap_or(""),
        headers: request.headers(),
        client: client.ip(),
    };
    let routed = shared.decider.borrow_mut().route(binding, &view);
    let (rung, decision) = routed.ok_or_else(|| Box::new(Reason::RouterFailed.answer()))?;
    let choice = match decision {
        Decision::Matched(choice) => choice,
        Decision::Answer(answer) => return Err(Box::new(direct(&answer))),
        Decision::NoMatch => return Err(Box::new(Reason::NoRoute.answer())),
    };
    let rule = &rung.table.rules[choice.rule];
    if let Some(answer) = static_answer(rule, request, host, &choice) {
        return Err(Box::new(answer));
    }
    let service = choice.backend.and_then(|b| rung.backends.get(choice.rule)?.get(b)?.as_ref().ok());
    let service = service.and_then(|index| snapshot.services.get(*index)).ok_or_else(|| Box::new(Reason::BadBackend.answer()))?.clone();
    let rung = binding.ladder.iter().position(|r: &RouterRung| std::ptr::eq(r, rung)).unwrap_or(0);
    let timeout = [rule.request_timeout, rule.backend_timeout, service.request_timeout].into_iter().flatten().min();
    Ok(Routed { service, side: Side::Internal, by: Some((binding.clone(), rung, choice)), timeout })
}

fn static_answer(rule: &Rule, request: &Request<Incoming>, host: &str, choice: &Choice) -> Option<Response<Body>> {
    if let Some(redirect) = &rule.actions.redirect {
        return Some(redirected(redirect, request, host, choice.matched_prefix));
    }
    rule.actions.answer.as_ref().map(direct)
}

fn direct(answer: &Answer) -> Response<Body> {
    let mut response = full(answer.status, answer.body.clone());
    for (name, value) in &answer.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// HTTPRequestRedirectFilter: what is not given stays; a well-known port is left out.
fn redirected(redirect: &Redirect, request: &Request<Incoming>, host: &str, matched: usize) -> Response<Body> {
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let host_name = redirect.hostname.as_deref().unwrap_or(host);
    let own_port = request
        .headers()
        .get(header::HOST)
        .and_then(|h| h.to_str().ok())
        .and_then(|h| h.rsplit_once(':'))
        .and_then(|(_, p)| p.parse::<u16>().ok());
    let port = redirect.port.or(if redirect.scheme.is_some() { None } else { own_port });
    let port = port.filter(|p| !matches!((scheme, p), ("http", 80) | ("https", 443))).map_or_else(String::new, |p| format!(":{p}"));
    let path = redirect.path.as_ref().map_or_else(|| request.uri().path().to_owned(), |p| p.apply(request.uri().path(), matched));
    let query = request.uri().query().map_or_else(String::new, |q| format!("?{q}"));
    let mut response = full(redirect.status, "");
    if let Ok(location) = HeaderValue::from_str(&format!("{scheme}://{host_name}{port}{path}{query}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn rewrite(request: &mut Request<Incoming>, actions: &Actions, matched: usize) {
    let Some(rewrite) = &actions.rewrite else { return };
    if let Some(host) = &rewrite.hostname {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    if let Some(path) = &rewrite.path {
        let path = path.apply(request.uri().path(), matched);
        let query = request.uri().query().map_or_else(String::new, |q| format!("?{q}"));
        if let Ok(uri) = format!("{path}{query}").parse() {
            *request.uri_mut() = uri;
        }
    }
}

fn hash(key: &HashKey, request: &Request<Incoming>, client: SocketAddr) -> Option<u64> {
    match key {
        HashKey::SourceIp => Some(hash_ip(client.ip())),
        HashKey::Path => Some(hash_bytes(request.uri().path().as_bytes())),
        HashKey::Header(name) => request.headers().get(name).map(|v| hash_bytes(v.as_bytes())),
        HashKey::Cookie(name) => cookie(request.headers(), name).map(|v| hash_bytes(v.as_bytes())),
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Picks, checks a connection out or makes one, sends. A failed connect, or an idle connection that turned out dead before the request was
/// written to it, goes on to another try: the request was not touched.
async fn send(mut request: Request<Incoming>, routed: &Routed, client: SocketAddr, shared: &Rc<Shared>) -> Result<Response<Body>, Reason> {
    let service = &*routed.service;
    let hash = service.hash.as_ref().and_then(|key| hash(key, &request, client));
    // hyper hands a request back only if nothing of it was written. Beyond that a second send is safe only for what RFC 9110 §9.2.2 calls
    // idempotent and only without a body; then the head is kept for it.
    let replayable =
        request.body().is_end_stream() && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    let mut tried = Vec::new();
    loop {
        if tried.len() >= TRIES {
            return Err(Reason::ConnectFailed);
        }
        let picked = shared.decider.borrow_mut().pick(service, routed.side, client.ip(), hash, &tried);
        let Some(endpoint) = picked else {
            count(&service.stats.no_endpoint);
            return Err(Reason::NoEndpoint);
        };
        let busy = Busy::new(&endpoint);
        let (mut connection, reused) = match shared.upstreams.check_out(endpoint.address) {
            Some(connection) => (connection, true),
            None => match open(service, &endpoint).await {
                Some(connection) => (connection, false),
                None => {
                    tried.push(endpoint.address);
                    if tried.len() >= service.pool(routed.side).endpoints.len() {
                        return Err(Reason::ConnectFailed);
                    }
                    continue;
                }
            },
        };
        let spare = (reused && replayable).then(|| head_of(&request));
        let begun = Instant::now();
        match connection.try_send_request(request).await {
            Ok(response) => {
                endpoint.stats.observe(response.status().as_u16() < 500, begun.elapsed());
                let (mut head, body) = response.into_parts();
                headers::strip_hop_by_hop(&mut head.headers);
                let returns = Returns { address: endpoint.address, connection: Some(connection), shared: shared.clone(), _busy: busy };
                let done = body.is_end_stream();
                let mut streamed = Streamed { body, returns: Some(returns) };
                if done {
                    streamed.finish();
                }
                return Ok(Response::from_parts(head, Either::Left(streamed)));
            }
            Err(mut error) => {
                endpoint.stats.observe(false, begun.elapsed());
                match (error.take_message(), spare) {
                    (Some(unsent), _) if reused => request = unsent,
                    (_, Some((method, uri, version, fields))) => match again(service, &endpoint, method, uri, version, fields).await {
                        Some((response, connection)) => {
                            let (mut head, body) = response.into_parts();
                            headers::strip_hop_by_hop(&mut head.headers);
                            let returns = Returns { address: endpoint.address, connection, shared: shared.clone(), _busy: busy };
                            return Ok(Response::from_parts(head, Either::Left(Streamed { body, returns: Some(returns) })));
                        }
                        None => return Err(Reason::UpstreamBroke),
                    },
                    _ => return Err(Reason::UpstreamBroke),
                }
            }
        }
    }
}

type Head = (Method, Uri, http::Version, HeaderMap);

fn head_of(request: &Request<Incoming>) -> Head {
    (request.method().clone(), request.uri().clone(), request.version(), request.headers().clone())
}

/// Sends a request without a body once more, on a fresh connection that serves only it.
async fn again(
    service: &ServicePort,
    endpoint: &sluicegate_model::pool::Endpoint,
    method: Method,
    uri: Uri,
    version: http::Version,
    fields: HeaderMap,
) -> Option<(Response<Incoming>, Option<SendRequest<Incoming>>)> {
    let stream = dial(service, endpoint).await?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::task::spawn_local(async move {
        // Its error reaches the exchange through the response.
        let _ = driver.await;
    });
    let mut request = Request::new(http_body_util::Empty::<Bytes>::new());
    (*request.method_mut(), *request.uri_mut(), *request.version_mut(), *request.headers_mut()) = (method, uri, version, fields);
    Some((connection.send_request(request).await.ok()?, None))
}

async fn open(service: &ServicePort, endpoint: &sluicegate_model::pool::Endpoint) -> Option<SendRequest<Incoming>> {
    let stream = dial(service, endpoint).await?;
    let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::task::spawn_local(async move {
        // Its error reaches the exchange through the response.
        let _ = driver.await;
    });
    Some(connection)
}

impl From<NoConnection> for Reason {
    fn from(why: NoConnection) -> Self {
        match why {
            NoConnection::NoEndpoint => Self::NoEndpoint,
            NoConnection::Failed => Self::ConnectFailed,
        }
    }
}

/// Where the connection goes when the response has been read to its end; dropped before that, it is closed.
struct Returns {
    address: SocketAddr,
    connection: Option<SendRequest<Incoming>>,
    shared: Rc<Shared>,
    _busy: Busy,
}

/// A response body that gives its connection back at its end.
pub(crate) struct Streamed<B> {
    body: B,
    returns: Option<Returns>,
}

impl<B> Streamed<B> {
    fn finish(&mut self) {
        if let Some(mut returns) = self.returns.take()
            && let Some(connection) = returns.connection.take()
        {
            returns.shared.upstreams.check_in(returns.address, connection);
        }
    }
}

impl hyper::body::Body for Streamed<Incoming> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = polled {
            self.finish();
        } else if let Poll::Ready(Some(Ok(_))) = &polled
            && self.body.is_end_stream()
        {
            self.finish();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
