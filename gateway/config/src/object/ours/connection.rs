//! What both policies say of connections.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Network, Span};

/// TCP keepalive: probes that find out whether a silent peer is still there.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Unanswered probes that end a connection. Default: the system's.
    pub probes: Option<u32>,
    /// Silence before the first probe. Default 60s.
    pub idle_time: Option<Span>,
    /// The time between two probes. Default 15s.
    pub interval: Option<Span>,
}

/// PROXY protocol from clients.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientProxyProtocol {
    /// Also serve connections without a header.
    #[serde(default)]
    pub optional: bool,
    /// Addresses and CIDRs whose headers are believed.
    #[serde(rename = "trustedCIDRs", default)]
    #[schemars(with = "Vec<String>")]
    pub trusted_cidrs: Vec<Network>,
}

/// PROXY protocol towards endpoints.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct BackendProxyProtocol {
    /// The version of the PROXY protocol.
    pub version: ProxyProtocolVersion,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// Time-outs of clients' TCP connections.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTcpTimeout {
    /// How long nothing may move in a forwarded connection. Default: for ever.
    pub idle_timeout: Option<Span>,
}
