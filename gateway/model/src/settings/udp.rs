//! Settings of UDP flows.

use std::time::Duration;

/// Time-outs of a service port's UDP flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpSettings {
    /// A flow without a datagram in either direction for this long is forgotten. None: nothing is said of it, so it is [`UdpSettings::IDLE`].
    pub idle: Option<Duration>,
}

impl UdpSettings {
    /// The default lies between what Linux grants an unanswered flow (30 s) and a stream (120 s), and is what Envoy has.
    pub const IDLE: Duration = Duration::from_secs(60);

    /// How long a flow may be silent.
    pub fn idle(&self) -> Duration {
        self.idle.unwrap_or(Self::IDLE)
    }
}
