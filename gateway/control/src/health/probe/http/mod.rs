//! A probe by an HTTP request: it looks at status and content. The version is that of exchanges with the endpoint.

mod http1;
mod http2;

use ::http::{Method, Request, header, request};
use sluicegate_model::settings::ProbeVersion;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failure, contains, wrong};

/// What is asked, and what the right answer is.
pub(super) struct Question<'p> {
    pub(super) version: ProbeVersion,
    pub(super) scheme: &'p str,
    pub(super) method: &'p Method,
    pub(super) path: &'p str,
    pub(super) host: &'p str,
    pub(super) statuses: &'p [u16],
    pub(super) receive: &'p [u8],
}

pub(super) async fn probe(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, question: &Question<'_>) -> Result<(), Failure> {
    match question.version {
        ProbeVersion::Http1 => http1::probe(stream, question).await,
        ProbeVersion::Http2 => http2::probe(stream, question).await,
    }
}

impl Question<'_> {
    fn request(&self, target: &str) -> request::Builder {
        Request::builder()
            .method(self.method)
            .uri(target)
            .header(header::USER_AGENT, concat!("sluicegate-health/", env!("CARGO_PKG_VERSION")))
    }

    /// Whether a status is one of the right ones.
    fn judge(&self, status: u16) -> Result<(), Failure> {
        if self.statuses.contains(&status) {
            return Ok(());
        }
        let expected: Vec<String> = self.statuses.iter().take(8).map(u16::to_string).collect();
        Err(wrong(format!("HTTP {status}, expected {}", expected.join(" or "))))
    }

    /// Whether nothing more need come.
    fn is_answered(&self, came: &[u8]) -> bool {
        contains(came, self.receive)
    }
}

fn unmakeable(error: &::http::Error) -> Failure {
    wrong(format!("the request cannot be made: {error}"))
}

/// The failure when the whole content has come, and what is expected is not in it.
fn missing(came: &[u8]) -> Failure {
    wrong(format!("the expected text is not among the {} bytes of content", came.len()))
}
