//! HTTP/2 on either side, and what HTTP/1.1 connections may become.

use std::time::Duration;

use crate::object::ours::{BackendHttp2Policy, ClientHttp2Policy, HttpUpgrade, Span};

/// A stream's window: what its sender may send before the receiver has taken any of it. Envoy Gateway's default.
const STREAM_WINDOW: u32 = 64 << 10;
/// A client connection's window. Envoy Gateway's default.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Envoy Gateway's default, and what RFC 9113 §6.5.2 wants at least.
const STREAMS: u32 = 100;

/// HTTP/2 from clients: `ClientTrafficPolicy`'s `http2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHttp2 {
    /// Exchanges under way on one connection; more are refused.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's content that a client may send ahead.
    pub stream_window: u32,
    /// The same for all requests of a connection together.
    pub connection_window: u32,
}

impl Default for ClientHttp2 {
    fn default() -> Self {
        Self::from(&ClientHttp2Policy::default())
    }
}

impl From<&ClientHttp2Policy> for ClientHttp2 {
    fn from(policy: &ClientHttp2Policy) -> Self {
        Self {
            max_concurrent_streams: policy.max_concurrent_streams.unwrap_or(STREAMS),
            stream_window: bytes(policy.initial_stream_window_size, STREAM_WINDOW),
            connection_window: bytes(policy.initial_connection_window_size, CONNECTION_WINDOW),
        }
    }
}

/// HTTP/2 towards endpoints: `BackendTrafficPolicy`'s `http2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendHttp2 {
    /// Exchanges under way on one connection, if the endpoint takes so many; more get another connection.
    pub max_concurrent_streams: u32,
    /// Bytes of a response's content that an endpoint may send ahead.
    pub stream_window: u32,
    /// The same for all responses of a connection together. By default what all streams' windows come to: a client that does not read its
    /// response must not stall those of others on the same connection.
    pub connection_window: u32,
    /// How long a connection may be silent before it is asked for a sign of life; none: never.
    pub keep_alive: Option<KeepAlive>,
}

/// PING frames that find dead connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Between two.
    pub interval: Duration,
    /// For the answer.
    pub timeout: Duration,
}

impl Default for BackendHttp2 {
    fn default() -> Self {
        Self::from(&BackendHttp2Policy::default())
    }
}

impl From<&BackendHttp2Policy> for BackendHttp2 {
    fn from(policy: &BackendHttp2Policy) -> Self {
        let max_concurrent_streams = policy.max_concurrent_streams.unwrap_or(STREAMS);
        let stream_window = bytes(policy.initial_stream_window_size, STREAM_WINDOW);
        let all = max_concurrent_streams.saturating_mul(stream_window).min(i32::MAX.cast_unsigned());
        let keep_alive = &policy.connection_keepalive;
        Self {
            max_concurrent_streams,
            stream_window,
            connection_window: bytes(policy.initial_connection_window_size, all.max(CONNECTION_WINDOW)),
            keep_alive: keep_alive
                .interval
                .map(|interval| KeepAlive { interval: interval.0, timeout: keep_alive.timeout.map_or(PONG_WITHIN, |t| t.0) }),
        }
    }
}

/// For the answer to a PING.
const PONG_WITHIN: Duration = Duration::from_secs(10);

fn bytes(size: Option<crate::object::ours::Bytes>, default: u32) -> u32 {
    size.map_or(default, |size| u32::try_from(size.0).unwrap_or(i32::MAX.cast_unsigned()))
}

/// What an HTTP/1.1 connection may become: `BackendTrafficPolicy`'s `httpUpgrade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrades {
    /// Names of protocols, lower case.
    pub protocols: Vec<String>,
    /// How long it may be silent then; none: for ever, as an L4 connection may.
    pub idle: Option<Duration>,
}

impl Default for Upgrades {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Upgrades {
    /// By default a WebSocket is let through, as Envoy Gateway does.
    pub(crate) fn new(upgrades: Option<&[HttpUpgrade]>, idle: Option<Span>) -> Self {
        let named = |upgrades: &[HttpUpgrade]| upgrades.iter().map(|u| u.r#type.to_ascii_lowercase()).collect();
        let protocols = upgrades.map_or_else(|| vec!["websocket".to_owned()], named);
        Self { protocols, idle: idle.map(|s| s.0).filter(|s| !s.is_zero()) }
    }

    /// Whether it may become this.
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
        let policy = BackendHttp2Policy { max_concurrent_streams: Some(1_000_000), ..BackendHttp2Policy::default() };
        assert_eq!(BackendHttp2::from(&policy).connection_window, (1 << 31) - 1, "the largest window there is");
    }

    #[test]
    fn websockets_pass_unless_another_list_is_given() {
        assert!(Upgrades::default().allows("WebSocket"));
        assert!(!Upgrades::new(Some(&[]), None).allows("websocket"));
        assert!(Upgrades::new(Some(&[HttpUpgrade { r#type: "SPDY/3.1".to_owned() }]), None).allows("spdy/3.1"));
    }
}
