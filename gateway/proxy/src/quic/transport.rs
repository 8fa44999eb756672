//! What a connection may take, before HTTP/3 has a word in it.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};
use sluicegate_model::settings::ClientSettings;
use sluicegate_model::snapshot::Listener;

use super::session::Hosts;

/// How long nothing may come from a client before its connection is given up: it is gone then, as it is asked for a sign of life.
const GONE: Duration = Duration::from_secs(30);
/// After so much silence a client is asked for a sign of life.
const ASK: Duration = Duration::from_secs(10);
/// How many unidirectional streams a client may have open. HTTP/3 has three, and some more for what is not known here (RFC 9114 §6.2).
const UNIDIRECTIONAL: u32 = 8;
/// How many bytes of responses wait for one client, over all its streams, until it has acknowledged them.
const SEND_WINDOW: u64 = 1 << 20;
/// How many packets of connections that nobody has accepted yet are kept, in bytes: for one, and for all of an endpoint.
const WAITING: u64 = 16 << 10;
const ALL_WAITING: u64 = 4 << 20;
/// How many connections wait to be accepted. It happens at once, so these are the arrivals of a moment.
const ARRIVALS: usize = 1024;

/// The configuration for one connection to a listener, or that of an endpoint, which meets connections before they have one. None: the cryptography has not what
/// QUIC needs.
pub(crate) fn server(listener: Option<&Arc<Listener>>) -> Option<ServerConfig> {
    let mut config = ServerConfig::with_crypto(Arc::new(Hosts::new(listener.cloned())?));
    if let Some(listener) = listener {
        config.transport_config(Arc::new(transport(&listener.settings)));
    }
    config.max_incoming(ARRIVALS).incoming_buffer_size(WAITING).incoming_buffer_size_total(ALL_WAITING);
    Some(config)
}

fn transport(settings: &ClientSettings) -> TransportConfig {
    let http2 = &settings.http2;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(http2.max_concurrent_streams.into())
        .max_concurrent_uni_streams(UNIDIRECTIONAL.into())
        .stream_receive_window(http2.stream_window.into())
        .receive_window(http2.connection_window.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(u32::try_from(GONE.as_millis()).ok().map(|millis| IdleTimeout::from(VarInt::from_u32(millis))))
        .keep_alive_interval(Some(ASK))
        .datagram_receive_buffer_size(None);
    config
}
