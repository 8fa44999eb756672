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

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// What came is not a client hello, or more than may come.
    Hello,
    /// The handshake took too long.
    Timeout,
    /// The client closed the connection.
    Closed,
    /// No listener serves the server name.
    Name,
    /// The listener has no usable certificate, or no authorities for its clients' certificates.
    Unready,
    /// The client showed no certificate, or one that no authority vouches for.
    ClientCertificate,
    /// The client refused the gateway's certificate, or gave up with another alert.
    Alert,
    /// There is no common version, suite, signature or protocol.
    Incompatible,
    /// The client broke the protocol.
    Protocol,
    /// Too many handshakes were under way.
    Busy,
}

impl TlsFailure {
    /// All reasons, in the order of [`TlsStats::failures`].
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

    /// The value of the label in metrics, and the word in logs.
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
