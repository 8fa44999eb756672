//! The settings that policies make for HTTP/2 and upgrades.

use std::time::Duration;

use sluicegate_model::settings::{BackendHttp2, ClientHttp2, KeepAlive, Upgrades};

use crate::object::ours::{BackendHttp2Policy, BackendTrafficPolicySpec, Bytes, ClientHttp2Policy};

/// How long the answer to a PING may take, unless a policy says otherwise.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// The settings of HTTP/2 with clients.
pub(super) fn client(policy: &ClientHttp2Policy) -> ClientHttp2 {
    ClientHttp2::new(
        policy.max_concurrent_streams,
        policy.initial_stream_window_size.map(bytes),
        policy.initial_connection_window_size.map(bytes),
    )
}

/// The settings of HTTP/2 with endpoints.
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

/// The protocols that an HTTP/1.1 connection may be upgraded to.
pub(super) fn upgrades(spec: &BackendTrafficPolicySpec) -> Upgrades {
    let protocols = spec.http_upgrade.as_ref().map(|upgrades| upgrades.iter().map(|upgrade| upgrade.r#type.clone()).collect());
    Upgrades::new(protocols, spec.timeout.http.upgrade_idle_timeout.map(|idle| idle.0))
}

/// A window's size in bytes, cut to the largest that HTTP/2 has (RFC 9113 §6.9.1).
fn bytes(size: Bytes) -> u32 {
    u32::try_from(size.0).unwrap_or(i32::MAX.cast_unsigned())
}
