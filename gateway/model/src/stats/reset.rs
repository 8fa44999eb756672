//! Why connections are reset.

use std::sync::atomic::AtomicU64;

use super::ProxyStats;

/// Why the gateway reset a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// There is no listener or route for it any more.
    NoRoute,
    /// There is no usable endpoint anywhere.
    NoEndpoint,
    /// There is no endpoint on this node, and the traffic policy is Local.
    NoLocalEndpoint,
    /// The balancer failed, and its policy allows no other choice.
    BalancerFailed,
    /// No endpoint accepted a connection.
    ConnectFailed,
    /// The endpoint reset its side.
    Endpoint,
    /// The service has as many connections as it may have.
    CircuitBreaker,
    /// As many connections are open as may be.
    Limit,
    /// The client's address is not in `loadBalancerSourceRanges`.
    SourceRange,
    /// A PROXY header is wanted, and the client may not send one.
    Untrusted,
    /// The PROXY header was malformed, missing or late.
    ProxyHeader,
}

impl Reset {
    /// All reasons, in the order of [`ProxyStats::resets`].
    pub const ALL: [Self; 11] = [
        Self::NoRoute,
        Self::NoEndpoint,
        Self::NoLocalEndpoint,
        Self::BalancerFailed,
        Self::ConnectFailed,
        Self::Endpoint,
        Self::CircuitBreaker,
        Self::Limit,
        Self::SourceRange,
        Self::Untrusted,
        Self::ProxyHeader,
    ];

    /// The value of the label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::NoEndpoint => "no-endpoint",
            Self::NoLocalEndpoint => "no-local-endpoint",
            Self::BalancerFailed => "balancer-failed",
            Self::ConnectFailed => "connect-failed",
            Self::Endpoint => "endpoint",
            Self::CircuitBreaker => "circuit-breaker",
            Self::Limit => "limit",
            Self::SourceRange => "source-range",
            Self::Untrusted => "untrusted",
            Self::ProxyHeader => "proxy-header",
        }
    }
}

impl ProxyStats {
    /// The counter of a reason.
    pub fn reset(&self, why: Reset) -> &AtomicU64 {
        &self.resets[why as usize]
    }
}
