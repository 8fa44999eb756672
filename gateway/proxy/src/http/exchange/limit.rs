//! The limits on what clients may ask for: how often, and with how much content.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use sluicegate_decide::answer::{LocalReply, Reason, Why};
use sluicegate_model::limiter::{Limiter, Verdict};
use sluicegate_model::settings::RateView;
use sluicegate_model::stats::count;

use super::Exchanges;
use crate::h1::Framing;
use crate::http::body::{Limited, RequestBody};

/// Tell clients of the limit with the least left, as in Envoy; clients know these fields. Those of draft-ietf-httpapi-ratelimit-headers have changed their
/// form from draft to draft, so that no client could rely on them.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Counts a request. Returns what its response is to say of the limits; or the answer, if it may not pass.
pub(in crate::http) fn rate<B>(
    limiter: &Limiter,
    request: &Request<B>,
    client: IpAddr,
    now: Instant,
    (refused, evicted): (&AtomicU64, &AtomicU64),
) -> Result<Option<Verdict>, Box<LocalReply>> {
    let view = RateView { method: request.method().as_str(), path: request.uri().path(), headers: request.headers(), client };
    let verdict = limiter.count(&view, now);
    if verdict.is_some_and(|v| v.evicted) {
        count(evicted);
    }
    match verdict {
        Some(verdict) if !verdict.passes => {
            count(refused);
            let mut response = Reason::RateLimited.answer();
            tell(&verdict, response.headers_mut());
            // RFC 6585 §4, RFC 9110 §10.2.3.
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(verdict.after)));
            Err(LocalReply::new(Why::Reason(Reason::RateLimited), response))
        }
        passes => Ok(passes),
    }
}

/// Adds to a response what is left.
pub(in crate::http) fn tell(verdict: &Verdict, headers: &mut HeaderMap) {
    for (name, value) in [(LIMIT, verdict.limit.into()), (REMAINING, verdict.left.into()), (RESET, seconds(verdict.after))] {
        headers.insert(name, HeaderValue::from(value));
    }
}

/// Of two verdicts, the one with less left.
pub(in crate::http) fn stricter(one: Option<Verdict>, other: Option<Verdict>) -> Option<Verdict> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.left < one.left { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Seconds, rounded up, so that a client that comes again then is not early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Refuses a request that says it has more content than it may have.
pub(in crate::http) fn length(body: &RequestBody<'_>, most: u64, shared: &Exchanges) -> Result<(), Reason> {
    match body.framing() {
        Framing::Length(length) if length > most => {
            count(&shared.core.stats.clients.large_content);
            Err(Reason::LargeContent)
        }
        _ => Ok(()),
    }
}

/// Limits the content of a request that does not say how long it is.
pub(in crate::http) fn watch(body: &mut RequestBody<'_>, most: u64) {
    if !matches!(body.framing(), Framing::Length(_)) {
        let of = std::mem::replace(body, RequestBody::Empty);
        *body = RequestBody::Limited(Box::new(Limited::new(of, most)));
    }
}
