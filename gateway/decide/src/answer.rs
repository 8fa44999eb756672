//! Answers that the gateway makes itself (local replies): one table from reason to status.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

/// Tells a client that it is refused for want of resources: it may come again later, or go elsewhere. `x-envoy-overloaded` says the same.
const X_SLUICEGATE_OVERLOADED: HeaderName = HeaderName::from_static("x-sluicegate-overloaded");
const X_SLUICEGATE_REASON: HeaderName = HeaderName::from_static("x-sluicegate-reason");

/// For each reason the status (RFC 9110 §15), the label for machines, and the sentence for people.
macro_rules! reasons {
    ($($(#[doc = $about:literal])* $name:ident => ($status:ident, $label:literal, $sentence:literal),)*) => {
        /// Why the gateway answers itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the sentences of the table say it")]
        pub enum Reason {
            $($(#[doc = $about])* $name,)*
        }

        impl Reason {
            fn row(self) -> (StatusCode, &'static str, &'static str) {
                match self {
                    $(Self::$name => (StatusCode::$status, $label, $sentence),)*
                }
            }
        }

        /// The labels of all answers, by which they are counted: first what rules ask for, then the reasons.
        pub const LABELS: &[&str] = &["redirect", "preflight", "direct", $($label),*];
    };
}

reasons! {
    BadRequest => (BAD_REQUEST, "bad-request", "the request cannot be read\n"),
    BadFraming => (BAD_REQUEST, "bad-framing", "the length of the request's content is in doubt\n"),
    BadCoding => (NOT_IMPLEMENTED, "bad-coding", "of transfer codings only chunked is served here\n"),
    BadVersion => (HTTP_VERSION_NOT_SUPPORTED, "bad-version", "HTTP/1.0 and HTTP/1.1 are served here\n"),
    LargeHead => (REQUEST_HEADER_FIELDS_TOO_LARGE, "large-head", "the request's head has more bytes or fields than are taken here\n"),
    BadContent => (BAD_REQUEST, "bad-content", "the request's content is not framed as it says\n"),
    /// Nobody reads this answer; its status is for the log.
    ClientGone => (BAD_REQUEST, "client-gone", "the client closed the connection\n"),
    BadHost => (BAD_REQUEST, "bad-host", "the request has no usable Host, or more than one\n"),
    BadTarget => (BAD_REQUEST, "bad-target", "the request's target cannot be forwarded\n"),
    BadPath => (BAD_REQUEST, "bad-path", "the request's path can be read in more than one way\n"),
    BadName => (BAD_REQUEST, "bad-name", "a header field's name has an underscore\n"),
    Expectation => (EXPECTATION_FAILED, "expectation", "of expectations only 100-continue is met here\n"),
    Loop => (LOOP_DETECTED, "loop", "the request has come by here before\n"),
    Trace => (METHOD_NOT_ALLOWED, "trace", "TRACE is not served here\n"),
    Connect => (METHOD_NOT_ALLOWED, "connect", "CONNECT is not served here\n"),
    Misdirected => (MISDIRECTED_REQUEST, "misdirected", "another listener serves this host name\n"),
    NoHost => (NOT_FOUND, "no-host", "nothing serves this host name\n"),
    NoRoute => (NOT_FOUND, "no-route", "no route takes this request\n"),
    BadBackend => (INTERNAL_SERVER_ERROR, "bad-backend", "the route has no usable backend\n"),
    RouterFailed => (SERVICE_UNAVAILABLE, "router-failed", "the router plugin failed\n"),
    BalancerFailed => (SERVICE_UNAVAILABLE, "balancer-failed", "the balancer plugin failed\n"),
    NoEndpoint => (SERVICE_UNAVAILABLE, "no-endpoint", "the service has no ready endpoint\n"),
    NoLocalEndpoint => (SERVICE_UNAVAILABLE, "no-local-endpoint", "the service has no ready endpoint on this node\n"),
    ConnectFailed => (BAD_GATEWAY, "connect-failed", "no endpoint accepted a connection\n"),
    EndpointTls => (BAD_GATEWAY, "endpoint-tls", "it is not settled how the service's endpoints are verified\n"),
    UpstreamBroke => (BAD_GATEWAY, "upstream-broke", "the endpoint broke the connection before its answer\n"),
    BadResponse => (BAD_GATEWAY, "bad-response", "the endpoint's response cannot be read\n"),
    BadResponseFraming => (BAD_GATEWAY, "bad-response-framing", "it is in doubt where the endpoint's response ends\n"),
    LargeResponseHead => (BAD_GATEWAY, "large-response-head", "the head of the endpoint's response has more than 64 KiB\n"),
    ManyResponseFields => (BAD_GATEWAY, "many-response-fields", "the endpoint's response has more than 256 fields\n"),
    Timeout => (GATEWAY_TIMEOUT, "timeout", "the endpoint did not answer in time\n"),
    Deadline => (GATEWAY_TIMEOUT, "deadline", "the deadline of the call has passed\n"),
    /// RFC 9220 §3 gives this status for a protocol that is not known.
    NoUpgrade => (NOT_IMPLEMENTED, "no-upgrade", "the protocol of this CONNECT is not served here\n"),
    NotUpgraded => (BAD_GATEWAY, "not-upgraded", "the endpoint does not speak the protocol of this CONNECT\n"),
    SlowRequest => (REQUEST_TIMEOUT, "slow-request", "the request did not come in time\n"),
    LargeContent => (PAYLOAD_TOO_LARGE, "large-content", "the request has more content than is taken here\n"),
    RateLimited => (TOO_MANY_REQUESTS, "rate-limited", "too many requests\n"),
    CircuitBreaker => (SERVICE_UNAVAILABLE, "circuit-breaker", "the service has as much to do as it may have\n"),
    Overloaded => (SERVICE_UNAVAILABLE, "overloaded", "the gateway has too much to do\n"),
}

/// Why an answer is the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A rule sends the client elsewhere, or another spelling of the path does.
    Redirect,
    /// It answers a preflight, for a rule that allows requests across origins.
    Preflight,
    /// A rule or a router answers.
    Direct,
    /// The request is refused, or could not be served.
    Reason(Reason),
}

impl Why {
    /// The label of the answer in the access log and in metrics.
    pub fn label(self) -> &'static str {
        LABELS[self.index()]
    }

    /// The place of the label in [`LABELS`].
    pub fn index(self) -> usize {
        match self {
            Self::Redirect => 0,
            Self::Preflight => 1,
            Self::Direct => 2,
            Self::Reason(reason) => 3 + reason as usize,
        }
    }
}

/// An answer of the gateway's own, and why it is given. It is passed in a box, as it is rare and large.
#[derive(Debug)]
pub struct LocalReply {
    /// Why the answer is given.
    pub why: Why,
    /// The answer.
    pub response: Response<Bytes>,
}

impl LocalReply {
    /// A local reply, in a box.
    pub fn new(why: Why, response: Response<Bytes>) -> Box<Self> {
        Box::new(Self { why, response })
    }
}

impl From<Reason> for Box<LocalReply> {
    fn from(reason: Reason) -> Self {
        LocalReply::new(Why::Reason(reason), reason.answer())
    }
}

impl Reason {
    /// The answer for this reason.
    pub fn answer(self) -> Response<Bytes> {
        let (status, label, sentence) = self.row();
        let mut response = text(status, Bytes::from_static(sentence.as_bytes()));
        response.headers_mut().insert(X_SLUICEGATE_REASON, HeaderValue::from_static(label));
        // RFC 9110 §15.5.6: the answer names the methods that are allowed.
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if self == Self::CircuitBreaker {
            response.headers_mut().insert(X_SLUICEGATE_OVERLOADED, HeaderValue::from_static("true"));
        }
        // If the target is in doubt, so is what follows on the connection. What is too slow or too large is not read to its end. A gateway that is short of
        // descriptors is better off without the connection.
        if matches!(
            self,
            Self::BadHost
                | Self::BadTarget
                | Self::Connect
                | Self::BadContent
                | Self::ClientGone
                | Self::SlowRequest
                | Self::LargeContent
                | Self::Overloaded
        ) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An answer with a text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer without content.
pub fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_has_a_counter_and_is_a_reasons_own() {
        assert!(LABELS.len() <= sluicegate_model::stats::MOST_LABELS);
        for reason in [Reason::BadRequest, Reason::ClientGone, Reason::Timeout] {
            assert_eq!(LABELS[Why::Reason(reason).index()], reason.row().1);
        }
        let mut sorted = LABELS.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), LABELS.len(), "no label twice");
    }
}
