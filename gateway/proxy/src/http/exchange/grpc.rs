//! gRPC (grpc.io, "gRPC over HTTP2"): a call's deadline, its outcome, and the gateway's own answers as gRPC has them.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sluicegate_decide::answer::{LocalReply, Reason, Why};
use sluicegate_model::health::Outcome;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::stats::ServiceStats;

use super::reply::Reply;
use super::response::ResponseBody;
use crate::core::Core;
use crate::core::decider::Picked;
use crate::h1::{Part, Status as Head};
use crate::http::error::BodyError;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status(u8);

impl Status {
    const UNKNOWN: Self = Self(2);
    const DEADLINE_EXCEEDED: Self = Self(4);
    const PERMISSION_DENIED: Self = Self(7);
    const UNIMPLEMENTED: Self = Self(12);
    const INTERNAL: Self = Self(13);
    const UNAVAILABLE: Self = Self(14);
    const DATA_LOSS: Self = Self(15);
    const UNAUTHENTICATED: Self = Self(16);

    /// gRPC's "HTTP to gRPC Status Code Mapping".
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::INTERNAL,
            StatusCode::UNAUTHORIZED => Self::UNAUTHENTICATED,
            StatusCode::FORBIDDEN => Self::PERMISSION_DENIED,
            StatusCode::NOT_FOUND => Self::UNIMPLEMENTED,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Self::UNAVAILABLE
            }
            _ => Self::UNKNOWN,
        }
    }

    /// The status that an endpoint gave. None: it gave none, or one that cannot be read.
    fn said(fields: &HeaderMap) -> Option<Self> {
        fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok().map(Self)
    }

    /// Whether the status speaks against the endpoint. Unimplemented does not, as clients choose the method.
    fn is_failure(self) -> bool {
        matches!(self, Self::UNKNOWN | Self::DEADLINE_EXCEEDED | Self::INTERNAL | Self::UNAVAILABLE | Self::DATA_LOSS)
    }

    fn value(self) -> HeaderValue {
        HeaderValue::from(u16::from(self.0))
    }
}

/// What a call wants of whoever serves it.
#[derive(Clone, Copy)]
pub(in crate::http) struct Asked {
    /// How long the client waits for the end of the call.
    pub(in crate::http) timeout: Option<Duration>,
}

impl Asked {
    pub(in crate::http) fn new(headers: &HeaderMap) -> Self {
        Self { timeout: headers.get(GRPC_TIMEOUT).and_then(timeout) }
    }
}

/// Reads a time-out: at most eight digits and a unit. A value that cannot be read sets no deadline.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (number, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8 && number.bytes().all(|b| b.is_ascii_digit()))?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Whether the head of a response tells a success or a failure; none: the trailers will tell.
pub(in crate::http) fn outcome(head: &mut Head) -> Option<Outcome> {
    if head.code != StatusCode::OK {
        return Some(Outcome::of(head.code));
    }
    // The response is trailers only.
    Status::said(head.fields.map()).map(|status| told(!status.is_failure()))
}

/// A call that failed by the endpoint's fault counts as a 5xx of the endpoint's own.
fn told(success: bool) -> Outcome {
    if success { Outcome::Served } else { Outcome::ServerError }
}

/// A call whose response's head has come. The outcome is counted for its endpoint when the trailers come.
pub(crate) struct Call {
    /// The endpoint for which the outcome is still to be counted.
    picked: Option<Picked>,
    settings: Arc<BackendSettings>,
    stats: Arc<ServiceStats>,
    latency: Duration,
    core: Rc<Core>,
}

impl Call {
    /// `latency`: the time until the head.
    pub(in crate::http) fn new(picked: Option<Picked>, service: &ServicePort, latency: Duration, core: &Rc<Core>) -> Self {
        Self { picked, settings: service.settings.clone(), stats: service.stats.clone(), latency, core: core.clone() }
    }

    fn settle(&mut self, success: bool) {
        self.tell(told(success));
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(picked) = self.picked.take() {
            self.core.decider.borrow_mut().observe(&self.settings, &self.stats, &picked, outcome, self.latency);
        }
    }

    /// Notes that the response has ended. If no outcome was told, there is none.
    pub(in crate::http) fn end(&mut self) {
        self.settle(false);
    }

    /// The trailers for a call whose deadline has passed.
    pub(in crate::http) fn too_late(&mut self) -> HeaderMap {
        self.settle(false);
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_STATUS, Status::DEADLINE_EXCEEDED.value());
        trailers.insert(GRPC_MESSAGE, HeaderValue::from_static("the deadline of the call has passed"));
        trailers
    }

    /// Looks at a part of the response.
    pub(in crate::http) fn judge(&mut self, polled: &Poll<Option<Result<Part, BodyError>>>) {
        match polled {
            Poll::Ready(Some(Ok(Part::Trailers(trailers)))) => self.settle(Status::said(trailers).is_some_and(|s| !s.is_failure())),
            Poll::Ready(None) => self.settle(false),
            Poll::Ready(Some(Err(error))) if error.is_endpoints() => self.tell(Outcome::Unreachable),
            // What the client does says nothing of the endpoint.
            Poll::Ready(Some(Err(_))) => self.picked = None,
            Poll::Ready(Some(Ok(Part::Data(_)))) | Poll::Pending => {}
        }
    }
}

/// An answer of the gateway's own as a gRPC client reads it: trailers only.
pub(in crate::http) fn answer(own: LocalReply) -> Reply<'static> {
    let (parts, text) = own.response.into_parts();
    let status = match own.why {
        Why::Reason(Reason::Deadline) => Status::DEADLINE_EXCEEDED,
        // GRPCRoute wants this for invalid backends, whose 500 would be Unknown.
        Why::Reason(Reason::BadBackend) => Status::UNAVAILABLE,
        _ => Status::of(parts.status),
    };
    let mut headers = parts.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, status.value());
    if let Some(message) = message(&text) {
        headers.insert(GRPC_MESSAGE, message);
    }
    Reply::new(StatusCode::OK, headers, ResponseBody::whole(Bytes::new()))
}

/// A message, percent-encoded: all but printable ASCII, and the percent sign.
fn message(text: &[u8]) -> Option<HeaderValue> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.trim_ascii_end() {
        match byte {
            b' '..=b'~' if *byte != b'%' => encoded.push(*byte),
            other => encoded.extend_from_slice(format!("%{other:02X}").as_bytes()),
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).ok().filter(|m| !m.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_eight_digits_and_a_unit() {
        let read = |text: &str| HeaderValue::from_str(text).ok().as_ref().and_then(timeout);
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "m", "5", "123456789S", "+5S", "-5S", "5 S", "5s", "1é"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn statuses_map_as_grpc_says() {
        let of = |status: u16| Status::of(StatusCode::from_u16(status).unwrap_or_default()).0;
        let mapped = [400, 401, 403, 404, 429, 502, 503, 504, 500, 501, 302].map(of);
        assert_eq!(mapped, [13, 16, 7, 12, 14, 14, 14, 14, 2, 2, 2]);
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("50% größer\n".as_bytes()), Some(HeaderValue::from_static("50%25 gr%C3%B6%C3%9Fer")));
        assert_eq!(message(b""), None);
    }
}
