//! Settings of UDP flows.

use std::time::Duration;

/// Time-outs of a service port's UDP flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpSettings {
    /// How long a flow is kept without a datagram in either direction.
    pub idle: Duration,
}

impl Default for UdpSettings {
    /// The default lies between what Linux grants an unanswered flow (30 s) and a stream (120 s), and is what Envoy has.
    fn default() -> Self {
        Self { idle: Duration::from_secs(60) }
    }
}
