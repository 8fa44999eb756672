//! UDP flows.

use std::time::Duration;

/// Time-outs of a service port's UDP flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpSettings {
    /// A flow without a datagram in either direction for this long is forgotten.
    pub idle: Duration,
}

impl Default for UdpSettings {
    /// Between what Linux grants an unanswered flow (30 s) and a stream (120 s), and what Envoy has.
    fn default() -> Self {
        Self { idle: Duration::from_secs(60) }
    }
}
