//! HTTP/2 and upgrades, as policies ask for them.

use std::time::Duration;

use sluicegate_model::settings::{BackendHttp2, ClientHttp2, KeepAlive, Upgrades};

use crate::object::ours::{BackendHttp2Policy, BackendTrafficPolicySpec, Bytes, ClientHttp2Policy};

/// For the answer to a PING.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// From clients.
pub(super) fn client(policy: &ClientHttp2Policy) -> ClientHttp2 {
    ClientHttp2::new(
        policy.max_concurrent_streams,
        policy.initial_stream_window_size.map(bytes),
        policy.initial_connection_window_size.map(bytes),
    )
}

/// Towards endpoints.
pub(super) fn backend(policy: &BackendHttp2Policy) -> BackendHttp2 {
    let keep_alive = &policy.connection_keepalive;
    let timeout = keep_alive.timeout.map_or(PONG_WITHIN, |timeout| timeout.0);
    BackendHttp2::new(
        policy.max_concurrent_streams,
        policy.initial_stream_window_size.map(bytes),
        policy.initial_connection_window_size.map(bytes),
        keep_alive.interval.map(|interval| KeepAlive { interval: interval.0, timeout }),
    )
}

/// What an HTTP/1.1 connection may become.
pub(super) fn upgrades(spec: &BackendTrafficPolicySpec) -> Upgrades {
    let protocols = spec.http_upgrade.as_ref().map(|upgrades| upgrades.iter().map(|upgrade| upgrade.r#type.clone()).collect());
    Upgrades::new(protocols, spec.timeout.http.upgrade_idle_timeout.map(|idle| idle.0))
}

/// The largest window there is, where it asks for more (RFC 9113 §6.9.1).
fn bytes(size: Bytes) -> u32 {
    u32::try_from(size.0).unwrap_or(i32::MAX.cast_unsigned())
}
