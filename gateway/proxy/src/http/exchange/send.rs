//! Picks an endpoint, checks out a connection or makes one, sends, and waits for the response's head. It tries again if [`retry`](super::retry) says so.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::StatusCode;
use sluicegate_decide::answer::Reason;
use sluicegate_decide::ladder::NoPick;
use sluicegate_model::health::Outcome as Observed;
use sluicegate_model::slots::Slot;
use sluicegate_model::stats::count;

use super::Exchanges;
use super::Routed;
use super::deadline::{self, Deadline};
use super::grpc::{self, Call};
use super::peer::Peer;
use super::reply::Reply;
use super::response::{Account, ResponseBody, Returns, Watch};
use super::retry::{Outcome, Tries};
use crate::core::decider::Picked;
use crate::core::places::{self, Full};
use crate::endpoint::{Busy, Opening, Patience, Speak};
use crate::h1::{Head, Status};
use crate::http::body::RequestBody;
use crate::http::error::BodyError;
use crate::http::rules::deferred::Deferred;
use crate::http::rules::unreadable;
use crate::http::rules::upgrade::Upgrade;
use crate::http::upstream::breaker::{self, Got};
use crate::http::upstream::{self, Broken, Link, Upstreams};

/// How many parts of a response that is not wanted are read for the sake of its connection, if they are there already.
const UNWANTED_PARTS: usize = 4;

/// Sends one request to the endpoints of one service port, try by try.
struct Sender<'e> {
    routed: &'e Routed<'e>,
    hash: Option<u64>,
    peer: &'e Peer,
    shared: &'e Rc<Exchanges>,
}

/// The result of a try.
#[allow(clippy::large_enum_variant, reason = "a response is the rule, and a box would be an allocation for each exchange")]
enum Try {
    /// The endpoint has as many connections as it may have.
    Full,
    NoConnection,
    Broke {
        unsent: bool,
        error: Broken,
    },
    TimedOut,
    Response(Answered),
}

/// The head of a response, and where the rest of it comes from.
struct Answered {
    head: Head<Status>,
    link: Link,
    busy: Busy,
    at: Instant,
    latency: Duration,
    /// Whether everything was told of the endpoint that there is to tell.
    told: bool,
}

/// Makes one try after another, each at another endpoint.
pub(in crate::http) async fn send<'c>(
    request: &mut Deferred<'_, '_, RequestBody<'c>>,
    routed: &Routed<'_>,
    hash: Option<u64>,
    peer: &Peer,
    shared: &Rc<Exchanges>,
) -> Result<Reply<'c>, Reason> {
    let sender = Sender { routed, hash, peer, shared };
    let endpoints = routed.service.pool(routed.side).endpoints.len();
    let place = breaker::exchange(routed.service).map_err(|_| Reason::CircuitBreaker)?;
    let mut tries = routed.first_try();
    tries.keep(request);
    loop {
        let picked = sender.pick(&tries)?;
        let mut made = sender.attempt(request, &picked, &mut tries, endpoints).await?;
        let outcome = match &mut made {
            Try::Full => {
                tries.tried.push(picked.address);
                continue;
            }
            Try::NoConnection => Outcome::NoConnection,
            Try::Broke { unsent, error } => Outcome::Broke { unsent: *unsent, refused: error.is_refusal() },
            Try::TimedOut => Outcome::TimedOut,
            Try::Response(answered) => {
                let Status { code, fields } = &mut answered.head.message;
                Outcome::Response(*code, tries.reads_fields().then(|| &*fields.map()))
            }
        };
        let Some(pause) = tries.again(picked.address, request, outcome, endpoints) else {
            return match made {
                Try::Full | Try::NoConnection => Err(Reason::ConnectFailed),
                Try::TimedOut => Err(Reason::Timeout),
                Try::Broke { error, .. } => {
                    tracing::debug!(%error, endpoint = %picked.address, "an exchange broke");
                    Err(match error {
                        Broken::Head(why) => unreadable::of_response(why),
                        _ => Reason::UpstreamBroke,
                    })
                }
                Try::Response(answered) => sender.respond(answered, &picked, request, place, &tries),
            };
        };
        if let Try::Response(answered) = made {
            routed.traced.borrow_mut().left();
            sender.leave(answered, &picked);
        }
        if let Some(pause) = pause {
            Box::pin(tokio::time::sleep(pause)).await;
        }
        request.body_mut().rewind();
    }
}

impl Sender<'_> {
    fn pick(&self, tries: &Tries<'_>) -> Result<Picked, Reason> {
        let Routed { service, side, .. } = *self.routed;
        let mut decider = self.shared.core.decider.borrow_mut();
        let session = self.routed.session.filter(|_| tries.tried.is_empty());
        if let Some(picked) = session.and_then(|session| decider.stay(service, side, session.endpoint)) {
            return Ok(picked);
        }
        let picked = decider.pick(service, side, self.peer.address.ip(), self.hash, &tries.tried);
        picked.map_err(|why| {
            count(&service.stats.no_endpoint);
            match why {
                NoPick::Empty => Reason::NoEndpoint,
                NoPick::NoLocal => {
                    count(&service.stats.no_local_endpoint);
                    Reason::NoLocalEndpoint
                }
                NoPick::Failed => Reason::BalancerFailed,
            }
        })
    }

    /// Makes one try at one endpoint. If a kept connection breaks, it has mostly been closed while idle. Then the request goes once more, on a fresh connection, if
    /// that is possible; to another endpoint, if that is as good. Errors: reasons that another endpoint cannot help.
    async fn attempt(
        &self,
        request: &mut Deferred<'_, '_, RequestBody<'_>>,
        to: &Picked,
        tries: &mut Tries<'_>,
        endpoints: usize,
    ) -> Result<Try, Reason> {
        let (has_others, patience) = (tries.tried.len() + 1 < endpoints, Patience::new(tries.connects_elsewhere(endpoints)));
        let busy = Busy::new(to);
        let mut fresh = tries.fresh;
        loop {
            let trace = self.routed.trying(to.address);
            let kept = if fresh { None } else { self.upstreams().check_out(self.routed.service, to.address) };
            let (mut link, reused) = match kept {
                Some(link) => (link, true),
                None => match Box::pin(self.link(to, has_others, patience)).await? {
                    Ok(link) => link,
                    Err(none) => {
                        self.failed(if matches!(none, Try::Full) { "circuit-breaker" } else { "connect-failed" });
                        return Ok(none);
                    }
                },
            };
            if let Some(trace) = trace {
                request.set_trace(trace);
            }
            let framing = request.body().framing();
            link.begin(request, framing);
            // At the first try on a kept connection nothing was waited for. So the clock is not asked, and routing and picking count.
            let begun = if reused && self.routed.tries() == 1 { self.routed.begun } else { Instant::now() };
            let mut limit = Deadline::new(begun, self.routed.try_time());
            let sent = deadline::by(&mut limit, pin!(poll_fn(|context| poll_response(&mut link, request, context)))).await;
            let at = Instant::now();
            let service = self.routed.service;
            let observe =
                |outcome| self.shared.core.decider.borrow_mut().observe(&service.settings, &service.stats, to, outcome, at - begun);
            return Ok(match sent {
                None => {
                    observe(Observed::Unreachable);
                    self.failed("timeout");
                    Try::TimedOut
                }
                Some(Ok(mut head)) => {
                    self.routed.traced.borrow_mut().tried(head.message.code, || head.message.fields.map());
                    // The outcome of a call is mostly told at its end; that of another exchange, to the rules that eject, if its content is still to come.
                    let outcome = match self.routed.call {
                        None => Some(self.first_word(head.message.code, &link)),
                        Some(_) => grpc::outcome(&mut head.message),
                    };
                    if let Some(outcome) = outcome {
                        observe(outcome);
                    }
                    let told = !matches!(outcome, None | Some(Observed::Accepted));
                    Try::Response(Answered { head, link, busy, at, latency: at - begun, told })
                }
                Some(Err(Broken::Client(why))) => {
                    return Err(match why {
                        BodyError::Client(_) => Reason::BadContent,
                        BodyError::Late => Reason::SlowRequest,
                        BodyError::TooLarge => {
                            count(&self.shared.core.stats.clients.large_content);
                            Reason::LargeContent
                        }
                        _ => Reason::ClientGone,
                    });
                }
                Some(Err(error)) => {
                    self.failed("upstream-broke");
                    let unsent = link.is_unsent();
                    let broke = Outcome::Broke { unsent, refused: error.is_refusal() };
                    let stale = reused && !fresh && !error.is_stream_reset();
                    // A client that is led to one endpoint stays with it.
                    let is_led = self.hash.is_some() || service.affinity.is_some() || self.routed.session.is_some();
                    let elsewhere = stale && has_others && !is_led && tries.goes_elsewhere(request, broke);
                    if stale && !elsewhere && tries.repeats_at_once(request, broke) {
                        request.body_mut().rewind();
                        fresh = true;
                        continue;
                    }
                    // A connection that was closed while idle says nothing of its endpoint.
                    if elsewhere {
                        tries.fresh = true;
                    } else {
                        observe(Observed::Unreachable);
                    }
                    Try::Broke { unsent, error }
                }
            });
        }
    }

    /// The try has failed, which its trace is told.
    fn failed(&self, error: &'static str) {
        self.routed.traced.borrow_mut().failed(error);
    }

    /// What the head of a response tells of its endpoint.
    fn first_word(&self, code: StatusCode, link: &Link) -> Observed {
        let is_watched = self.routed.service.settings.health.passive.is_some();
        match Observed::of(code) {
            Observed::Served if is_watched && !link.is_end() && code != StatusCode::SWITCHING_PROTOCOLS => Observed::Accepted,
            outcome => outcome,
        }
    }

    /// Where connections to the service's endpoints are kept.
    fn upstreams(&self) -> &Rc<Upstreams> {
        self.peer.upstreams(self.routed.service, self.shared)
    }

    /// A connection, or a stream on one, where none was kept, and whether the connection is there already. `has_others`: there is no need to wait for this
    /// endpoint.
    async fn link(&self, to: &Picked, has_others: bool, patience: Patience) -> Result<Result<(Link, bool), Try>, Reason> {
        let (service, peer) = (self.routed.service, self.peer);
        let upstreams = self.upstreams();
        if service.protocol.is_http2()
            && let Some(joined) = upstreams.join(service, to.address).await
        {
            return Ok(joined.map(|link| (link, false)).ok_or(Try::NoConnection));
        }
        if has_others && upstreams.is_full(service, to.address) {
            return Ok(Err(Try::Full));
        }
        let places = match places::connection(service, to) {
            Ok(places) => places,
            Err(Full::Endpoint) if has_others => return Ok(Err(Try::Full)),
            Err(_) => match breaker::wait(service, to, upstreams).await.map_err(|_| Reason::CircuitBreaker)? {
                Got::Places(places) => places,
                Got::Link(link) => return Ok(Ok((link, true))),
            },
        };
        let hello = peer.hello(service);
        let opening = Opening { hello: hello.as_deref(), speak: Speak::http(service), patience, from: None };
        let opened = upstream::open(service, to, opening, places, upstreams, &self.shared.endpoints).await;
        Ok(opened.map(|link| (link, false)).ok_or(Try::NoConnection))
    }

    /// The response for the client, whose content follows.
    fn respond<'c>(
        &self,
        answered: Answered,
        from: &Picked,
        request: &mut Deferred<'_, '_, RequestBody<'c>>,
        place: Option<Slot>,
        tries: &Tries<'_>,
    ) -> Result<Reply<'c>, Reason> {
        let Answered { head, mut link, busy, at, latency, told } = answered;
        if head.message.code == StatusCode::SWITCHING_PROTOCOLS {
            // No upgrade was asked for, so it is not a response to what was sent.
            if request.extension::<Upgrade>().is_none() {
                return Err(Reason::BadResponse);
            }
            link.tunnel();
        }
        tries.succeeded();
        let service = self.routed.service;
        let trace = self.routed.traced.borrow().context().map(Box::new);
        let account = Account { stats: service.stats.clone(), begun: self.routed.begun, ended: Some(at), bytes_out: 0, trace };
        let upstreams = self.upstreams().clone();
        let watch = (!told && self.routed.call.is_none()).then(|| Watch { settings: service.settings.clone(), latency });
        let returns = Returns { address: from.address, link, upstreams, account, watch, deadline: None, busy, _place: place };
        let content = std::mem::replace(request.body_mut(), RequestBody::Empty).release();
        let call = self.routed.call.map(|_| Box::new(Call::new((!told).then(|| from.clone()), service, latency, &self.shared.core)));
        let Status { code, fields } = head.message;
        Ok(Reply::new(code, fields, ResponseBody::endpoint(head.framing, content, returns, call)))
    }

    /// Drops a response that is not wanted. Its connection may serve again if the whole response is there already. If the request is not wholly sent, its content
    /// is cut off, so that it does not look whole.
    fn leave(&self, answered: Answered, from: &Picked) {
        let Answered { mut link, at, .. } = answered;
        if !link.is_sent() {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..UNWANTED_PARTS {
            if link.is_end() {
                break;
            }
            if !matches!(link.poll_part(&mut RequestBody::Empty, &mut context), Poll::Ready(Some(Ok(_)))) {
                break;
            }
        }
        if link.is_end() {
            self.upstreams().check_in(from.address, link, at);
        }
    }
}

/// Sends, passes interim responses on, and waits for the head of the final one, as long as the client does.
fn poll_response(
    link: &mut Link,
    request: &mut Deferred<'_, '_, RequestBody<'_>>,
    context: &mut Context<'_>,
) -> Poll<Result<Head<Status>, Broken>> {
    loop {
        let polled = request.apart_from_fields(|request| {
            let method = request.method().clone();
            link.poll_head(&method, request.body_mut(), context)
        });
        match polled {
            Poll::Ready(Ok(mut head)) if head.message.code.is_informational() && head.message.code != StatusCode::SWITCHING_PROTOCOLS => {
                request.body_mut().interim(&mut head.message, context);
            }
            Poll::Pending if request.body_mut().poll_gone(context).is_ready() => {
                return Poll::Ready(Err(Broken::Client(BodyError::ClientGone)));
            }
            polled => return polled,
        }
    }
}
