//! Picks, checks a connection out or makes one, sends, and waits for the response's head; tries again where that is safe.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use sluicegate_model::stats::count;

use super::answer::Reason;
use super::body::{RequestBody, ResponseBody, Returns};
use super::connection::Peer;
use super::exchange::Routed;
use crate::decide::NoPick;
use crate::tcp::{Busy, TRIES};
use crate::upstream;
use crate::worker::Shared;

/// Waits no longer than `time`, if it is given; no timer is armed otherwise.
pub(super) async fn within<F: Future>(time: Option<Duration>, future: Pin<&mut F>) -> Option<F::Output> {
    match time {
        None => Some(future.await),
        Some(time) => Box::pin(tokio::time::timeout(time, future)).await.ok(),
    }
}

/// A failed connect goes to another endpoint: nothing was sent. When a connection breaks before the response's head, what hyper did not
/// write, or what is idempotent and has no content (RFC 9110 §9.2.2), goes once more: to the same endpoint on a fresh connection if it was a
/// reused one, which had, as a rule, been closed while idle; else to another endpoint.
pub(super) async fn send(
    slot: &mut Option<Request<RequestBody>>,
    routed: &Routed<'_>,
    hash: Option<u64>,
    peer: &Peer,
    shared: &Rc<Shared>,
) -> Result<Response<ResponseBody>, Reason> {
    let service = routed.service;
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
                        NoPick::Failed => Reason::BalancerFailed,
                    }
                })?;
                (picked, false)
            }
        };
        let busy = Busy::new(&picked);
        let idle = if fresh { None } else { shared.upstreams.check_out(picked.address) };
        let reused = idle.is_some();
        let opened = match idle {
            Some(connection) => Some(connection),
            None => Box::pin(upstream::open(service, &picked, shared)).await,
        };
        let Some(mut connection) = opened else {
            tried.push(picked.address);
            if tried.len() >= TRIES.min(service.pool(routed.side).endpoints.len()) {
                return Err(Reason::ConnectFailed);
            }
            continue;
        };
        let Some(request) = slot.take() else { return Err(Reason::UpstreamBroke) };
        let spare = Spare::of(&request);
        let begun = Instant::now();
        let sent = within(routed.try_time(), pin!(connection.send(request))).await;
        let now = Instant::now();
        let Some(sent) = sent else {
            shared.decider.borrow_mut().observe(&picked, false, now - begun);
            return Err(Reason::Timeout);
        };
        match sent {
            Ok(response) => {
                shared.decider.borrow_mut().observe(&picked, !response.status().is_server_error(), now - begun);
                let returns = Returns { address: picked.address, connection, shared: shared.clone(), at: now, busy };
                return received(response, returns);
            }
            Err(mut error) => {
                let again = match error.take_message() {
                    Some(unsent) => Some(unsent),
                    None => spare.map(Spare::request),
                };
                match again {
                    Some(again) if reused => {
                        *slot = Some(again);
                        once_more = Some(picked);
                    }
                    Some(again) if tried.len() + 1 < TRIES.min(service.pool(routed.side).endpoints.len()) => {
                        *slot = Some(again);
                        shared.decider.borrow_mut().observe(&picked, false, now - begun);
                        tried.push(picked.address);
                    }
                    _ => {
                        shared.decider.borrow_mut().observe(&picked, false, now - begun);
                        tracing::debug!(error = %error.error(), endpoint = %picked.address, "an exchange broke");
                        return Err(Reason::UpstreamBroke);
                    }
                }
            }
        }
    }
}

/// A request without content, kept to be sent once more.
struct Spare(Method, Uri, HeaderMap);

impl Spare {
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let again = request.body().is_end_stream() && request.method().is_idempotent();
        again.then(|| Self(request.method().clone(), request.uri().clone(), request.headers().clone()))
    }

    fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (self.0, self.1, self.2);
        request
    }
}

fn received(response: Response<Incoming>, returns: Returns) -> Result<Response<ResponseBody>, Reason> {
    // No upgrade was asked for: a 101 is no response to what was sent.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Reason::UpstreamBroke);
    }
    let mut response = response.map(|body| ResponseBody::endpoint(body, returns));
    // An HTTP/1.0 endpoint is no reason to treat the client so.
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}
