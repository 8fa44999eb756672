//! Why content ends early, on either side of the gateway.

use crate::h1::Malformed;

/// Why content ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client is gone")]
    ClientGone,
    #[error("the client's request: {0}")]
    Client(Malformed),
    #[error("the endpoint's response: {0}")]
    Endpoint(Malformed),
    #[error("the endpoint's connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("the endpoint's stream: {0}")]
    Stream(h2::Error),
    #[error("the request did not come in time")]
    Late,
    #[error("the request has more content than it may have")]
    TooLarge,
    #[error("the exchange took longer than it may")]
    TooLong,
    /// A mirror's copy fell behind, or the original was cut off. A shortened copy must not look whole.
    #[error("the copy of the request was cut off")]
    Copy,
}

impl BodyError {
    /// Whether it is the endpoint's fault, or that of the way to it.
    pub(crate) fn is_endpoints(&self) -> bool {
        matches!(self, Self::Endpoint(_) | Self::Io(_) | Self::Stream(_))
    }

    /// The reason in the access log.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::ClientGone => "client-gone",
            Self::Client(_) => "bad-content",
            Self::Late => "slow-request",
            Self::TooLarge => "large-content",
            Self::TooLong => "timeout",
            Self::Endpoint(_) | Self::Io(_) | Self::Stream(_) | Self::Copy => "upstream-broke",
        }
    }
}
