//! The immutable view all workers serve from. A change makes a new one, which shares with the old one what did not change.
//!
//! **A part that did not change is the same [`Arc`].** Workers compare a snapshot with the one that they serve by the pointers of its listeners and
//! service ports ([`Map::changes`]), and do work for those that differ and for no others. A part that was made anew and came out equal is a
//! change that costs each of them something; [`Listener::is_same`], [`ServicePort::is_same`] and [`RouterBinding::is_same`] help who makes snapshots
//! to keep the old one. A worker may miss snapshots: it compares the one that it takes with the one that it has.
//!
//! **What a listener leads to has the same form in the plan.** [`Listener`], [`Front`], [`Target`], [`VirtualHost`], [`TlsHost`], [`TlsMode`] and [`EndpointTls`] have
//! parameters that are by default what workers need: the index of a service port, a bound router, a TLS configuration. `config::plan` has names and
//! settings in their places.

mod affinity;
mod hosts;
mod router;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use self::affinity::{AFFINITY_CLIENTS, Affinity};
pub use self::hosts::{Host, Hosts, TlsHost, TlsMode, VirtualHost};
pub use self::router::{BoundRule, RouterBinding, RouterRung, Taken};
use crate::cookie::cookie;
use crate::family::IpFamily;
use crate::hash::{hash_bytes, hash_ip};
use crate::limiter::Limiter;
use crate::persistent::Map;
use crate::plugin::BalancerGeneration;
use crate::pool::Pool;
use crate::rollout::Trial;
use crate::route::{Protocol, ServiceRef};
use crate::settings::{BackendSettings, ClientSettings};
use crate::stats::ServiceStats;
use crate::tls::UpstreamTls;

/// What workers serve.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The number of the snapshot, which counts up by one with each.
    pub version: u64,
    /// The addresses to listen on.
    pub listeners: Map<At, Listener>,
    /// All service ports that something may be forwarded to; a dual-stack Service has one for each IP family. Listeners and routes hold indices into it.
    pub services: Map<ServiceIndex, ServicePort>,
    /// What load balancers in front are told.
    pub health_checks: Arc<[HealthCheck]>,
}

impl Snapshot {
    /// A snapshot of these listeners and service ports, whose indices count from 0.
    pub fn of(
        version: u64,
        listeners: impl IntoIterator<Item = Arc<Listener>>,
        services: impl IntoIterator<Item = Arc<ServicePort>>,
    ) -> Self {
        let listeners = listeners.into_iter().map(|listener| (listener.at(), listener)).collect();
        Self { version, listeners, services: services.into_iter().enumerate().collect(), ..Self::default() }
    }
}

/// Where a listener listens. A TCP and a UDP listener may have the same address.
pub type At = (Protocol, SocketAddr);

/// A Service's `healthCheckNodePort`, and what is to be answered there. `N`: the number of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck<N = usize> {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub name: String,
    /// The addresses at which it is answered.
    pub addresses: Vec<SocketAddr>,
    /// The number of ready endpoints on this node, where each address counts once.
    pub local_endpoints: N,
}

/// A key of [`Snapshot::services`]. A service port keeps its index as long as it lives, so that what leads to it need not be made anew when others
/// come and go. Later another service port may get the index; a worker sees that as a change.
pub type ServiceIndex = usize;

/// One address to listen on. `F`: what is done with what arrives; `L`: its rate limits.
#[derive(Clone, Debug)]
pub struct Listener<F = Front, L = Option<Arc<Limiter>>> {
    /// The address.
    pub address: SocketAddr,
    /// The name, for logs, metrics and `explain`: `node port 30080 of default/nginx-svc:8080`, `listener web of Gateway default/edge`.
    pub name: String,
    /// What to do with what arrives.
    pub front: F,
    /// What the ClientTrafficPolicy says.
    pub settings: Arc<ClientSettings>,
    /// The policy's rate limits, kept over snapshots.
    pub limiter: L,
}

impl<T, H, S, L> Listener<Front<T, H, S>, L> {
    /// The key among the listeners of a snapshot.
    pub fn at(&self) -> At {
        (self.front.protocol(), self.address)
    }
}

impl Listener {
    /// Whether another one is made of the same parts, so that either may stand for both.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address
            && self.name == other.name
            && (Arc::ptr_eq(&self.settings, &other.settings) || self.settings == other.settings)
            && same(self.limiter.as_ref(), other.limiter.as_ref())
            && self.front.is_same(&other.front)
    }
}

/// Whether two are the same one, or both are none.
fn same<T: ?Sized>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// What to do with what arrives. `T`: where it leads; `H` and `S`: the hosts of HTTP and of TLS.
#[derive(Clone, Debug)]
pub enum Front<T = Target, H = Hosts<VirtualHost>, S = Hosts<TlsHost>> {
    /// Forward a connection whole.
    Tcp(T),
    /// Forward datagrams, flow by flow.
    Udp(T),
    /// Take HTTP requests from it, by their host names.
    Http(H),
    /// End or forward TLS, by the server name that it asks for.
    Tls(S),
}

impl<T, H, S> Front<T, H, S> {
    /// The protocol that carries it. A TCP and a UDP listener may have the same address.
    pub fn protocol(&self) -> Protocol {
        if matches!(self, Self::Udp(_)) { Protocol::Udp } else { Protocol::Tcp }
    }
}

impl Front {
    /// Whether HTTP requests are taken from some of its connections.
    pub fn serves_http(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Udp(_) => false,
            Self::Http(_) => true,
            Self::Tls(hosts) => hosts.iter().any(|h| matches!(h.mode, TlsMode::Http(_))),
        }
    }

    /// All that it leads to.
    pub fn targets(&self) -> Vec<&Target> {
        match self {
            Self::Tcp(target) | Self::Udp(target) => vec![target],
            Self::Http(hosts) => hosts.iter().map(|h| &h.target).collect(),
            Self::Tls(hosts) => hosts.iter().map(|h| &h.target).collect(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(a), Self::Tcp(b)) | (Self::Udp(a), Self::Udp(b)) => a.is_same(b),
            (Self::Http(a), Self::Http(b)) => {
                a.iter().len() == b.iter().len()
                    && a.iter().zip(b.iter()).all(|(a, b)| a.hostname == b.hostname && a.target.is_same(&b.target))
            }
            (Self::Tls(a), Self::Tls(b)) => {
                let same = |a: &TlsHost, b: &TlsHost| a.hostname == b.hostname && a.mode.is_same(&b.mode) && a.target.is_same(&b.target);
                a.iter().len() == b.iter().len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b))
            }
            _ => false,
        }
    }
}

/// Where a listener leads. `R`: a router; `S`: what names a service port.
#[derive(Clone, Debug)]
pub enum Target<R = Arc<RouterBinding>, S = ServiceIndex> {
    /// To the pool of a service port.
    Service(ServiceSide<S>),
    /// To a router, which says where to.
    Router(R),
    /// Nowhere: requests are answered 404, TCP connections reset, and datagrams dropped.
    Nothing,
}

impl Target {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(a), Self::Service(b)) => a == b,
            (Self::Router(a), Self::Router(b)) => Arc::ptr_eq(a, b),
            (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }
}

/// A service port as seen from inside or outside, which may have different pools (`internalTrafficPolicy`, `externalTrafficPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSide<S = ServiceIndex> {
    /// The service port.
    pub service: S,
    /// Which of its pools is used.
    pub side: Side,
}

/// Where traffic comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From inside: to a ClusterIP, or by a route.
    Internal,
    /// From outside: to a node port, an external or a load balancer address.
    External,
}

/// A generation of a balancer on trial.
#[derive(Clone)]
pub struct BalancerTrial {
    /// The generation on trial.
    pub generation: Arc<dyn BalancerGeneration>,
    /// How it is tried, and what comes of it.
    pub trial: Arc<Trial>,
}

/// A service port: one port of one Service.
#[derive(Clone)]
pub struct ServicePort {
    /// The namespace, name and port.
    pub id: ServiceRef,
    /// The name of the port, empty if it has none.
    pub port_name: String,
    /// The IP family of the endpoints: a dual-stack Service has a service port for each. None: they are of any family that discovery finds.
    pub family: Option<IpFamily>,
    /// What is spoken over it.
    pub protocol: AppProtocol,
    /// The pool for traffic from inside.
    pub internal: Arc<Pool>,
    /// The pool for traffic from outside. It is the same one where the policies agree.
    pub external: Arc<Pool>,
    /// Whether traffic from outside goes to endpoints of this node only (`externalTrafficPolicy: Local`).
    pub local: bool,
    /// The live balancer generation, then the previous good one; then a native random choice serves.
    pub balancers: Vec<Arc<dyn BalancerGeneration>>,
    /// The balancer's configuration, JSON.
    pub balancer_config: Arc<str>,
    /// Whether an exchange fails when the balancer does (`failurePolicy: Fail`), in the place of the native choice.
    pub fail_closed: bool,
    /// The name under which its pools' state outlives the gateway, if its balancer's `Plugin` object asks for that.
    pub kept_as: Option<Arc<str>>,
    /// A generation on trial beside the live one.
    pub trial: Option<BalancerTrial>,
    /// What a pick is hashed by; none: it is not hashed.
    pub hash: Option<HashKey>,
    /// The table of `sessionAffinity: ClientIP`.
    pub affinity: Option<Arc<Affinity>>,
    /// What the policies say.
    pub settings: Arc<BackendSettings>,
    /// The policy's rate limits, kept over snapshots.
    pub limiter: Option<Arc<Limiter>>,
    /// Whether the endpoints speak TLS.
    pub tls: EndpointTls,
    /// The counters, kept over snapshots.
    pub stats: Arc<ServiceStats>,
}

impl ServicePort {
    /// A service port with one pool for all traffic, for plain HTTP, without a balancer, and without a policy.
    pub fn of(id: ServiceRef, pool: Arc<Pool>) -> Self {
        Self {
            id,
            port_name: String::new(),
            family: None,
            protocol: AppProtocol::Http,
            internal: pool.clone(),
            external: pool,
            local: false,
            balancers: Vec::new(),
            balancer_config: "{}".into(),
            fail_closed: false,
            kept_as: None,
            trial: None,
            hash: None,
            affinity: None,
            settings: Arc::default(),
            limiter: None,
            tls: EndpointTls::Off,
            stats: Arc::default(),
        }
    }

    /// The pool for traffic from `side`.
    pub fn pool(&self, side: Side) -> &Arc<Pool> {
        match side {
            Side::Internal => &self.internal,
            Side::External => &self.external,
        }
    }

    /// Whether another one is made of the same parts, so that either may stand for both.
    pub fn is_same(&self, other: &Self) -> bool {
        let trial = |a: &BalancerTrial, b: &BalancerTrial| Arc::ptr_eq(&a.generation, &b.generation) && Arc::ptr_eq(&a.trial, &b.trial);
        self.id == other.id
            && self.port_name == other.port_name
            && self.family == other.family
            && self.protocol == other.protocol
            && Arc::ptr_eq(&self.internal, &other.internal)
            && Arc::ptr_eq(&self.external, &other.external)
            && self.local == other.local
            && self.balancers.len() == other.balancers.len()
            && self.balancers.iter().zip(&other.balancers).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.balancer_config == other.balancer_config
            && self.fail_closed == other.fail_closed
            && self.kept_as == other.kept_as
            && match (&self.trial, &other.trial) {
                (Some(a), Some(b)) => trial(a, b),
                (None, None) => true,
                _ => false,
            }
            && self.hash == other.hash
            && same(self.affinity.as_ref(), other.affinity.as_ref())
            && (Arc::ptr_eq(&self.settings, &other.settings) || self.settings == other.settings)
            && same(self.limiter.as_ref(), other.limiter.as_ref())
            && self.tls.is_same(&other.tls)
            && Arc::ptr_eq(&self.stats, &other.stats)
    }
}

/// Whether endpoints speak TLS. `R`: the rules that they are met by.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum EndpointTls<R = Arc<UpstreamTls>> {
    /// They speak plain text.
    #[default]
    Off,
    /// They speak TLS, by these rules.
    On(R),
    /// They speak TLS (`appProtocol: https`), and nobody says how to verify them. If clients speak TLS with the endpoints themselves, the bytes are
    /// forwarded; nothing else is.
    Untold,
    /// They speak TLS, and the rules are broken: nothing is forwarded, and certainly not plain text.
    Broken,
}

impl EndpointTls {
    /// A number for connections that may be used for one another; 0: plain text.
    pub fn id(&self) -> u64 {
        if let Self::On(tls) = self { tls.id } else { 0 }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::On(a), Self::On(b)) => Arc::ptr_eq(a, b),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
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
    /// HTTP/2 with prior knowledge, balanced per request.
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
    /// The value of a header field.
    Header(http::HeaderName),
    /// The value of a cookie.
    Cookie {
        /// The cookie's name.
        name: String,
        /// What follows the value, where the gateway sets the cookie; none: it does not set it.
        given: Option<String>,
    },
    /// The path without its query.
    Path,
}

impl HashKey {
    /// The hash that a balancer is given for a request, by [`hash_bytes`]; none if the request has no such field or cookie.
    pub fn of<'h>(&self, headers: impl FnOnce() -> &'h http::HeaderMap, path: &str, client: IpAddr) -> Option<u64> {
        match self {
            Self::SourceIp => Some(hash_ip(client)),
            Self::Path => Some(hash_bytes(path.as_bytes())),
            Self::Header(name) => headers().get(name).map(|v| hash_bytes(v.as_bytes())),
            Self::Cookie { name, .. } => cookie(headers(), name).map(|v| hash_bytes(v.as_bytes())),
        }
    }

    /// Whether header fields are looked at.
    pub fn reads_fields(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Cookie { .. })
    }
}

impl HashKey {
    /// For a request without the cookie, where the gateway sets it: the hash of a `value`, and the header field that brings it to the client.
    pub fn give(&self, value: impl FnOnce() -> u128, over_tls: bool) -> Option<(u64, http::HeaderValue)> {
        let Self::Cookie { name, given: Some(attributes) } = self else { return None };
        let value = format!("{:032x}", value());
        let secure = if over_tls { "; Secure" } else { "" };
        let field = http::HeaderValue::try_from(format!("{name}={value}{attributes}{secure}")).ok()?;
        Some((hash_bytes(value.as_bytes()), field))
    }
}
