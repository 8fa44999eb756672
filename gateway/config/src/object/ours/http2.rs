//! HTTP/2 and upgrades, in both traffic policies.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Bytes, Span};

/// HTTP/2 from clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientHttp2Policy {
    /// Exchanges under way on one connection. Default 100.
    pub max_concurrent_streams: Option<u32>,
    /// How much of one request's content may be under way: the window of a stream. Default 64Ki.
    pub initial_stream_window_size: Option<Bytes>,
    /// How much content of all requests together may be under way: the window of a connection. Default 1Mi.
    pub initial_connection_window_size: Option<Bytes>,
}

/// HTTP/2 towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendHttp2Policy {
    /// Exchanges under way on one connection. Default 100.
    pub max_concurrent_streams: Option<u32>,
    /// How much of one response's content may be under way: the window of a stream. Default 64Ki.
    pub initial_stream_window_size: Option<Bytes>,
    /// How much content of all responses together may be under way: the window of a connection. Default: the windows of `maxConcurrentStreams`
    /// streams.
    pub initial_connection_window_size: Option<Bytes>,
    /// PING frames that find out whether an endpoint is still there.
    #[serde(default)]
    pub connection_keepalive: ConnectionKeepalive,
}

/// PING frames that find out whether a silent endpoint is still there.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionKeepalive {
    /// The time between two PING frames. Default: none are sent.
    pub interval: Option<Span>,
    /// How long the endpoint may take to answer one. Default 10s.
    pub timeout: Option<Span>,
}

/// A protocol that an HTTP/1.1 connection may become.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HttpUpgrade {
    /// The protocol's name in the header field `Upgrade`: `websocket`.
    pub r#type: String,
}
