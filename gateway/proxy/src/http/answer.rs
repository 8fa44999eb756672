//! Answers the gateway makes itself: one table from reason to status.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use super::exchange::Streamed;

pub(crate) type Body = Either<Streamed<Incoming>, Full<Bytes>>;

/// Why the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    BadHost,
    NoRoute,
    BadBackend,
    RouterFailed,
    NoEndpoint,
    ConnectFailed,
    UpstreamBroke,
    Timeout,
}

impl Reason {
    /// Status (RFC 9110 §15), the machine's word, the person's sentence.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadHost => (StatusCode::BAD_REQUEST, "bad-host", "the request has no Host, or more than one\n"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "no route takes this request\n"),
            Self::BadBackend => (StatusCode::INTERNAL_SERVER_ERROR, "bad-backend", "the route's backend does not exist\n"),
            Self::RouterFailed => (StatusCode::SERVICE_UNAVAILABLE, "router-failed", "the router plugin failed\n"),
            Self::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "no-endpoint", "the service has no ready endpoint\n"),
            Self::ConnectFailed => (StatusCode::BAD_GATEWAY, "connect-failed", "no endpoint accepted a connection\n"),
            Self::UpstreamBroke => (StatusCode::BAD_GATEWAY, "upstream-broke", "the endpoint closed the connection before its answer\n"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout", "the endpoint did not answer in time\n"),
        }
    }

    pub(crate) fn answer(self) -> Response<Body> {
        let (status, word, sentence) = self.row();
        let mut response = full(status, sentence);
        response.headers_mut().insert("x-sluicegate-reason", HeaderValue::from_static(word));
        if self == Self::BadHost {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A text of our own.
pub(crate) fn full(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
