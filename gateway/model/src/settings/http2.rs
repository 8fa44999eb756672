//! Settings of HTTP/2 on either side, and of what HTTP/1.1 connections may become.

use std::time::Duration;

/// The window of a stream: what a sender may send before the receiver has taken any of it. It is Envoy Gateway's default.
const STREAM_WINDOW: u32 = 64 << 10;
/// The window of a client's connection. It is Envoy Gateway's default.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The number of streams. It is Envoy Gateway's default, and the least that RFC 9113 §6.5.2 recommends.
const STREAMS: u32 = 100;

/// HTTP/2 from clients: `ClientTrafficPolicy`'s `http2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHttp2 {
    /// The number of exchanges under way on one connection; more are refused.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's content that a client may send ahead.
    pub stream_window: u32,
    /// Bytes of content that a client may send ahead for all requests of a connection together.
    pub connection_window: u32,
}

impl Default for ClientHttp2 {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

impl ClientHttp2 {
    /// Settings from what a policy says. What it leaves out is Envoy Gateway's default.
    pub fn new(streams: Option<u32>, stream_window: Option<u32>, connection_window: Option<u32>) -> Self {
        Self {
            max_concurrent_streams: streams.unwrap_or(STREAMS),
            stream_window: stream_window.unwrap_or(STREAM_WINDOW),
            connection_window: connection_window.unwrap_or(CONNECTION_WINDOW),
        }
    }
}

/// HTTP/2 towards endpoints: `BackendTrafficPolicy`'s `http2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendHttp2 {
    /// The number of exchanges under way on one connection, if the endpoint takes so many; more get another connection.
    pub max_concurrent_streams: u32,
    /// Bytes of a response's content that an endpoint may send ahead.
    pub stream_window: u32,
    /// Bytes of content that an endpoint may send ahead for all responses of a connection together. By default it is the sum of all streams' windows: a client
    /// that does not read its response must not stall those of others on the same connection.
    pub connection_window: u32,
    /// How long a connection may be silent before it is asked for a sign of life; none: never.
    pub keep_alive: Option<KeepAlive>,
}

/// PING frames that find dead connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The time between two PING frames.
    pub interval: Duration,
    /// How long the endpoint may take to answer one.
    pub timeout: Duration,
}

impl Default for BackendHttp2 {
    fn default() -> Self {
        Self::new(None, None, None, None)
    }
}

impl BackendHttp2 {
    /// Settings from what a policy says. What it leaves out is Envoy Gateway's default, but for the [connection's window](Self::connection_window).
    pub fn new(streams: Option<u32>, stream_window: Option<u32>, connection_window: Option<u32>, keep_alive: Option<KeepAlive>) -> Self {
        let max_concurrent_streams = streams.unwrap_or(STREAMS);
        let stream_window = stream_window.unwrap_or(STREAM_WINDOW);
        let all = max_concurrent_streams.saturating_mul(stream_window).min(i32::MAX.cast_unsigned());
        let connection_window = connection_window.unwrap_or(all.max(CONNECTION_WINDOW));
        Self { max_concurrent_streams, stream_window, connection_window, keep_alive }
    }
}

/// What an HTTP/1.1 connection may become: `BackendTrafficPolicy`'s `httpUpgrade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrades {
    /// The names of the protocols, in lower case.
    pub protocols: Vec<String>,
    /// How long an upgraded connection may be silent; none: for ever, as an L4 connection may.
    pub idle: Option<Duration>,
}

impl Default for Upgrades {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Upgrades {
    /// Upgrades from what a policy says. By default a WebSocket is allowed, as in Envoy Gateway. A time of zero is no limit.
    pub fn new(protocols: Option<Vec<String>>, idle: Option<Duration>) -> Self {
        let mut protocols = protocols.unwrap_or_else(|| vec!["websocket".to_owned()]);
        protocols.iter_mut().for_each(|protocol| protocol.make_ascii_lowercase());
        Self { protocols, idle: idle.filter(|idle| !idle.is_zero()) }
    }

    /// Whether a connection may become this protocol.
    pub fn allows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.eq_ignore_ascii_case(protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_connection_holds_the_windows_of_all_its_streams() {
        let default = BackendHttp2::default();
        assert_eq!(default.connection_window, default.max_concurrent_streams * default.stream_window);
        assert_eq!(BackendHttp2::new(Some(1_000_000), None, None, None).connection_window, (1 << 31) - 1, "the largest window there is");
    }

    #[test]
    fn websockets_pass_unless_another_list_is_given() {
        assert!(Upgrades::default().allows("WebSocket"));
        assert!(!Upgrades::new(Some(Vec::new()), None).allows("websocket"));
        assert!(Upgrades::new(Some(vec!["SPDY/3.1".to_owned()]), None).allows("spdy/3.1"));
    }
}
