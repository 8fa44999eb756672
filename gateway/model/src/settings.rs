//! What policies say, resolved: defaults filled in, references followed. The plan makes it, the data plane obeys it, and nothing between
//! needs to know what is in it.

mod connection;
mod forwarding;
mod headers;
mod health;
mod http2;
mod rate;
mod retry;
mod timeouts;
mod traffic;
mod udp;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::session::Session;

pub use connection::*;
pub use forwarding::*;
pub use headers::*;
pub use health::*;
pub use http2::*;
pub use rate::*;
pub use retry::*;
pub use timeouts::*;
pub use traffic::*;
pub use udp::*;

/// How a service port's endpoints are treated: `BackendTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendSettings {
    /// Time-outs.
    pub timeouts: BackendTimeouts,
    /// When an exchange is tried again; none: what [`Retry`] says of it.
    pub retry: Option<Retry>,
    /// How many of the tries may be further ones; none: as by default of those of an interval, and any number under way.
    pub budget: Option<Budget>,
    /// Clients that come back stay with their endpoint, unless the rule that leads here says something of its own.
    pub session: Option<Session>,
    /// How many connections, exchanges and tries there may be at a time.
    pub breaker: Breaker,
    /// How many requests may come in a time.
    pub rates: Vec<Rate>,
    /// TCP keepalive of connections to endpoints.
    pub keepalive: Keepalive,
    /// The version of the PROXY header that tells endpoints of the client; none: they are not told.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Time-outs of UDP flows.
    pub udp: UdpSettings,
    /// HTTP/2 towards endpoints.
    pub http2: BackendHttp2,
    /// What an HTTP/1.1 connection may become.
    pub upgrades: Upgrades,
    /// Trailer fields of requests that endpoints of HTTP/1.1 get, in lower case; those of HTTP/2 get all that may be trailers.
    pub request_trailers: Arc<[HeaderName]>,
    /// What decides whether an endpoint is used.
    pub health: HealthSettings,
}

/// How a listener's clients are treated: `ClientTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientSettings {
    /// Time-outs.
    pub timeouts: ClientTimeouts,
    /// How many connections may be open, and how much each may do.
    pub connections: ConnectionLimits,
    /// How large a request's head may be.
    pub head: HeadLimits,
    /// How many bytes a request's content may have.
    pub content: Option<u64>,
    /// How many requests may come.
    pub rates: Vec<Rate>,
    /// TCP keepalive of clients' connections.
    pub keepalive: Keepalive,
    /// A forwarded TCP connection in which nothing has moved for so long is closed; none: never.
    pub tcp_idle: Option<Duration>,
    /// Clients are believed when they say for whom they speak; none: they say nothing.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Networks that may connect; empty: all. `loadBalancerSourceRanges`.
    pub sources: Vec<IpNet>,
    /// Who is believed about the client's address.
    pub trust: Trust,
    /// What becomes of header fields.
    pub headers: HeaderSettings,
    /// How paths are read.
    pub path: PathSettings,
    /// HTTP/2 from clients.
    pub http2: ClientHttp2,
}
