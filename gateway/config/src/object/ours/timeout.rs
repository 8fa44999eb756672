//! Time-outs towards endpoints and towards clients.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ClientTcpTimeout;
use super::values::Span;

/// Time-outs towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Timeout {
    /// Time-outs of TCP.
    #[serde(default)]
    pub tcp: TcpTimeout,
    /// Time-outs of UDP flows.
    #[serde(default)]
    pub udp: UdpTimeout,
    /// Time-outs of HTTP exchanges and connections.
    #[serde(default)]
    pub http: HttpTimeout,
}

/// Time-outs of TCP towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpTimeout {
    /// How long connecting to an endpoint may take. Default 5s; 250ms where another endpoint can be tried.
    pub connect_timeout: Option<Span>,
}

/// Time-outs of UDP flows.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UdpTimeout {
    /// How long a flow is kept without a datagram in either direction. Default 60s.
    pub idle_timeout: Option<Span>,
}

/// Time-outs of HTTP towards endpoints. `0s` means none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// How long a whole exchange may take, from the request's head to the response's last byte. Default: for ever.
    pub request_timeout: Option<Span>,
    /// How long a whole exchange may take, also where a rule has a longer time-out of its own. Default: for ever.
    pub max_stream_duration: Option<Span>,
    /// How long an idle connection to an endpoint is kept. Default 60s.
    pub connection_idle_timeout: Option<Span>,
    /// How old a connection to an endpoint may be to take another request. Default: any age.
    pub max_connection_duration: Option<Span>,
    /// How long an upgraded connection may be silent. Default: for ever.
    pub upgrade_idle_timeout: Option<Span>,
}

/// Time-outs towards clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ClientTimeout {
    /// Time-outs of forwarded TCP connections.
    #[serde(default)]
    pub tcp: ClientTcpTimeout,
    /// Time-outs of HTTP.
    #[serde(default)]
    pub http: HttpClientTimeout,
}

/// Time-outs of HTTP towards clients, kept to the second. `0s` means none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpClientTimeout {
    /// How long a whole request, head and content, may take to come, from its first byte. Default: for ever.
    pub request_received_timeout: Option<Span>,
    /// How long a request's head may take to come, from its first byte. Default 30s.
    pub request_headers_timeout: Option<Span>,
    /// How long a connection may be idle between exchanges. Default 30s.
    pub idle_timeout: Option<Span>,
    /// How long an exchange goes on in which no byte of a body moves. Default 300s.
    pub stream_idle_timeout: Option<Span>,
    /// How long a client of HTTP/1.1 that has closed its sending side after its request is answered, from then or from the last byte of a body
    /// on. Default 30s.
    pub half_close_timeout: Option<Span>,
}
