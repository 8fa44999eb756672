//! What clients may ask for: how often, and with how much content.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Request, header};
use sluicegate_model::limiter::{Limiter, Verdict};
use sluicegate_model::settings::RateView;
use sluicegate_model::stats::count;

use super::answer::{Own, OwnAnswer, Reason, Why};
use super::body::{BodyError, RequestBody};
use super::reply::Reply;
use crate::h1::{Framing, Part};
use crate::worker::Shared;

/// Of the limit with the least left, as Envoy has them: what clients know. The fields of draft-ietf-httpapi-ratelimit-headers have changed
/// their form from draft to draft, and are none that a client could rely on.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Counts a request. What its response is to say of it; or the answer, if it may not pass.
pub(super) fn rate<B>(
    limiter: &Limiter,
    request: &Request<B>,
    client: IpAddr,
    now: Instant,
    (refused, evicted): (&AtomicU64, &AtomicU64),
) -> Result<Option<Verdict>, Own> {
    let view = RateView { method: request.method().as_str(), path: request.uri().path(), headers: request.headers(), client };
    let verdict = limiter.count(&view, now);
    if verdict.is_some_and(|v| v.evicted) {
        count(evicted);
    }
    match verdict {
        Some(verdict) if !verdict.passes => {
            count(refused);
            let mut response = Reason::RateLimited.answer();
            tell(&verdict, &mut response);
            // RFC 6585 §4, RFC 9110 §10.2.3.
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(verdict.after)));
            Err(Own::new(OwnAnswer { why: Why::Reason(Reason::RateLimited), response }))
        }
        passes => Ok(passes),
    }
}

/// Says in a response what is left.
pub(super) fn tell(verdict: &Verdict, response: &mut Reply<'_>) {
    for (name, value) in [(LIMIT, verdict.limit.into()), (REMAINING, verdict.left.into()), (RESET, seconds(verdict.after))] {
        response.headers_mut().insert(name, HeaderValue::from(value));
    }
}

/// Of two verdicts the one with less left.
pub(super) fn stricter(one: Option<Verdict>, other: Option<Verdict>) -> Option<Verdict> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.left < one.left { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Rounded up: who comes again then, is not early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Refuses a request that says it has more content than it may have.
pub(super) fn length(request: &Request<RequestBody<'_>>, most: u64, shared: &Shared) -> Result<(), Reason> {
    match request.body().framing() {
        Framing::Length(length) if length > most => {
            count(&shared.stats.clients.large_content);
            Err(Reason::LargeContent)
        }
        _ => Ok(()),
    }
}

/// Watches the content of a request that does not say how long it is.
pub(super) fn watch(request: &mut Request<RequestBody<'_>>, most: u64) {
    if !matches!(request.body().framing(), Framing::Length(_)) {
        let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
        *request.body_mut() = RequestBody::Limited(Box::new(Limited { of: body, left: most }));
    }
}

/// Content that may have so many more bytes.
pub(crate) struct Limited<'c> {
    pub(super) of: RequestBody<'c>,
    left: u64,
}

impl Limited<'_> {
    pub(super) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let polled = self.of.poll_part(context);
        if let Poll::Ready(Some(Ok(Part::Data(data)))) = &polled {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        polled
    }
}
