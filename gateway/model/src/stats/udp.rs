//! Counters of UDP.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one UDP service port.
#[derive(Debug, Default)]
pub struct UdpStats {
    /// Flows begun.
    pub flows: AtomicU64,
    /// Flows under way.
    pub open: AtomicU64,
    /// Flows that went on to another endpoint, as theirs stopped serving or refused.
    pub moved: AtomicU64,
    /// Flows that were forgotten early, as the table was full.
    pub evicted: AtomicU64,
    /// Datagrams sent to endpoints.
    pub datagrams_in: AtomicU64,
    /// Bytes of content in datagrams sent to endpoints.
    pub bytes_in: AtomicU64,
    /// Datagrams sent to clients.
    pub datagrams_out: AtomicU64,
    /// Bytes of content in datagrams sent to clients.
    pub bytes_out: AtomicU64,
    /// Datagrams that went nowhere, by [`UdpDrop`].
    drops: [AtomicU64; UdpDrop::ALL.len()],
}

/// Why a datagram went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpDrop {
    /// There is no endpoint.
    NoEndpoint,
    /// There are endpoints, but none on this node, and the traffic policy is Local.
    NoLocalEndpoint,
    /// The client is not in `loadBalancerSourceRanges`.
    SourceRange,
    /// It would begin a flow beyond what its listener, or its client, may have.
    Limit,
    /// It would begin a flow while memory or descriptors are short.
    Overloaded,
    /// The endpoint, and others tried after it, are unreachable (ICMP).
    Refused,
    /// The kernel had no room on the way to the endpoint.
    EndpointSlow,
    /// The kernel had no room on the way to the client.
    ClientSlow,
    /// It is too large for the path to where it was to go.
    TooLarge,
    /// It did not arrive whole.
    Truncated,
    /// No socket could be had for a new flow.
    NoSocket,
    /// It would begin a flow while the gateway stops.
    Stopping,
    /// The kernel gave another error.
    Failed,
}

impl UdpDrop {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::NoEndpoint,
        Self::NoLocalEndpoint,
        Self::SourceRange,
        Self::Limit,
        Self::Overloaded,
        Self::Refused,
        Self::EndpointSlow,
        Self::ClientSlow,
        Self::TooLarge,
        Self::Truncated,
        Self::NoSocket,
        Self::Stopping,
        Self::Failed,
    ];

    /// The value of the label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no_endpoint",
            Self::NoLocalEndpoint => "no_local_endpoint",
            Self::SourceRange => "source_range",
            Self::Limit => "limit",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::EndpointSlow => "endpoint_slow",
            Self::ClientSlow => "client_slow",
            Self::TooLarge => "too_large",
            Self::Truncated => "truncated",
            Self::NoSocket => "no_socket",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

impl UdpStats {
    /// Combines the counters with those of another port, but not the flows under way.
    pub(super) fn combine(&self, other: &Self, with: impl Fn(&AtomicU64, &AtomicU64)) {
        let Self { flows, open: _, moved, evicted, datagrams_in, bytes_in, datagrams_out, bytes_out, drops } = self;
        let own = [flows, moved, evicted, datagrams_in, bytes_in, datagrams_out, bytes_out].into_iter().chain(drops);
        let theirs =
            [&other.flows, &other.moved, &other.evicted, &other.datagrams_in, &other.bytes_in, &other.datagrams_out, &other.bytes_out];
        own.zip(theirs.into_iter().chain(&other.drops)).for_each(|(own, other)| with(own, other));
    }

    /// Counts datagrams that went nowhere.
    pub fn count_drop(&self, why: UdpDrop, datagrams: usize) {
        self.drops[why as usize].fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    /// The number of datagrams that went nowhere for this reason.
    pub fn dropped(&self, why: UdpDrop) -> u64 {
        self.drops[why as usize].load(Ordering::Relaxed)
    }

    /// Counts datagrams to an endpoint.
    pub fn sent_in(&self, datagrams: usize, bytes: usize) {
        self.datagrams_in.fetch_add(datagrams as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts datagrams to a client.
    pub fn sent_out(&self, datagrams: usize, bytes: usize) {
        self.datagrams_out.fetch_add(datagrams as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
