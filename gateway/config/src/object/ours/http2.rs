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
    /// Of one request's content. Default 64Ki.
    pub initial_stream_window_size: Option<Bytes>,
    /// Of all requests' content. Default 1Mi.
    pub initial_connection_window_size: Option<Bytes>,
}

/// HTTP/2 towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendHttp2Policy {
    /// Exchanges under way on one connection. Default 100.
    pub max_concurrent_streams: Option<u32>,
    /// Of one response's content. Default 64Ki.
    pub initial_stream_window_size: Option<Bytes>,
    /// Of all responses' content. Default: of so many streams.
    pub initial_connection_window_size: Option<Bytes>,
    /// Signs of life.
    #[serde(default)]
    pub connection_keepalive: ConnectionKeepalive,
}

/// See [`BackendHttp2Policy`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionKeepalive {
    /// Between two PING frames. Default: none are sent.
    pub interval: Option<Span>,
    /// For the answer. Default 10s.
    pub timeout: Option<Span>,
}

/// A protocol that an HTTP/1.1 connection may become.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HttpUpgrade {
    /// As in the `Upgrade` field: `websocket`.
    pub r#type: String,
}
