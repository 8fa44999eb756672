//! Picks, checks a connection out or makes one, sends, and waits for the response's head; tries again where that is safe.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use sluicegate_model::stats::count;

use super::answer::Reason;
use super::body::{BodyError, RequestBody, ResponseBody, Returns, Tally};
use super::connection::Peer;
use super::exchange::Routed;
use crate::decide::NoPick;
use crate::h1::{Framing, Head};
use crate::tcp::{Busy, TRIES};
use crate::upstream::{self, Broken, Connection};
use crate::worker::Shared;

/// Waits no longer than `time`, if it is given; no timer is armed otherwise.
pub(super) async fn within<F: Future>(time: Option<Duration>, future: Pin<&mut F>) -> Option<F::Output> {
    match time {
        None => Some(future.await),
        Some(time) => Box::pin(tokio::time::timeout(time, future)).await.ok(),
    }
}

/// A failed connect goes to another endpoint: nothing was sent. When a connection breaks before the response's head, what was not sent, or
/// what is idempotent and has no content (RFC 9110 §9.2.2), goes once more: to the same endpoint on a fresh connection if it was a reused one,
/// which had, as a rule, been closed while idle; else to another endpoint.
pub(super) async fn send<'c>(
    request: &mut Request<RequestBody<'c>>,
    routed: &Routed<'_>,
    hash: Option<u64>,
    peer: &Peer,
    shared: &Rc<Shared>,
) -> Result<Response<ResponseBody<'c>>, Reason> {
    let service = routed.service;
    let upstreams = peer.upstreams(service, shared);
    let mut tried = Vec::new();
    let mut once_more = None;
    loop {
        let (picked, fresh) = match once_more.take() {
            Some(picked) => (picked, true),
            None => {
                let picked = shared.decider.borrow_mut().pick(service, routed.side, peer.address.ip(), hash, &tried);
                let picked = picked.map_err(|why| {
                    count(&service.stats.no_endpoint);
                    match why {
                        NoPick::Empty => Reason::NoEndpoint,
                        NoPick::NoLocal => {
                            count(&service.stats.no_local_endpoint);
                            Reason::NoLocalEndpoint
                        }
                        NoPick::Failed => Reason::BalancerFailed,
                    }
                })?;
                (picked, false)
            }
        };
        let busy = Busy::new(&picked);
        routed.trying(picked.address);
        let idle = if fresh { None } else { upstreams.check_out(service, picked.address) };
        let reused = idle.is_some();
        let opened = match idle {
            Some(connection) => Some(connection),
            None => Box::pin(upstream::open(service, &picked, peer.hello(service).as_deref(), shared)).await,
        };
        let Some(mut connection) = opened else {
            tried.push(picked.address);
            if tried.len() >= TRIES.min(service.pool(routed.side).endpoints.len()) {
                return Err(Reason::ConnectFailed);
            }
            continue;
        };
        connection.begin(request, request.body().framing());
        // At the first try on a connection that was there nothing was waited for: routing and picking count, the clock is not asked.
        let begun = if reused && routed.tries() == 1 { routed.begun } else { Instant::now() };
        let sent = within(routed.try_time(), pin!(poll_fn(|context| poll_response(&mut connection, request, context)))).await;
        let now = Instant::now();
        let observe = |success| shared.decider.borrow_mut().observe(&picked, success, now - begun);
        match sent {
            None => {
                observe(false);
                return Err(Reason::Timeout);
            }
            Some(Ok(head)) => {
                observe(!head.message.status().is_server_error());
                // No upgrade was asked for: a 101 is no response to what was sent.
                if head.message.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(Reason::UpstreamBroke);
                }
                let tally = Tally { stats: service.stats.clone(), begun: routed.begun, ended: Some(now), bytes_out: 0 };
                let returns = Returns { address: picked.address, connection, upstreams: upstreams.clone(), tally, busy };
                let content = std::mem::replace(request.body_mut(), RequestBody::Empty);
                return Ok(head.message.map(|()| ResponseBody::endpoint(head.framing, content, returns)));
            }
            Some(Err(Broken::Client(BodyError::Client(_)))) => return Err(Reason::BadContent),
            Some(Err(Broken::Client(_))) => return Err(Reason::ClientGone),
            Some(Err(error)) => {
                let again = connection.is_unsent() || (request.method().is_idempotent() && request.body().framing() == Framing::Length(0));
                if again && reused {
                    once_more = Some(picked);
                    continue;
                }
                observe(false);
                if !again || tried.len() + 1 >= TRIES.min(service.pool(routed.side).endpoints.len()) {
                    tracing::debug!(%error, endpoint = %picked.address, "an exchange broke");
                    return Err(Reason::UpstreamBroke);
                }
                tried.push(picked.address);
            }
        }
    }
}

/// Sends, passes interim responses on, and waits for the final one's head, as long as the client does.
fn poll_response(
    connection: &mut Connection,
    request: &mut Request<RequestBody<'_>>,
    context: &mut Context<'_>,
) -> Poll<Result<Head<Response<()>>, Broken>> {
    let method = request.method().clone();
    loop {
        let polled = connection.poll_head(&method, request.body_mut(), context);
        match &polled {
            Poll::Ready(Ok(head))
                if head.message.status().is_informational() && head.message.status() != StatusCode::SWITCHING_PROTOCOLS =>
            {
                request.body_mut().interim(&head.message, context);
            }
            Poll::Pending if request.body_mut().poll_gone(context).is_ready() => {
                return Poll::Ready(Err(Broken::Client(BodyError::ClientGone)));
            }
            _ => return polled,
        }
    }
}
