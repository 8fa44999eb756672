//! Settings of connections on either side: keep-alive, idle time-out, PROXY protocol, and who may connect.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Probes that find dead peers (RFC 9293 §3.8.4). Nothing else ends a silent connection, which may be silent for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The time of silence before the first probe, in whole seconds.
    pub idle: Duration,
    /// The time between two probes, in whole seconds.
    pub interval: Duration,
    /// The number of probes without an answer that ends the connection; none: the system's, which is mostly 9.
    pub probes: Option<u32>,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: None }
    }
}

/// The PROXY protocol from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The networks of those whose headers are believed.
    pub trusted: Vec<IpNet>,
    /// Whether connections without a header are served as they are. Else they are reset.
    pub optional: bool,
}

/// The PROXY protocol towards endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// Version 1: a line of text, which has no room for TLVs.
    V1,
    /// Version 2: binary.
    V2,
}

impl ProxyVersion {
    /// The header for a connection that the gateway makes on its own behalf, such as a health check.
    pub const fn local(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        }
    }
}

/// Whether one of the networks contains an address. An IPv4-mapped address of IPv6 counts as IPv4.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
