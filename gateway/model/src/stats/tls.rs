//! Counters of TLS with clients.

use std::sync::atomic::AtomicU64;

/// Counters of TLS with clients.
#[derive(Debug, Default)]
pub struct TlsStats {
    /// Handshakes that were done.
    pub handshakes: AtomicU64,
    /// Handshakes that resumed a session.
    pub resumed: AtomicU64,
    /// Connections whose hello was read and that were forwarded as they are.
    pub passed: AtomicU64,
    /// Handshakes under way now.
    pub under_way: AtomicU64,
    /// Handshakes that failed, by [`TlsFailure`].
    pub failures: [AtomicU64; TlsFailure::ALL.len()],
}

/// Why there was no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// What came is no client hello, or more than may come.
    Hello,
    /// It took too long.
    Timeout,
    /// The client left.
    Closed,
    /// No listener serves that server name.
    Name,
    /// The listener has no usable certificate, or no authorities for its clients'.
    Unready,
    /// The client showed no certificate, or one that nobody vouches for.
    ClientCertificate,
    /// The client refused the gateway's certificate, or gave up with another alert.
    Alert,
    /// No common version, suite, signature or protocol.
    Incompatible,
    /// The client broke the protocol.
    Protocol,
    /// Too many handshakes were under way.
    Busy,
}

impl TlsFailure {
    /// All, in the order of [`TlsStats::failures`].
    pub const ALL: [Self; 10] = [
        Self::Hello,
        Self::Timeout,
        Self::Closed,
        Self::Name,
        Self::Unready,
        Self::ClientCertificate,
        Self::Alert,
        Self::Incompatible,
        Self::Protocol,
        Self::Busy,
    ];

    /// For metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Name => "name",
            Self::Unready => "unready",
            Self::ClientCertificate => "client-certificate",
            Self::Alert => "alert",
            Self::Incompatible => "incompatible",
            Self::Protocol => "protocol",
            Self::Busy => "busy",
        }
    }
}
