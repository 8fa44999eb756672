//! Time-outs and limits of single connections and exchanges.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTimeouts {
    /// How long to wait for an endpoint to accept.
    pub connect: Duration,
    /// How long to wait for an endpoint to accept while another one can be tried instead.
    pub connect_elsewhere: Duration,
    /// Of a whole exchange, to the response's last byte; a rule's own counts before it. None, or zero: for ever.
    pub request: Option<Duration>,
    /// The longest an exchange may last, whatever its rule says; zero: no limit.
    pub stream: Option<Duration>,
    /// How long a connection may be idle.
    pub idle: Option<Duration>,
    /// An older connection takes no other request.
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

/// Towards clients, kept to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// For a request's head, from its first byte.
    pub head: Option<Duration>,
    /// For a whole request, from its first byte.
    pub request: Option<Duration>,
    /// How long a connection may be idle between exchanges.
    pub idle: Option<Duration>,
    /// In an exchange in which no byte of a body moves (Envoy's stream idle time-out has the same default).
    pub stalled: Option<Duration>,
    /// Of a silent exchange whose client has closed its sending side.
    pub half_closed: Option<Duration>,
    /// How long an exchange may last; then it is ended with its connection.
    pub stream: Option<Duration>,
    /// An older connection closes after the running exchange.
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
    /// Waiting that does not count.
    pub grace: Duration,
}

/// How large a request's head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// All of it, in bytes.
    pub bytes: usize,
    /// Its fields.
    pub fields: usize,
}

impl HeadLimits {
    /// The default, and the most that can be set.
    pub const MOST: Self = Self { bytes: 64 << 10, fields: 100 };
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::MOST
    }
}

/// Client connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many connections the listener has open, of all clients together.
    pub listener: Option<ConnectionLimit>,
    /// Of each client address; of IPv6 of each /64.
    pub client: Option<ConnectionLimit>,
    /// Exchanges on one connection.
    pub requests: Option<u32>,
    /// When a client closes its sending side.
    pub half_close: HalfClose,
}

/// How many may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// More are refused.
    pub most: u32,
    /// How long a refused one is held before it is closed; none: it is reset at once.
    pub close_delay: Option<Duration>,
}

/// What becomes of an exchange when its client closes its sending side. From afar nobody can tell that from one that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HalfClose {
    /// It is answered, within `timeout.http.halfCloseTimeout`.
    #[default]
    Answer,
    /// It is given up at once: what an endpoint works on for long is not worth while for who is gone.
    Abort,
}
