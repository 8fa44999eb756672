//! Answers the gateway makes itself: one table from reason to status.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;
use crate::h1::BadHead;

const X_SLUICEGATE_REASON: HeaderName = HeaderName::from_static("x-sluicegate-reason");

/// Why the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    BadRequest,
    BadFraming,
    BadCoding,
    BadVersion,
    LargeHead,
    BadContent,
    ClientGone,
    BadHost,
    BadTarget,
    Connect,
    NoHost,
    NoRoute,
    BadBackend,
    RouterFailed,
    BalancerFailed,
    NoEndpoint,
    ConnectFailed,
    UpstreamBroke,
    Timeout,
}

impl Reason {
    /// Status (RFC 9110 §15), the machine's word, the person's sentence.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "the request cannot be read\n"),
            Self::BadFraming => (StatusCode::BAD_REQUEST, "bad-framing", "the length of the request's content is in doubt\n"),
            Self::BadCoding => (StatusCode::NOT_IMPLEMENTED, "bad-coding", "of transfer codings only chunked is served here\n"),
            Self::BadVersion => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "bad-version", "HTTP/1.0 and HTTP/1.1 are served here\n"),
            Self::LargeHead => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "large-head", "the request has more than 64 KiB or 100 header fields\n")
            }
            Self::BadContent => (StatusCode::BAD_REQUEST, "bad-content", "the request's content is not framed as it says\n"),
            // Nobody reads it; the status is for the log.
            Self::ClientGone => (StatusCode::BAD_REQUEST, "client-gone", "the client closed the connection\n"),
            Self::BadHost => (StatusCode::BAD_REQUEST, "bad-host", "the request has no usable Host, or more than one\n"),
            Self::BadTarget => (StatusCode::BAD_REQUEST, "bad-target", "the request's target cannot be forwarded\n"),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "connect", "CONNECT is not served here\n"),
            Self::NoHost => (StatusCode::NOT_FOUND, "no-host", "nothing serves this host name\n"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "no route takes this request\n"),
            Self::BadBackend => (StatusCode::INTERNAL_SERVER_ERROR, "bad-backend", "the route has no usable backend\n"),
            Self::RouterFailed => (StatusCode::SERVICE_UNAVAILABLE, "router-failed", "the router plugin failed\n"),
            Self::BalancerFailed => (StatusCode::SERVICE_UNAVAILABLE, "balancer-failed", "the balancer plugin failed\n"),
            Self::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "no-endpoint", "the service has no ready endpoint\n"),
            Self::ConnectFailed => (StatusCode::BAD_GATEWAY, "connect-failed", "no endpoint accepted a connection\n"),
            Self::UpstreamBroke => (StatusCode::BAD_GATEWAY, "upstream-broke", "the endpoint broke the connection before its answer\n"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout", "the endpoint did not answer in time\n"),
        }
    }

    pub(crate) fn answer(self) -> Response<ResponseBody<'static>> {
        let (status, word, sentence) = self.row();
        let mut response = text(status, Bytes::from_static(sentence.as_bytes()));
        response.headers_mut().insert(X_SLUICEGATE_REASON, HeaderValue::from_static(word));
        // Where the target is in doubt, so is what follows on the connection.
        if matches!(self, Self::BadHost | Self::BadTarget | Self::Connect | Self::BadContent | Self::ClientGone) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<BadHead> for Reason {
    fn from(why: BadHead) -> Self {
        match why {
            BadHead::Syntax(_) | BadHead::BareNewline => Self::BadRequest,
            BadHead::Target => Self::BadTarget,
            BadHead::TooLarge => Self::LargeHead,
            BadHead::Version => Self::BadVersion,
            BadHead::Framing => Self::BadFraming,
            BadHead::Coding => Self::BadCoding,
        }
    }
}

/// A text of our own.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<ResponseBody<'static>> {
    let mut response = Response::new(ResponseBody::Whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// No content at all.
pub(crate) fn empty(status: StatusCode) -> Response<ResponseBody<'static>> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}
