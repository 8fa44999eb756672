//! Why a request gets no answer of the admin API.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Why a request gets no answer.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    text: String,
    /// How long the client waits before it tries again.
    later: Option<Duration>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), later: None }
    }

    /// A login is needed (RFC 9110 §15.5.2, RFC 6750 §3).
    pub(crate) fn login(text: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, text)
    }

    /// Too many logins have failed (RFC 6585 §4).
    pub(crate) fn later(text: &str, later: Duration) -> Self {
        Self { later: Some(later), ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluicegate\""));
        }
        if let Some(later) = self.later {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(later.as_secs() + 1));
        }
        response
    }
}
