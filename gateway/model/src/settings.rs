//! What policies say, resolved: defaults are filled in, and references followed. The plan makes it and the data plane obeys it; what is between them need
//! not know what is in it.

mod connection;
mod forwarding;
mod headers;
mod health;
mod http2;
mod http3;
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
pub use http3::*;
pub use rate::*;
pub use retry::*;
pub use timeouts::*;
pub use traffic::*;
pub use udp::*;

/// How a service port's endpoints are treated: `BackendTrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendSettings {
    /// The time-outs.
    pub timeouts: BackendTimeouts,
    /// When an exchange is tried again; none: as the documentation of [`Retry`] says.
    pub retry: Option<Retry>,
    /// How many of the tries may be retries; none: the default share of the exchanges of an interval, and any number under way.
    pub budget: Option<Budget>,
    /// How clients that come back stay with their endpoint, unless the rule that leads here says something of its own.
    pub session: Option<Session>,
    /// How many connections, exchanges and tries there may be at a time.
    pub breaker: Breaker,
    /// The rate limits.
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
    /// The time-outs.
    pub timeouts: ClientTimeouts,
    /// How many connections may be open, and how much each may do.
    pub connections: ConnectionLimits,
    /// How large a request's head may be.
    pub head: HeadLimits,
    /// The largest content of a request, in bytes; none: any.
    pub content: Option<u64>,
    /// The rate limits.
    pub rates: Vec<Rate>,
    /// TCP keepalive of clients' connections.
    pub keepalive: Keepalive,
    /// After how much time a forwarded TCP connection is closed in which nothing moves; none: never.
    pub tcp_idle: Option<Duration>,
    /// Which clients are believed when a PROXY header says for whom they speak; none: PROXY headers are not read.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The networks that may connect (`loadBalancerSourceRanges`); empty: all.
    pub sources: Vec<IpNet>,
    /// Who is believed about the client's address.
    pub trust: Trust,
    /// What becomes of header fields.
    pub headers: HeaderSettings,
    /// How paths are read.
    pub path: PathSettings,
    /// HTTP/2 from clients.
    pub http2: ClientHttp2,
    /// HTTP/3 from clients; none: it is not served.
    pub http3: Option<ClientHttp3>,
}
