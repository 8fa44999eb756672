//! Of connections, on either side: keep-alive, idle time-out, PROXY protocol, who may connect.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Probes that find dead peers (RFC 9293 §3.8.4). Nothing else ends a silent connection, which may be silent for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds.
    pub idle: Duration,
    /// The time between two probes, in whole seconds.
    pub interval: Duration,
    /// Probes without an answer that end the connection; none: the system's, 9 as a rule.
    pub probes: Option<u32>,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: None }
    }
}

/// PROXY protocol from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Whose headers are believed.
    pub trusted: Vec<IpNet>,
    /// Connections without a header are served as they are; else they are reset.
    pub optional: bool,
}

/// PROXY protocol towards endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text; it has no room for TLVs.
    V1,
    /// Binary.
    V2,
}

impl ProxyVersion {
    /// The header of a connection that the gateway makes for itself, such as a health check.
    pub const fn local(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        }
    }
}

/// Whether one of the networks contains an address; an IPv4 address in IPv6's clothes counts as IPv4.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
