//! Why connections are reset.

use std::sync::atomic::AtomicU64;

use super::ProxyStats;

/// Why the gateway reset a client's connection (SERVICE-SEMANTICS §14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// No listener or route for it any more.
    NoRoute,
    /// No usable endpoint anywhere.
    NoEndpoint,
    /// None on this node, and the traffic policy is Local.
    NoLocalEndpoint,
    /// The balancer failed, and its policy wants no other choice.
    BalancerFailed,
    /// No endpoint accepted a connection.
    ConnectFailed,
    /// The endpoint reset its side.
    Endpoint,
    /// The service has as many connections as it may have.
    CircuitBreaker,
    /// As many connections are open as may be.
    Limit,
    /// `loadBalancerSourceRanges` has not the client's address.
    SourceRange,
    /// A PROXY header is wanted, and the client is not one of those that may send it.
    Untrusted,
    /// The PROXY header was malformed, missing or late.
    ProxyHeader,
}

impl Reset {
    /// All, in the order of [`ProxyStats::resets`].
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

    /// The metric's label.
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
