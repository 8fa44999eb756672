//! Time-outs and limits of single connections and exchanges.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Time-outs towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// How long to wait for an endpoint to accept.
    pub connect: Duration,
    /// How long to wait for an endpoint to accept while another one can be tried instead.
    pub connect_elsewhere: Duration,
    /// The longest time of a whole exchange, to the response's last byte. A rule's own counts before it. None, or zero: for ever.
    pub request: Option<Duration>,
    /// The longest an exchange may last, whatever its rule says; zero: no limit.
    pub stream: Option<Duration>,
    /// How long a connection may be idle.
    pub idle: Option<Duration>,
    /// The age from which on a connection takes no other request.
    pub age: Option<Duration>,
}

impl Default for BackendTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            connect_elsewhere: Duration::from_millis(250),
            request: None,
            stream: None,
            idle: Some(Duration::from_secs(60)),
            age: None,
        }
    }
}

/// Time-outs towards clients, which are kept to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// How long a request's head may take to come, from its first byte.
    pub head: Option<Duration>,
    /// How long a whole request may take to come, from its first byte.
    pub request: Option<Duration>,
    /// How long a connection may be idle between exchanges.
    pub idle: Option<Duration>,
    /// How long an exchange goes on in which no byte of a body moves (Envoy's stream idle time-out has the same default).
    pub stalled: Option<Duration>,
    /// How long an exchange goes on that is silent and whose client has closed its sending side.
    pub half_closed: Option<Duration>,
    /// How long an exchange may last. Then it is ended with its connection.
    pub stream: Option<Duration>,
    /// The age from which on a connection is closed after the running exchange.
    pub age: Option<Duration>,
    /// How slowly bodies may move.
    pub rate: Option<MinRate>,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        let (thirty, stalled) = (Some(Duration::from_secs(30)), Some(Duration::from_secs(300)));
        Self { head: thirty, request: None, idle: thirty, stalled, half_closed: thirty, stream: None, age: None, rate: None }
    }
}

/// How slowly a client may send content, or take a response, on the average of the time it was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes a second, at least 1.
    pub bytes_per_second: u32,
    /// The time of waiting that does not count.
    pub grace: Duration,
}

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The size of the head, in bytes.
    pub bytes: usize,
    /// The number of fields.
    pub fields: usize,
}

impl HeadLimits {
    /// The default, which is also the most that can be set.
    pub const MOST: Self = Self { bytes: 64 << 10, fields: 100 };
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::MOST
    }
}

/// Limits of client connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many connections the listener has open, of all clients together.
    pub listener: Option<ConnectionLimit>,
    /// How many connections the listener has open for each client address, or each /64 of IPv6.
    pub client: Option<ConnectionLimit>,
    /// How many exchanges one connection carries.
    pub requests: Option<u32>,
    /// What happens when a client closes its sending side.
    pub half_close: HalfClose,
}

/// A limit of open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// How many connections may be open; more are refused.
    pub most: u32,
    /// How long a refused connection is held before it is closed; none: it is reset at once.
    pub close_delay: Option<Duration>,
}

/// What becomes of an exchange when its client closes its sending side. A client that is gone looks the same from afar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HalfClose {
    /// The exchange is answered, within `timeout.http.halfCloseTimeout`.
    #[default]
    Answer,
    /// The exchange is given up at once. That suits endpoints that work on a request for long, in vain if the client is gone.
    Abort,
}
