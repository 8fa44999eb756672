//! The immutable view all workers serve from. A change makes a new one; what did not change is shared with the old one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limiter::Limiter;
use crate::plugin::{BalancerGeneration, RouterGeneration, hash_bytes, hash_ip};
use crate::pool::Pool;
use crate::rollout::Trial;
use crate::route::{Protocol, RouteTable, ServiceRef, Transport};
use crate::settings::{BackendSettings, ClientSettings};
use crate::stats::ServiceStats;
use crate::tls::{ServerTls, UpstreamTls};

/// What workers serve.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Counts up by one with each snapshot.
    pub version: u64,
    /// What to listen on. No two have the same protocol and address.
    pub listeners: Vec<Arc<Listener>>,
    /// All service ports that something may be forwarded to. Listeners and routes hold indices into it.
    pub services: Vec<Arc<ServicePort>>,
    /// What load balancers in front are told.
    pub health_checks: Vec<HealthCheck>,
}

/// A Service's `healthCheckNodePort`, and what is to be answered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Of the Service.
    pub namespace: String,
    /// Of the Service.
    pub name: String,
    /// Where it is answered.
    pub addresses: Vec<SocketAddr>,
    /// Ready endpoints on this node, each address once.
    pub local_endpoints: usize,
}

/// An index in [`Snapshot::services`].
pub type ServiceIndex = usize;

/// One address to listen on.
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// For logs, metrics and `explain`: `node port 30080 of default/nginx-svc:8080`, `listener web of Gateway default/edge`.
    pub name: String,
    /// What to do with what arrives.
    pub front: Front,
    /// What its policy says.
    pub settings: Arc<ClientSettings>,
    /// Its policy's rate limits, kept over snapshots.
    pub limiter: Option<Arc<Limiter>>,
}

/// What to do with what arrives.
pub enum Front {
    /// Forward a connection whole.
    Tcp(Target),
    /// Forward datagrams, flow by flow.
    Udp(Target),
    /// Take HTTP requests from it. Sorted: exact host names, wildcards (more labels first), then the empty one.
    Http(Vec<VirtualHost>),
    /// It is TLS: look at the server name it asks for. Sorted likewise.
    Tls(Vec<TlsHost>),
}

impl Front {
    /// What carries it: a TCP and a UDP listener may have the same address.
    pub fn protocol(&self) -> Protocol {
        if matches!(self, Self::Udp(_)) { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Whether HTTP requests are taken from some of its connections.
    pub fn serves_http(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Udp(_) => false,
            Self::Http(_) => true,
            Self::Tls(hosts) => hosts.iter().any(|h| matches!(h.mode, TlsMode::Http(_))),
        }
    }

    /// All it leads to.
    pub fn targets(&self) -> Vec<&Target> {
        match self {
            Self::Tcp(target) | Self::Udp(target) => vec![target],
            Self::Http(hosts) => hosts.iter().map(|h| &h.target).collect(),
            Self::Tls(hosts) => hosts.iter().map(|h| &h.target).collect(),
        }
    }
}

/// What serves one server name of a TLS listener.
pub struct TlsHost {
    /// As [`VirtualHost::hostname`]; a client that sends no name gets the one without any.
    pub hostname: Option<String>,
    /// What becomes of the TLS.
    pub mode: TlsMode,
    /// What serves it.
    pub target: Target,
}

impl TlsHost {
    /// As [`VirtualHost::serves`].
    pub fn serves(&self, host: &str) -> bool {
        serves(self.hostname.as_deref(), host)
    }

    /// How its TLS is ended, if it is ended here.
    pub fn server(&self) -> Option<&Arc<ServerTls>> {
        match &self.mode {
            TlsMode::Passthrough => None,
            TlsMode::Tcp(tls) | TlsMode::Http(tls) => Some(tls),
        }
    }
}

/// What becomes of a TLS connection.
pub enum TlsMode {
    /// Forwarded as it is.
    Passthrough,
    /// Ended, and its bytes forwarded.
    Tcp(Arc<ServerTls>),
    /// Ended, and HTTP requests taken from it.
    Http(Arc<ServerTls>),
}

/// What serves one host name of an HTTP listener.
pub struct VirtualHost {
    /// Lower case; `*.example.com` for a wildcard, which spans dots; none: any host.
    pub hostname: Option<String>,
    /// What serves it.
    pub target: Target,
}

impl VirtualHost {
    /// Whether it serves a host name, given in lower case and without a port. A wildcard spans dots, but not nothing.
    pub fn serves(&self, host: &str) -> bool {
        serves(self.hostname.as_deref(), host)
    }
}

fn serves(hostname: Option<&str>, host: &str) -> bool {
    match hostname {
        None => true,
        Some(wanted) => match wanted.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => wanted == host,
        },
    }
}

/// Where a listener leads.
#[derive(Clone)]
pub enum Target {
    /// To a service port's pool.
    Service(ServiceSide),
    /// To a router.
    Router(Arc<RouterBinding>),
    /// Nowhere: 404, a reset for TCP, a drop for UDP.
    Nothing,
}

/// A service port as seen from inside or outside, which may have different pools (`internalTrafficPolicy`, `externalTrafficPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSide {
    /// Which service port.
    pub service: ServiceIndex,
    /// Which of its pools.
    pub side: Side,
}

/// Where traffic comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A ClusterIP or a route.
    Internal,
    /// A node port, external or load balancer address.
    External,
}

/// A router bound to a listener.
pub struct RouterBinding {
    /// What it transports.
    pub transport: Transport,
    /// The live generation and its table; then the previous good one, used when the live one fails.
    pub ladder: Vec<RouterRung>,
}

impl RouterBinding {
    /// Whether it decides by header fields.
    pub fn reads_fields(&self) -> bool {
        self.ladder.iter().any(|rung| !rung.table.interests.headers.is_empty())
    }
}

/// One step of a router's failure ladder.
pub struct RouterRung {
    /// The generation.
    pub generation: Arc<dyn RouterGeneration>,
    /// Its configured table.
    pub table: Arc<RouteTable>,
    /// For each rule of the table, for each backend: the service port, or why there is none (500).
    pub backends: Vec<Vec<Result<ServiceIndex, Arc<str>>>>,
    /// For each rule of the table, for each mirror, likewise.
    pub mirrors: Vec<Vec<Option<ServiceIndex>>>,
}

/// A generation of a balancer on trial.
#[derive(Clone)]
pub struct BalancerTrial {
    /// It.
    pub generation: Arc<dyn BalancerGeneration>,
    /// How it is tried, and what comes of it.
    pub trial: Arc<Trial>,
}

/// One port of one Service.
#[derive(Clone)]
pub struct ServicePort {
    /// Its namespace, name and port.
    pub id: ServiceRef,
    /// The name of the port, empty if it has none.
    pub port_name: String,
    /// What its bytes are.
    pub protocol: AppProtocol,
    /// The pool for traffic from inside.
    pub internal: Arc<Pool>,
    /// The pool for traffic from outside; the same one where the policies agree.
    pub external: Arc<Pool>,
    /// The live balancer generation, then the previous good one; then a native random choice serves.
    pub balancers: Vec<Arc<dyn BalancerGeneration>>,
    /// The balancer's configuration, JSON.
    pub balancer_config: Arc<str>,
    /// `failurePolicy: Fail`: when the balancer fails there is no native choice, and the exchange fails.
    pub fail_closed: bool,
    /// The name under which its pools' state outlives the gateway, if its balancer's `Plugin` object asks for that.
    pub kept_as: Option<Arc<str>>,
    /// A generation on trial beside the live one.
    pub trial: Option<BalancerTrial>,
    /// What a pick is hashed by.
    pub hash: Option<HashKey>,
    /// `sessionAffinity: ClientIP`.
    pub affinity: Option<Arc<Affinity>>,
    /// What its policy says.
    pub settings: Arc<BackendSettings>,
    /// Its policy's rate limits, kept over snapshots.
    pub limiter: Option<Arc<Limiter>>,
    /// Whether its endpoints speak TLS.
    pub tls: EndpointTls,
    /// Counters, kept over snapshots.
    pub stats: Arc<ServiceStats>,
}

impl ServicePort {
    /// The pool for traffic from `side`.
    pub fn pool(&self, side: Side) -> &Arc<Pool> {
        match side {
            Side::Internal => &self.internal,
            Side::External => &self.external,
        }
    }
}

/// Whether endpoints speak TLS.
#[derive(Clone, Debug, Default)]
pub enum EndpointTls {
    /// They speak plain text.
    #[default]
    Off,
    /// They speak TLS, by these rules.
    On(Arc<UpstreamTls>),
    /// They speak TLS (`appProtocol: https`), and nobody says how to verify them: bytes of clients that speak TLS with them themselves are
    /// forwarded, and nothing else is.
    Untold,
    /// They speak TLS, and the rules are broken: nothing is forwarded, least of all plain text.
    Broken,
}

impl EndpointTls {
    /// Tells connections apart that must not be used for one another; 0: plain text.
    pub fn id(&self) -> u64 {
        if let Self::On(tls) = self { tls.id } else { 0 }
    }
}

/// What a service port speaks, as far as the gateway cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// Bytes, balanced per connection.
    Tcp,
    /// Datagrams, balanced per flow.
    Udp,
    /// HTTP/1.1, balanced per request.
    Http,
    /// HTTP/2 with prior knowledge, likewise.
    H2c,
    /// gRPC, over HTTP/2 with prior knowledge: its outcome is in the trailers.
    Grpc,
    /// HTTP/1.1 that may become a WebSocket.
    Ws,
}

impl AppProtocol {
    /// Whether endpoints are spoken to in HTTP/2, as many exchanges at a time on one connection as they take.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::Grpc)
    }
}

/// What the host hashes for a consistent-hash balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    SourceIp,
    /// A header's value; lower-case name.
    Header(http::HeaderName),
    /// A cookie's value.
    Cookie {
        /// Its name.
        name: String,
        /// What follows the value where the gateway sets it; none: it does not.
        given: Option<String>,
    },
    /// The path without its query.
    Path,
}

impl HashKey {
    /// What a balancer is given for a request; none if the request has no such header or cookie. XXH3, see [`hash_bytes`].
    pub fn of(&self, headers: &http::HeaderMap, path: &str, client: IpAddr) -> Option<u64> {
        match self {
            Self::SourceIp => Some(hash_ip(client)),
            Self::Path => Some(hash_bytes(path.as_bytes())),
            Self::Header(name) => headers.get(name).map(|v| hash_bytes(v.as_bytes())),
            Self::Cookie { name, .. } => cookie(headers, name).map(|v| hash_bytes(v.as_bytes())),
        }
    }
}

impl HashKey {
    /// For a request that has not got the cookie, where the gateway sets it: the hash of a `value`, and the field that brings it to the client.
    pub fn give(&self, value: impl FnOnce() -> u128, over_tls: bool) -> Option<(u64, http::HeaderValue)> {
        let Self::Cookie { name, given: Some(attributes) } = self else { return None };
        let value = format!("{:032x}", value());
        let secure = if over_tls { "; Secure" } else { "" };
        let field = http::HeaderValue::try_from(format!("{name}={value}{attributes}{secure}")).ok()?;
        Some((hash_bytes(value.as_bytes()), field))
    }
}

/// The first cookie of that name (RFC 6265 §5.4).
pub fn cookie<'a>(headers: &'a http::HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(http::header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// `sessionAffinity: ClientIP`, one table for each service port, shared by all workers and kept over snapshots. It is the one lock on a
/// request's path, taken only for services that ask for affinity, and never across an await.
#[derive(Debug)]
pub struct Affinity {
    /// Sliding: each new connection or flow renews it (SERVICE-SEMANTICS §4).
    pub timeout: Duration,
    clients: Mutex<HashMap<IpAddr, (SocketAddr, Instant)>>,
}

/// How many clients one affinity table remembers; when it is full the expired are dropped, then any.
pub const AFFINITY_CLIENTS: usize = 65_536;

impl Affinity {
    /// An empty table.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, clients: Mutex::default() }
    }

    /// The endpoint `client` is bound to, renewed, if it was seen within the time-out.
    pub fn lookup(&self, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (endpoint, seen) = clients.get_mut(&client)?;
        if now.duration_since(*seen) > self.timeout {
            clients.remove(&client);
            return None;
        }
        *seen = now;
        Some(*endpoint)
    }

    /// Binds `client` to `endpoint`.
    pub fn bind(&self, client: IpAddr, endpoint: SocketAddr, now: Instant) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= AFFINITY_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, (_, seen)| now.duration_since(*seen) <= self.timeout);
            if clients.len() >= AFFINITY_CLIENTS
                && let Some(any) = clients.keys().next().copied()
            {
                clients.remove(&any);
            }
        }
        clients.insert(client, (endpoint, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_span_dots_but_not_nothing() {
        let of = |name: &str| VirtualHost { hostname: Some(name.to_owned()), target: Target::Nothing };
        assert!(of("*.example.com").serves("a.b.example.com"));
        assert!(!of("*.example.com").serves("example.com"));
        assert!(!of("*.example.com").serves(".example.com"));
        assert!(of("example.com").serves("example.com"));
    }
}
