//! Time-outs towards endpoints and towards clients.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ClientTcpTimeout;
use super::values::Span;

/// Time-outs towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Timeout {
    /// Of connecting.
    #[serde(default)]
    pub tcp: TcpTimeout,
    /// Of flows.
    #[serde(default)]
    pub udp: UdpTimeout,
    /// Of exchanges.
    #[serde(default)]
    pub http: HttpTimeout,
}

/// See [`Timeout`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpTimeout {
    /// Default 5s.
    pub connect_timeout: Option<Span>,
}

/// See [`Timeout`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UdpTimeout {
    /// Without a datagram in either direction. Default 60s.
    pub idle_timeout: Option<Span>,
}

/// See [`Timeout`]. `0s` means none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// Of a whole exchange, from the request's head to the response's last byte. Default: none.
    pub request_timeout: Option<Span>,
    /// The same, also where a rule has a time-out of its own: none lasts longer. Default: none.
    pub max_stream_duration: Option<Span>,
    /// Of an idle connection to an endpoint. Default 60s.
    pub connection_idle_timeout: Option<Span>,
    /// A connection to an endpoint that is older takes no other request. Default: none.
    pub max_connection_duration: Option<Span>,
    /// How long an upgraded connection may be silent. Default: none.
    pub upgrade_idle_timeout: Option<Span>,
}

/// Time-outs towards clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ClientTimeout {
    /// Of forwarded TCP connections.
    #[serde(default)]
    pub tcp: ClientTcpTimeout,
    /// Of HTTP.
    #[serde(default)]
    pub http: HttpClientTimeout,
}

/// See [`ClientTimeout`]. `0s` means none; kept to the second.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpClientTimeout {
    /// For a whole request, head and content, from its first byte. Default: none.
    pub request_received_timeout: Option<Span>,
    /// For a request's head, from its first byte. Default 30s.
    pub request_headers_timeout: Option<Span>,
    /// Between exchanges. Default 30s.
    pub idle_timeout: Option<Span>,
    /// In an exchange in which no byte of a body moves. Default 300s.
    pub stream_idle_timeout: Option<Span>,
    /// How long a client of HTTP/1.1 that has closed its sending side after its request is answered, from then or from the last byte of a body
    /// on. Default 30s.
    pub half_close_timeout: Option<Span>,
}
