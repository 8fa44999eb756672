//! The objects compiled and joined: services, listeners, routers, plugins, with every fault found. Pure and deterministic.
//!
//! Here is what comes of it; [`planner`] makes it of [parts](compile::Part), one an object, and makes anew the parts that a change reaches.

mod addresses;
mod allocations;
mod backends;
mod compile;
mod effect;
mod forwarding;
mod gateways;
mod health;
mod http2;
mod limits;
mod namespaces;
mod planner;
mod policies;
mod protocol;
mod references;
mod refusal;
mod routes;
mod services;
mod settings;
mod tls;
mod tls_policies;
mod traffic;
mod x_policies;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::fault::{Fault, Place};
use sluicegate_model::plugin::{Limits, PluginKind};
use sluicegate_model::pool::{Distribution, Here, TrafficPolicy};
use sluicegate_model::rollout::Rollout;
use sluicegate_model::route::{ListenerInfo, PortProtocol, ServiceRef};
use sluicegate_model::settings::{BackendSettings, ClientSettings, Rate, RuleTraffic};
use sluicegate_model::snapshot::{
    AppProtocol, At, EndpointTls, Front, HashKey, HealthCheck, Listener, Target, TlsHost, TlsMode, VirtualHost,
};
use sluicegate_model::sorted::Sorted;
use sluicegate_model::tls::{Certificate, ServerSettings, UpstreamSettings};

use crate::family::ServiceFamilies;
use crate::manifest::Origin;
use crate::object::ours::FailurePolicy;
use crate::object::{Object, ObjectKey};

pub use crate::objects::{GROUP, ParentRef};
pub use addresses::{Conflict, Listens, Order};
pub use allocations::Allocations;
pub use gateways::{
    AskedAddresses, Attachment, CONTROLLER, GatewayAddress, GatewayListener, PlannedClass, PlannedGateway, PlannedListenerSet, is_own,
};
pub use planner::{Delta, Planned, Planner, compile};
pub use policies::{PlannedPolicy, PolicyTarget};
pub use protocol::ListenerProtocol;
pub use refusal::{Reason, Refusal, Verdict};
pub use routes::{PlannedRoute, RouteKind};
pub use services::has_foreign_class;
pub use tls_policies::{PlannedTlsPolicy, TlsTarget};
pub use traffic::{RuleBalancer, Traffic};

/// What the plan depends on besides the objects.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Local addresses node ports are served on; empty: all, of both IP families.
    pub node_addresses: Vec<IpAddr>,
    /// By which addresses clients reach this machine: they are shown where a Gateway listens on all, unless there are `node_addresses`.
    pub own_addresses: Vec<IpAddr>,
    /// The unspecified addresses, `0.0.0.0` and `::`, of the IP families that this machine has; empty: both.
    pub wildcards: Vec<IpAddr>,
    /// This node.
    pub here: Here,
    /// Whether endpoints that the objects themselves name may have loopback addresses.
    pub loopback_endpoints: LoopbackEndpoints,
}

impl Settings {
    /// Where all local addresses are listened on: with one socket for each IP family, as what leads where may differ between them.
    pub(crate) fn everywhere(&self) -> &[IpAddr] {
        const BOTH: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        if self.wildcards.is_empty() { BOTH } else { &self.wildcards }
    }
}

/// Whether endpoints may have loopback addresses: whoever says so sends outside clients to what listens for this host alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopbackEndpoints {
    /// Endpoints may have loopback addresses.
    Allowed,
    /// Endpoints with loopback addresses are refused.
    #[default]
    Refused,
}

/// The result.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All Services, and all Backends, each as a Service that only routes lead to. By namespace and name.
    pub services: BTreeMap<(String, String), Arc<PlannedService>>,
    /// In the order of those who listen. No two have the same protocol and address.
    pub listeners: BTreeMap<Order, Arc<PlannedListener>>,
    /// The routers of the listeners.
    pub routers: Vec<Arc<PlannedRouter>>,
    /// The GatewayClasses that are this gateway's.
    pub classes: Vec<Arc<PlannedClass>>,
    /// The Gateways of this gateway's classes.
    pub gateways: Vec<Arc<PlannedGateway>>,
    /// The ListenerSets of these.
    pub listener_sets: Vec<Arc<PlannedListenerSet>>,
    /// All routes, by kind, namespace and name.
    pub routes: Vec<Arc<PlannedRoute>>,
    /// All BackendTLSPolicies, by namespace and name.
    pub tls_policies: Vec<Arc<PlannedTlsPolicy>>,
    /// All BackendTrafficPolicies, ClientTrafficPolicies and XBackendTrafficPolicies, by their kinds.
    pub policies: BTreeMap<String, Sorted<PlannedPolicy>>,
    /// All Backends, which are among the Services as well.
    pub backends: Vec<Arc<PlannedService>>,
    /// Listeners of Gateways and ListenerSets that cannot be told apart from others.
    pub conflicts: Vec<Conflict>,
    /// Where load balancers in front ask whether this node has endpoints.
    pub health_checks: Vec<Arc<PlannedHealthCheck>>,
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
    /// Its type, `Headless` for headless ones, `Backend` for Backends.
    pub type_: String,
    /// Whether traffic to it is forwarded.
    pub proxied: bool,
    /// Whether routes may lead to it, as to those that are forwarded and to headless ones.
    pub routable: bool,
    /// Its IP families.
    pub families: ServiceFamilies,
    /// Its ClusterIPs.
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs` and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<PlannedPort>,
    /// The Service, or the Backend.
    pub object: Arc<Object>,
}

/// Where a load balancer in front asks whether this node has endpoints of a Service: its `healthCheckNodePort`. Endpoints are counted when it is served.
pub type PlannedHealthCheck = HealthCheck<()>;

/// A service port.
#[derive(Clone, Debug)]
pub struct PlannedPort {
    /// What names it.
    pub service: ServiceRef,
    /// The port's name, or empty.
    pub name: String,
    /// What it carries.
    pub protocol: PortProtocol,
    /// Its node port.
    pub node_port: Option<u16>,
    /// What it speaks.
    pub app_protocol: AppProtocol,
    /// Its balancer.
    pub balancer: PluginUse,
    /// Its discovery plugin.
    pub discovery: PluginUse,
    /// What a pick is hashed by.
    pub hash: Option<HashKey>,
    /// Which endpoints get traffic from inside.
    pub internal: TrafficPolicy,
    /// Which endpoints get traffic from outside.
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

/// Whether endpoints speak TLS, with the settings of those that do. What is broken is among the faults.
pub type PlannedEndpointTls = EndpointTls<Arc<UpstreamSettings>>;

/// A plugin and its configuration, JSON.
#[derive(Clone, Debug)]
pub struct PluginUse {
    /// Its name.
    pub plugin: String,
    /// JSON.
    pub config: ConfigText,
    /// Where it is configured: the object, and the path of the field that holds `plugin` and `config`; none for a default.
    pub at: Option<(Arc<Origin>, String)>,
}

/// The same use at the same place.
impl PartialEq for PluginUse {
    fn eq(&self, other: &Self) -> bool {
        let at = |of: &Self| of.at.as_ref().map(|(origin, path)| (Arc::as_ptr(origin), path.clone()));
        self.plugin == other.plugin && self.config == other.config && at(self) == at(other)
    }
}

impl PluginUse {
    /// Where a field of the configuration stands; of the use itself if the field is empty.
    pub fn place(&self, field: &str) -> Option<Place> {
        let (origin, path) = self.at.as_ref()?;
        let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        Some(if field.is_empty() { origin.place(path) } else { origin.place(&format!("{path}.config{dot}{field}")) })
    }
}

/// An address to listen on. Rate limits are made when it is served.
pub type PlannedListener = Listener<PlannedFront, ()>;

/// What to do with what arrives, with lists of hosts.
pub type PlannedFront = Front<PlannedTarget, Vec<VirtualHost<PlannedTarget>>, Vec<PlannedTlsHost>>;

/// What serves one server name, with the settings of TLS.
pub type PlannedTlsHost = TlsHost<PlannedTarget, Arc<ServerSettings>>;

/// What becomes of a TLS connection, with the settings of one that is ended.
pub type PlannedTlsMode = TlsMode<Arc<ServerSettings>>;

/// Where a listener leads. A service port is of the listener's protocol.
pub type PlannedTarget = Target<Arc<PlannedRouter>, ServiceRef>;

/// A router of a listener.
#[derive(Clone, Debug)]
pub struct PlannedRouter {
    /// The router.
    pub plugin: PluginUse,
    /// The listener.
    pub listener: ListenerInfo,
    /// What the endpoints that it leads to are shown.
    pub identity: PlannedIdentity,
    /// What counts for its rules besides what the plugin is told, by their names;
    pub rules: BTreeMap<String, PlannedRule>,
    /// and for those that are not among them.
    pub other_rules: PlannedRule,
    /// Where it may send requests, if it is the router of a rule, whose limits are then those of all its rules together; none: anywhere.
    pub within: Option<BTreeSet<ServiceRef>>,
}

/// What counts for a rule of a router besides what the plugin is told.
#[derive(Clone, Debug, Default)]
pub struct PlannedRule {
    /// Its rate limits.
    pub rates: Vec<Rate>,
    /// What policies say of its traffic, but for those of the Services that it leads to.
    pub traffic: Option<Arc<RuleTraffic>>,
    /// The balancer that decides in the place of those of the Services that it leads to.
    pub balancer: Option<RuleBalancer>,
    /// The router that decides what it takes. It stands before this one among the plan's routers.
    pub router: Option<Arc<PlannedRouter>>,
}

/// Whether a Gateway has a certificate that is shown to endpoints which speak TLS: its `spec.tls.backend.clientCertificateRef`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PlannedIdentity {
    /// The Gateway has no such certificate.
    #[default]
    Unset,
    /// This one. The certificate of a Service's own policy counts before it.
    Certificate(Arc<Certificate>),
    /// Its reference cannot be used, which is among the faults: such endpoints get nothing.
    Broken,
}

/// Where a plugin's code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// A built-in plugin of this name.
    Builtin(String),
    /// A file.
    File {
        /// The file.
        path: PathBuf,
        /// Hex SHA-256 it must have.
        sha256: Option<String>,
    },
}

/// A plugin to load.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedPlugin {
    /// Its name.
    pub name: String,
    /// The kind that the plugin must be of.
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
    /// Whether it may publish loopback addresses.
    pub loopback_endpoints: LoopbackEndpoints,
    /// Where it is configured.
    pub place: Option<Place>,
}

impl PlannedPlugin {
    /// Its file, if it is not built in.
    pub fn file(&self) -> Option<&Path> {
        match &self.source {
            PluginSource::File { path, .. } => Some(path),
            PluginSource::Builtin(_) => None,
        }
    }
}
