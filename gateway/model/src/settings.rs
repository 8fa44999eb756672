//! What policies say, resolved: defaults filled in, references followed. The plan makes it, the data plane obeys it, and nothing between
//! needs to know what is in it.

use std::time::Duration;

/// How a service port's endpoints are treated: `BackendTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendSettings {
    /// Time-outs.
    pub timeouts: BackendTimeouts,
}

/// See [`BackendSettings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// How long to wait for an endpoint to accept.
    pub connect: Duration,
    /// How long to wait for a response's head; none: for ever.
    pub request: Option<Duration>,
}

impl Default for BackendTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: None }
    }
}

/// How a listener's clients are treated: `ClientTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientSettings {}
