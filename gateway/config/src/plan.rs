//! The objects compiled and joined: services, listeners, routers, plugins, with every fault found. Pure and deterministic.
//!
//! This file has the types of the plan. [`planner`] makes it from [parts](compile::Part), one for each object, and makes those parts again that a change
//! reaches.

mod acme;
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
pub use acme::{AcmeIssuers, OPTION as ACME_OPTION};
pub use addresses::{Conflict, Listens, Order, Shadow};
pub use allocations::Allocations;
pub use gateways::{
    AskedAddresses, Attachment, CONTROLLER, GatewayAddress, GatewayListener, PlannedClass, PlannedGateway, PlannedListenerSet,
    default_addresses, is_own,
};
pub use planner::{Delta, Planned, Planner, compile};
pub(crate) use policies::created;
pub use policies::{PlannedPolicy, PolicyTarget};
pub use protocol::ListenerProtocol;
pub use refusal::{Reason, Refusal, Verdict};
pub use routes::{PlannedRoute, RouteKind, RuleRouter, RuleSettings};
pub use services::{LOAD_BALANCER_CLASS, has_foreign_class};
pub use tls_policies::{PlannedTlsPolicy, TlsTarget};
pub use traffic::{RuleBalancer, Traffic};

/// What the plan depends on besides the objects.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Local addresses on which node ports are served; empty: all addresses, of both IP families.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses by which clients reach this machine. A Gateway that listens on all addresses shows them, unless there are `node_addresses`.
    pub own_addresses: Vec<IpAddr>,
    /// The unspecified addresses, `0.0.0.0` and `::`, of the IP families that this machine has; empty: both.
    pub wildcards: Vec<IpAddr>,
    /// This node: its name and its zone.
    pub here: Here,
    /// Whether endpoints that the objects themselves name may have loopback addresses.
    pub loopback_endpoints: LoopbackEndpoints,
    /// Whose the node ports and cluster IPs of Services are.
    pub services: ServiceAddresses,
    /// The ACME issuers that listeners may name.
    pub acme: AcmeIssuers,
}

/// Who allocates the node ports and cluster IPs of Services, and serves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceAddresses {
    /// This gateway does, unless a label leaves the Service to another proxy.
    #[default]
    Ours,
    /// An API server allocates them, and another proxy serves them, unless a label leaves the Service to this gateway. All Services are targets of routes.
    Cluster,
}

impl Settings {
    /// The addresses that stand for all local ones: one for each IP family, as the two may lead to different places.
    pub(crate) fn everywhere(&self) -> &[IpAddr] {
        const BOTH: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        if self.wildcards.is_empty() { BOTH } else { &self.wildcards }
    }
}

/// Whether endpoints may have loopback addresses. Such an endpoint gives outside clients access to what listens for this host alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopbackEndpoints {
    /// Endpoints may have loopback addresses.
    Allowed,
    /// Endpoints with loopback addresses are refused.
    #[default]
    Refused,
}

/// The plan: all objects, compiled and joined.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All Services, and all Backends, each as a Service to which only routes lead; by namespace and name.
    pub services: BTreeMap<(String, String), Arc<PlannedService>>,
    /// The listeners, in the order of the objects that ask for them. No two have the same protocol and address.
    pub listeners: BTreeMap<Order, Arc<PlannedListener>>,
    /// The routers of the listeners.
    pub routers: Vec<Arc<PlannedRouter>>,
    /// The GatewayClasses that this gateway implements.
    pub classes: Vec<Arc<PlannedClass>>,
    /// The Gateways of classes that this gateway implements.
    pub gateways: Vec<Arc<PlannedGateway>>,
    /// The ListenerSets of these Gateways.
    pub listener_sets: Vec<Arc<PlannedListenerSet>>,
    /// All routes, by kind, namespace and name.
    pub routes: Vec<Arc<PlannedRoute>>,
    /// All BackendTLSPolicies, by namespace and name.
    pub tls_policies: Vec<Arc<PlannedTlsPolicy>>,
    /// All BackendTrafficPolicies, ClientTrafficPolicies and XBackendTrafficPolicies, by their kinds.
    pub policies: BTreeMap<String, Sorted<PlannedPolicy>>,
    /// All Backends. They are among `services`, too.
    pub backends: Vec<Arc<PlannedService>>,
    /// The Services of which this gateway is the load balancer, by their class, each with those of its listeners at the load balancer's addresses that another
    /// object has.
    pub balanced: Vec<(Arc<PlannedService>, BTreeSet<At>)>,
    /// Listeners of Gateways and ListenerSets that cannot be told apart from others.
    pub conflicts: Vec<Conflict>,
    /// ClientTrafficPolicies of listeners that share an address with others and have the settings of another policy.
    pub shadows: Vec<Shadow>,
    /// The health check node ports, where load balancers in front ask whether this node has endpoints.
    pub health_checks: Vec<Arc<PlannedHealthCheck>>,
    /// Every plugin that an object defines or names.
    pub plugins: Vec<PlannedPlugin>,
    /// What is wrong with the objects.
    pub faults: Vec<Fault>,
}

/// A Service.
#[derive(Clone, Debug)]
pub struct PlannedService {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The Service's type; `Headless` for headless ones, `Backend` for Backends.
    pub type_: String,
    /// Whether traffic to the Service is forwarded.
    pub proxied: bool,
    /// Whether routes may lead to the Service: to those that are forwarded, and to headless ones.
    pub routable: bool,
    /// The Service's IP families.
    pub families: ServiceFamilies,
    /// The Service's ClusterIPs.
    pub cluster_ips: Vec<IpAddr>,
    /// The Service's `externalIPs` and the addresses of its load balancer.
    pub external_ips: Vec<IpAddr>,
    /// Those of `external_ips` that are the load balancer's.
    pub balanced: Vec<IpAddr>,
    /// The local addresses on which those are served: they themselves, or those of the node.
    pub listened: Vec<IpAddr>,
    /// The Service's ports.
    pub ports: Vec<PlannedPort>,
    /// The object: a Service, or a Backend.
    pub object: Arc<Object>,
}

/// Where a load balancer in front asks whether this node has endpoints of a Service: its `healthCheckNodePort`. Endpoints are counted when it is served.
pub type PlannedHealthCheck = HealthCheck<()>;

/// A service port.
#[derive(Clone, Debug)]
pub struct PlannedPort {
    /// The Service, and the number of the port.
    pub service: ServiceRef,
    /// The port's name; empty if it has none.
    pub name: String,
    /// The port's transport protocol.
    pub protocol: PortProtocol,
    /// The port's node port.
    pub node_port: Option<u16>,
    /// What the endpoints speak.
    pub app_protocol: AppProtocol,
    /// The balancer, with its configuration.
    pub balancer: PluginUse,
    /// Whether a policy of the Service names the balancer. Then it counts before the balancer that a Gateway's policy names.
    pub own_balancer: bool,
    /// The discovery plugin, with its configuration.
    pub discovery: PluginUse,
    /// What picks are hashed by. `None`: they are not hashed.
    pub hash: Option<HashKey>,
    /// Which endpoints get traffic from inside (`internalTrafficPolicy`).
    pub internal: TrafficPolicy,
    /// Which endpoints get traffic from outside (`externalTrafficPolicy`).
    pub external: TrafficPolicy,
    /// Which endpoints are preferred (`trafficDistribution`).
    pub distribution: Distribution,
    /// How long a client stays with its endpoint (`sessionAffinity: ClientIP`). `None`: it need not stay.
    pub affinity: Option<Duration>,
    /// The settings that the Service's BackendTrafficPolicy makes.
    pub settings: Arc<BackendSettings>,
    /// Whether the endpoints speak TLS.
    pub tls: PlannedEndpointTls,
}

/// Whether endpoints speak TLS, and the settings for those that do. If the settings are broken, a fault says why.
pub type PlannedEndpointTls = EndpointTls<Arc<UpstreamSettings>>;

/// A plugin where it is used, and its configuration.
#[derive(Clone, Debug)]
pub struct PluginUse {
    /// The plugin's name.
    pub plugin: String,
    /// The configuration, which is JSON.
    pub config: ConfigText,
    /// Where it is configured; none for a default.
    pub at: Option<ConfiguredAt>,
}

/// Where the use of a plugin is configured.
#[derive(Clone, Debug)]
pub struct ConfiguredAt {
    /// The object.
    pub object: ObjectKey,
    /// Where its fields stand.
    pub origin: Arc<Origin>,
    /// The path of the field that holds `plugin` and `config`.
    pub path: String,
}

/// Two uses are equal if they are of the same plugin, configured in the same way at the same place.
impl PartialEq for PluginUse {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.at, &other.at) {
            (Some(own), Some(other)) => Arc::ptr_eq(&own.origin, &other.origin) && own.path == other.path,
            (own, other) => own.is_none() && other.is_none(),
        };
        self.plugin == other.plugin && self.config == other.config && same
    }
}

impl PluginUse {
    /// Where a field of the configuration stands. An empty field is the use itself.
    pub fn place(&self, field: &str) -> Option<Place> {
        let ConfiguredAt { origin, path, .. } = self.at.as_ref()?;
        let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        Some(if field.is_empty() { origin.place(path) } else { origin.place(&format!("{path}.config{dot}{field}")) })
    }
}

/// An address to listen on. Rate limits are made when it is served.
pub type PlannedListener = Listener<PlannedFront, ()>;

/// What a listener does with its traffic, with its hosts as lists.
pub type PlannedFront = Front<PlannedTarget, Vec<VirtualHost<PlannedTarget>>, Vec<PlannedTlsHost>>;

/// A server name, with what serves it and its TLS settings.
pub type PlannedTlsHost = TlsHost<PlannedTarget, Arc<ServerSettings>>;

/// What is done with a TLS connection, with the settings by which TLS is ended.
pub type PlannedTlsMode = TlsMode<Arc<ServerSettings>>;

/// Where a listener leads. A service port is of the listener's protocol.
pub type PlannedTarget = Target<Arc<PlannedRouter>, ServiceRef>;

/// A router, at a listener.
#[derive(Clone, Debug)]
pub struct PlannedRouter {
    /// The router, with its configuration.
    pub plugin: PluginUse,
    /// The listener that leads to the router.
    pub listener: ListenerInfo,
    /// The certificate that is shown to the endpoints that the router leads to.
    pub identity: PlannedIdentity,
    /// Settings of the router's rules that the plugin is not given, by the rules' names.
    pub rules: BTreeMap<String, PlannedRule>,
    /// Settings of the rules that are not among `rules`.
    pub other_rules: PlannedRule,
    /// The service ports that the router of a rule may choose. `None`: it may choose any. The limits of such a router count for all its rules together.
    pub within: Option<BTreeSet<ServiceRef>>,
}

/// Settings of a router's rule that the plugin is not given.
#[derive(Clone, Debug, Default)]
pub struct PlannedRule {
    /// The rule's rate limits.
    pub rates: Vec<Rate>,
    /// The settings that policies make for the rule's traffic. The policies of Services that it leads to are not among them.
    pub traffic: Option<Arc<RuleTraffic>>,
    /// The balancer that decides instead of those of the Services that the rule leads to.
    pub balancer: Option<RuleBalancer>,
    /// The router that decides about the requests that the rule takes. It stands before this one among the plan's routers.
    pub router: Option<Arc<PlannedRouter>>,
}

/// Whether a Gateway has a certificate that is shown to endpoints which speak TLS: its `spec.tls.backend.clientCertificateRef`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PlannedIdentity {
    /// The Gateway has no such certificate.
    #[default]
    Unset,
    /// The Gateway's certificate. That of a Service's own policy counts before it.
    Certificate(Arc<Certificate>),
    /// The reference to the certificate cannot be used, and a fault says why: endpoints that speak TLS get nothing.
    Broken,
}

/// Where a plugin's code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// The code is that of the built-in plugin of this name.
    Builtin(String),
    /// The code is in a file.
    File {
        /// The file.
        path: PathBuf,
        /// The SHA-256 that the file must have, in hexadecimal.
        sha256: Option<String>,
    },
    /// The code is in an object, a ConfigMap, or cannot be anywhere.
    Object {
        /// Which one, and where in it, for people.
        name: String,
        /// The code, or why it is not there.
        code: Result<PluginCode, String>,
        /// The SHA-256 that the code must have, in hexadecimal.
        sha256: Option<String>,
    },
}

/// The code of a plugin that an object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginCode {
    /// WebAssembly.
    pub wasm: Arc<[u8]>,
    /// Its signature in minisign's format, if there is one.
    pub signature: Option<Arc<[u8]>>,
}

/// A plugin to load.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedPlugin {
    /// The plugin's name.
    pub name: String,
    /// The kind that the plugin must be of.
    pub kind: PluginKind,
    /// The plugin's code.
    pub source: PluginSource,
    /// The limits of the plugin's instances.
    pub limits: Limits,
    /// What happens to traffic when the plugin fails.
    pub failure_policy: FailurePolicy,
    /// Whether what a balancer has learned about its pools is kept over restarts.
    pub persists: bool,
    /// How a new version of the plugin takes over.
    pub rollout: Rollout,
    /// Whether a discovery plugin may publish loopback addresses.
    pub loopback_endpoints: LoopbackEndpoints,
    /// Where the plugin is configured; none for a built-in plugin that no object names.
    pub place: Option<Place>,
    /// The object that configures the plugin, likewise.
    pub object: Option<PluginObject>,
}

/// The object that a plugin is configured by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginObject {
    /// Its namespace.
    pub namespace: String,
    /// Its `metadata.generation`; files have none.
    pub generation: Option<i64>,
}

impl PlannedPlugin {
    /// The plugin's file, if it is not built in.
    pub fn file(&self) -> Option<&Path> {
        match &self.source {
            PluginSource::File { path, .. } => Some(path),
            PluginSource::Builtin(_) | PluginSource::Object { .. } => None,
        }
    }
}
