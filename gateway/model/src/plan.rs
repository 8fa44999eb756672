//! The objects compiled and joined: services, listeners, routers, plugins, with every fault found. Pure and deterministic.
//!
//! Here is what comes of it; [`compile()`] makes it, of [`services`], [`gateways`] and the [`policies`] that attach to both.

mod compile;
mod forwarding;
mod gateways;
mod health;
mod limits;
mod policies;
mod references;
mod services;
mod settings;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::{Fault, Place};
use crate::manifest::Origin;
use crate::object::Object;
use crate::object::ours::FailurePolicy;
use crate::plugin::{Limits, PluginKind};
use crate::pool::{Distribution, Here, TrafficPolicy};
use crate::rollout::Rollout;
use crate::route::{ListenerInfo, Protocol, ServiceRef};
use crate::settings::{BackendSettings, ClientSettings};
use crate::snapshot::{AppProtocol, HashKey, Side};
use crate::tls::{ServerSettings, UpstreamSettings};

pub use compile::compile;

/// Built-in plugins, usable by their name without a `Plugin` object.
pub const BUILTINS: &[(&str, PluginKind)] = &[
    ("bounded-load", PluginKind::Balancer),
    ("http", PluginKind::Discovery),
    ("file", PluginKind::Discovery),
    ("dns", PluginKind::Discovery),
    ("consul", PluginKind::Discovery),
    ("kubernetes", PluginKind::Discovery),
    ("least-request", PluginKind::Balancer),
    ("maglev", PluginKind::Balancer),
    ("peak-ewma", PluginKind::Balancer),
    ("priority", PluginKind::Balancer),
    ("random", PluginKind::Balancer),
    ("rendezvous", PluginKind::Balancer),
    ("ring-hash", PluginKind::Balancer),
    ("round-robin", PluginKind::Balancer),
    ("rules", PluginKind::Router),
    ("slow-start", PluginKind::Balancer),
    ("static", PluginKind::Discovery),
    ("sticky", PluginKind::Balancer),
    ("zone-aware", PluginKind::Balancer),
];

/// What was allocated for Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// By namespace, name, port, protocol.
    pub node_ports: BTreeMap<(String, String, u16, String), u16>,
    /// By namespace, name.
    pub cluster_ips: BTreeMap<(String, String), IpAddr>,
    /// By namespace, name.
    pub load_balancer: BTreeMap<(String, String), IpAddr>,
    /// By namespace, name.
    pub health_check_node_ports: BTreeMap<(String, String), u16>,
}

/// What the plan depends on besides the objects.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Local addresses node ports are served on; empty: all.
    pub node_addresses: Vec<IpAddr>,
    /// This node.
    pub here: Here,
}

/// The result.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All Services.
    pub services: Vec<PlannedService>,
    /// No two have the same protocol and address.
    pub listeners: Vec<PlannedListener>,
    /// Routers; listeners hold indices.
    pub routers: Vec<PlannedRouter>,
    /// For load balancers in front.
    pub health_checks: Vec<PlannedHealthCheck>,
    /// Every plugin named by an object or used.
    pub plugins: Vec<PlannedPlugin>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// A Service.
#[derive(Clone, Debug)]
pub struct PlannedService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its type, `Headless` for headless ones.
    pub type_: String,
    /// Whether traffic to it is forwarded.
    pub proxied: bool,
    /// Its ClusterIP.
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs` and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<PlannedPort>,
    /// The Service.
    pub object: Arc<Object>,
}

/// Where a load balancer in front asks whether this node has endpoints of a Service: its `healthCheckNodePort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHealthCheck {
    /// Of the Service.
    pub namespace: String,
    /// Of the Service.
    pub name: String,
    /// Where it is answered.
    pub addresses: Vec<SocketAddr>,
}

/// A service port.
#[derive(Clone, Debug)]
pub struct PlannedPort {
    /// What names it.
    pub service: ServiceRef,
    /// The port's name, or empty.
    pub name: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Its node port.
    pub node_port: Option<u16>,
    /// What it speaks.
    pub app_protocol: AppProtocol,
    /// Its balancer.
    pub balancer: PluginUse,
    /// Its discovery plugin.
    pub discovery: PluginUse,
    /// What is hashed.
    pub hash: Option<HashKey>,
    /// For traffic from inside.
    pub internal: TrafficPolicy,
    /// For traffic from outside.
    pub external: TrafficPolicy,
    /// `trafficDistribution`.
    pub distribution: Distribution,
    /// `sessionAffinity: ClientIP`.
    pub affinity: Option<Duration>,
    /// What its policy says.
    pub settings: Arc<BackendSettings>,
    /// Whether its endpoints speak TLS.
    pub tls: PlannedEndpointTls,
}

/// See [`crate::snapshot::EndpointTls`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PlannedEndpointTls {
    /// They speak plain text.
    #[default]
    Off,
    /// They speak TLS.
    On(Arc<UpstreamSettings>),
    /// They do, and nobody says how to verify them.
    Untold,
    /// They do, and what is said of it is broken, which is among the faults.
    Broken,
}

/// A plugin and its configuration, JSON.
#[derive(Clone, Debug)]
pub struct PluginUse {
    /// Its name.
    pub plugin: String,
    /// JSON.
    pub config: String,
    /// Where it is configured: the object, and the path of the field that holds `plugin` and `config`; none for a default.
    pub at: Option<(Arc<Origin>, String)>,
}

impl PluginUse {
    /// Where a field of the configuration stands; of the use itself if the field is empty.
    pub fn place(&self, field: &str) -> Option<Place> {
        let (origin, path) = self.at.as_ref()?;
        let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        Some(if field.is_empty() { origin.place(path) } else { origin.place(&format!("{path}.config{dot}{field}")) })
    }
}

/// An address to listen on.
#[derive(Clone, Debug)]
pub struct PlannedListener {
    /// Where.
    pub address: SocketAddr,
    /// For people.
    pub name: String,
    /// What to do.
    pub front: PlannedFront,
    /// What its policy says.
    pub settings: Arc<ClientSettings>,
}

/// See [`crate::snapshot::Front`].
#[derive(Clone, Debug)]
pub enum PlannedFront {
    /// Forward connections.
    Tcp(PlannedTarget),
    /// Forward datagrams.
    Udp(PlannedTarget),
    /// Forward requests, by host name.
    Http(Vec<(Option<String>, PlannedTarget)>),
    /// TLS, by server name.
    Tls(Vec<PlannedTlsHost>),
}

/// See [`crate::snapshot::TlsHost`].
#[derive(Clone, Debug)]
pub struct PlannedTlsHost {
    /// The server name.
    pub hostname: Option<String>,
    /// What becomes of the TLS.
    pub mode: PlannedTlsMode,
    /// Where it leads.
    pub target: PlannedTarget,
}

/// See [`crate::snapshot::TlsMode`].
#[derive(Clone, Debug)]
pub enum PlannedTlsMode {
    /// Left as it is.
    Passthrough,
    /// Ended, and its bytes forwarded.
    Tcp(Arc<ServerSettings>),
    /// Ended, and requests taken from it.
    Http(Arc<ServerSettings>),
}

impl PlannedFront {
    /// What carries it.
    pub fn protocol(&self) -> Protocol {
        if matches!(self, Self::Udp(_)) { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// See [`crate::snapshot::Target`].
#[derive(Clone, Debug)]
pub enum PlannedTarget {
    /// A service port, of the listener's protocol.
    Service {
        /// Which.
        service: ServiceRef,
        /// Which of its pools.
        side: Side,
    },
    /// An index in [`Plan::routers`].
    Router(usize),
    /// 404, a reset or a drop.
    Nothing,
}

/// A router of a listener.
#[derive(Clone, Debug)]
pub struct PlannedRouter {
    /// The router.
    pub plugin: PluginUse,
    /// The listener.
    pub listener: ListenerInfo,
}

/// Where a plugin's code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// In the binary.
    Builtin(String),
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Hex SHA-256 it must have.
        sha256: Option<String>,
    },
}

/// A plugin to load.
#[derive(Clone, Debug)]
pub struct PlannedPlugin {
    /// Its name.
    pub name: String,
    /// What it must be.
    pub kind: PluginKind,
    /// Its code.
    pub source: PluginSource,
    /// Its instances' limits.
    pub limits: Limits,
    /// What happens to traffic when it fails.
    pub failure_policy: FailurePolicy,
    /// Whether what its pools know outlives the gateway.
    pub persists: bool,
    /// How a new version takes over; none: at once.
    pub rollout: Rollout,
    /// Where it is configured.
    pub place: Option<Place>,
}
