//! The objects compiled and joined: services, listeners, routers, plugins, with every fault found. Pure and deterministic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::fault::{Fault, Place};
use crate::manifest::Origin;
use crate::object::ours::{FailurePolicy, Hash, TargetRef};
use crate::object::{BackendTrafficPolicy, Body, ClientTrafficPolicy, Object, error, warning};
use crate::plugin::{Limits, PluginKind};
use crate::pool::{Distribution, Here, TrafficPolicy};
use crate::route::{ListenerInfo, ServiceRef, Transport};
use crate::snapshot::{AppProtocol, HashKey, Side};

/// Built-in plugins, usable by their name without a `Plugin` object.
pub const BUILTINS: &[(&str, PluginKind)] = &[
    ("kubernetes", PluginKind::Discovery),
    ("least-request", PluginKind::Balancer),
    ("maglev", PluginKind::Balancer),
    ("random", PluginKind::Balancer),
    ("round-robin", PluginKind::Balancer),
    ("rules", PluginKind::Router),
    ("static", PluginKind::Discovery),
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
    /// No two have the same address.
    pub listeners: Vec<PlannedListener>,
    /// Routers; listeners hold indices.
    pub routers: Vec<PlannedRouter>,
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
    /// Of connecting.
    pub connect_timeout: Duration,
    /// Until the response's head.
    pub request_timeout: Option<Duration>,
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
}

/// See [`crate::snapshot::Front`].
#[derive(Clone, Debug)]
pub enum PlannedFront {
    /// Forward connections.
    Tcp(PlannedTarget),
    /// Forward requests, by host name.
    Http(Vec<(Option<String>, PlannedTarget)>),
}

/// See [`crate::snapshot::Target`].
#[derive(Clone, Debug)]
pub enum PlannedTarget {
    /// A service port.
    Service {
        /// Which.
        service: ServiceRef,
        /// Which of its pools.
        side: Side,
    },
    /// An index in [`Plan::routers`].
    Router(usize),
    /// 404 or a reset.
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
    /// Hosts it may reach.
    pub allowed_hosts: Vec<String>,
    /// What happens to traffic when it fails.
    pub failure_policy: FailurePolicy,
    /// Where it is configured.
    pub place: Option<Place>,
}

/// Compiles the objects.
pub fn compile(objects: &[Arc<Object>], allocations: &Allocations, settings: &Settings) -> Plan {
    let mut compiler = Compiler { plan: Plan::default(), objects, allocations, settings, used: BTreeMap::new() };
    compiler.plugins();
    for object in objects {
        if let Body::Service(service) = &object.body {
            compiler.service(object, service);
        }
    }
    compiler.gateways();
    compiler.dangling();
    for (name, kind) in std::mem::take(&mut compiler.used) {
        if !compiler.plan.plugins.iter().any(|p| p.name == name) {
            let source = PluginSource::Builtin(name.clone());
            compiler.plan.plugins.push(PlannedPlugin {
                name,
                kind,
                source,
                limits: Limits::default(),
                allowed_hosts: Vec::new(),
                failure_policy: FailurePolicy::default(),
                place: None,
            });
        }
    }
    compiler.shadowed();
    // A policy is read once for each port it targets, and says the same each time.
    let mut seen = Vec::new();
    compiler.plan.faults.retain(|fault| {
        let new = !seen.contains(fault);
        if new {
            seen.push(fault.clone());
        }
        new
    });
    compiler.plan
}

struct Compiler<'a> {
    plan: Plan,
    objects: &'a [Arc<Object>],
    allocations: &'a Allocations,
    settings: &'a Settings,
    used: BTreeMap<String, PluginKind>,
}

impl<'a> Compiler<'a> {
    fn plugins(&mut self) {
        for object in self.objects {
            let Body::Plugin(plugin) = &object.body else { continue };
            let source = match (&plugin.spec.source.builtin, &plugin.spec.source.file) {
                (Some(name), _) => PluginSource::Builtin(name.clone()),
                (None, Some(file)) => {
                    let folder = object.origin.file().parent().unwrap_or_else(|| std::path::Path::new("."));
                    PluginSource::File { path: folder.join(file), sha256: plugin.spec.source.sha256.clone() }
                }
                (None, None) => continue,
            };
            let (given, defaults) = (&plugin.spec.limits, Limits::default());
            let limits = Limits {
                memory: given.memory.map_or(defaults.memory, |m| m.0),
                deadline: given.deadline.map_or(defaults.deadline, |d| d.0),
                configure_deadline: given.configure_deadline.map_or(defaults.configure_deadline, |d| d.0),
            };
            let place = Some(object.origin.place("spec.source"));
            self.plan.plugins.push(PlannedPlugin {
                name: object.key.name.clone(),
                kind: plugin.spec.kind,
                source,
                limits,
                allowed_hosts: plugin.spec.capabilities.allowed_hosts.clone(),
                failure_policy: plugin.spec.failure_policy,
                place,
            });
        }
    }

    /// Resolves the reference to a plugin; an unknown one is a fault, and the default serves.
    fn plugin(&mut self, object: &Object, path: &str, name: &str, kind: PluginKind, config: &Value) -> Option<PluginUse> {
        let known = self.plan.plugins.iter().map(|p| (p.name.as_str(), p.kind)).chain(BUILTINS.iter().copied());
        let known: Vec<&str> = known.filter(|(_, k)| *k == kind).map(|(name, _)| name).collect();
        if !known.contains(&name) {
            let message = format!("{path}: there is no {kind} {name:?}");
            let hint = format!("one of: {}", known.join(", "));
            self.plan.faults.push(error(&object.origin, &object.key, path, message, Some(hint)));
            return None;
        }
        self.used.insert(name.to_owned(), kind);
        let config = if config.is_null() { "{}".to_owned() } else { config.to_string() };
        let path = path.strip_suffix(".plugin").unwrap_or(path).to_owned();
        Some(PluginUse { plugin: name.to_owned(), config, at: Some((object.origin.clone(), path)) })
    }

    fn builtin(&mut self, name: &str, kind: PluginKind) -> PluginUse {
        self.used.insert(name.to_owned(), kind);
        PluginUse { plugin: name.to_owned(), config: "{}".to_owned(), at: None }
    }

    fn backend_policy(&self, service: &Object, port: &str) -> Option<(&'a Arc<Object>, &'a BackendTrafficPolicy)> {
        let policies = self.objects.iter().filter_map(|o| match &o.body {
            Body::BackendTrafficPolicy(policy) if o.key.namespace == service.key.namespace => Some((o, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(o, p)| Some((rank(o, specificity(&p.spec.target_refs, "Service", &service.key.name, port)?), (o, p)))))
    }

    fn client_policy(&self, kind: &str, target: &Object, section: &str) -> Option<(&'a Arc<Object>, &'a ClientTrafficPolicy)> {
        let policies = self.objects.iter().filter_map(|o| match &o.body {
            Body::ClientTrafficPolicy(policy) if o.key.namespace == target.key.namespace => Some((o, &**policy)),
            _ => None,
        });
        best(policies.filter_map(|(o, p)| Some((rank(o, specificity(&p.spec.target_refs, kind, &target.key.name, section)?), (o, p)))))
    }

    fn router(&mut self, kind: &str, target: &Object, section: &str, listener: ListenerInfo) -> Option<usize> {
        let (object, policy) = self.client_policy(kind, target, section)?;
        let router = policy.spec.router.as_ref()?;
        let plugin = self.plugin(object, "spec.router.plugin", &router.plugin, PluginKind::Router, &router.config)?;
        self.plan.routers.push(PlannedRouter { plugin, listener });
        Some(self.plan.routers.len() - 1)
    }

    fn service(&mut self, object: &Arc<Object>, service: &Service) {
        let Some(spec) = &service.spec else { return };
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        let proxy = service.metadata.labels.as_ref().and_then(|l| l.get("service.kubernetes.io/service-proxy-name"));
        if proxy.is_some_and(|p| p != "sluicegate") {
            return;
        }
        let kind = spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned());
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let proxied = !headless && kind != "ExternalName";
        let id = (namespace.clone(), name.clone());
        let mut external_ips: Vec<IpAddr> = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
        external_ips.extend(self.allocations.load_balancer.get(&id));
        let cluster_ips: Vec<IpAddr> = self.allocations.cluster_ips.get(&id).copied().filter(|_| proxied).into_iter().collect();
        let mut ports = Vec::new();
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let Ok(number) = u16::try_from(port.port) else { continue };
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let at = format!("spec.ports[{i}]");
            if protocol != "TCP" && proxied {
                let message = format!("{at}.protocol: {protocol} is not forwarded by this version");
                self.plan.faults.push(warning(&object.origin, &object.key, &at, message, None));
            }
            let app_protocol = match port.app_protocol.as_deref() {
                Some("http") => AppProtocol::Http,
                Some(other @ ("https" | "grpc" | "kubernetes.io/h2c" | "kubernetes.io/ws" | "kubernetes.io/wss")) => {
                    let path = format!("{at}.appProtocol");
                    let message = format!("{path}: {other:?} is forwarded at L4, per connection, by this version");
                    self.plan.faults.push(warning(&object.origin, &object.key, &path, message, None));
                    AppProtocol::Tcp
                }
                _ => AppProtocol::Tcp,
            };
            let port_name = port.name.clone().unwrap_or_default();
            let policy = self.backend_policy(object, &port_name);
            let (mut balancer, mut discovery, mut hash, mut connect, mut request) = (None, None, None, None, None);
            if let Some((source, policy)) = policy {
                if let Some(lb) = &policy.spec.load_balancer {
                    let plugin = lb.plugin.as_deref().unwrap_or("least-request");
                    balancer = self.plugin(source, "spec.loadBalancer.plugin", plugin, PluginKind::Balancer, &lb.config);
                    hash = lb.hash.as_ref().and_then(|hash| self.hash(source, hash));
                }
                if let Some(d) = &policy.spec.discovery {
                    discovery = self.plugin(source, "spec.discovery.plugin", &d.plugin, PluginKind::Discovery, &d.config);
                }
                connect = policy.spec.timeout.tcp.connect_timeout.map(|s| s.0);
                request = policy.spec.timeout.http.request_timeout.map(|s| s.0);
            }
            let seconds =
                spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds).unwrap_or(10_800);
            let affine = spec.session_affinity.as_deref() == Some("ClientIP");
            ports.push(PlannedPort {
                service: ServiceRef { namespace: namespace.clone(), name: name.clone(), port: number },
                name: port_name,
                node_port: self.allocations.node_ports.get(&(namespace.clone(), name.clone(), number, protocol.clone())).copied(),
                protocol,
                app_protocol,
                balancer: balancer.unwrap_or_else(|| self.builtin("least-request", PluginKind::Balancer)),
                discovery: discovery.unwrap_or_else(|| self.builtin("kubernetes", PluginKind::Discovery)),
                hash,
                internal: traffic_policy(spec.internal_traffic_policy.as_deref()),
                external: traffic_policy(spec.external_traffic_policy.as_deref()),
                distribution: match spec.traffic_distribution.as_deref() {
                    Some("PreferClose" | "PreferSameZone") => Distribution::SameZone,
                    Some("PreferSameNode") => Distribution::SameNode,
                    _ => Distribution::Any,
                },
                affinity: affine.then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(10_800))),
                connect_timeout: connect.unwrap_or(Duration::from_secs(5)),
                request_timeout: request,
            });
        }
        if proxied {
            for port in ports.iter().filter(|p| p.protocol == "TCP") {
                self.service_listeners(object, port, &cluster_ips, &external_ips);
            }
        }
        let type_ = if headless { "Headless".to_owned() } else { kind };
        self.plan.services.push(PlannedService {
            namespace: namespace.clone(),
            name: name.clone(),
            type_,
            proxied,
            cluster_ips,
            external_ips,
            ports,
            object: object.clone(),
        });
    }

    fn hash(&mut self, source: &Object, hash: &Hash) -> Option<HashKey> {
        Some(match hash {
            Hash::SourceIP => HashKey::SourceIp,
            Hash::Path => HashKey::Path,
            Hash::Cookie { cookie } => HashKey::Cookie(cookie.name.clone()),
            Hash::Header { header } => match header.name.parse() {
                Ok(name) => HashKey::Header(name),
                Err(_) => {
                    let path = "spec.loadBalancer.hash.header.name";
                    self.plan.faults.push(error(
                        &source.origin,
                        &source.key,
                        path,
                        format!("{path}: {:?} is not a header field's name", header.name),
                        None,
                    ));
                    return None;
                }
            },
        })
    }

    fn service_listeners(&mut self, object: &Object, port: &PlannedPort, cluster_ips: &[IpAddr], external_ips: &[IpAddr]) {
        let transport = if port.app_protocol == AppProtocol::Http { Transport::Http } else { Transport::Tcp };
        let info = ListenerInfo {
            name: port.service.to_string(),
            port: port.service.port,
            transport,
            hostname: None,
            namespace: object.key.namespace.clone(),
        };
        let router = self.router("Service", object, &port.name, info);
        let front = |side| {
            let target = router.map_or_else(|| PlannedTarget::Service { service: port.service.clone(), side }, PlannedTarget::Router);
            match port.app_protocol {
                AppProtocol::Tcp => PlannedFront::Tcp(target),
                AppProtocol::Http => PlannedFront::Http(vec![(None, target)]),
            }
        };
        let mut wanted = Vec::new();
        for ip in cluster_ips {
            wanted.push((SocketAddr::new(*ip, port.service.port), format!("cluster IP of {}", port.service), front(Side::Internal)));
        }
        for ip in external_ips {
            wanted.push((SocketAddr::new(*ip, port.service.port), format!("external IP of {}", port.service), front(Side::External)));
        }
        if let Some(node_port) = port.node_port {
            let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
            let addresses = if self.settings.node_addresses.is_empty() { &any[..] } else { &self.settings.node_addresses };
            for ip in addresses {
                wanted.push((SocketAddr::new(*ip, node_port), format!("node port of {}", port.service), front(Side::External)));
            }
        }
        for (address, name, front) in wanted {
            self.listen(object, "spec.ports", PlannedListener { address, name, front });
        }
    }

    fn listen(&mut self, object: &Object, path: &str, listener: PlannedListener) {
        if let Some(other) = self.plan.listeners.iter().find(|l| l.address == listener.address) {
            let message = format!("{}: {} is already taken by the {}", listener.name, listener.address, other.name);
            self.plan.faults.push(error(&object.origin, &object.key, path, message, None));
        } else {
            self.plan.listeners.push(listener);
        }
    }

    fn gateways(&mut self) {
        for object in self.objects {
            let Body::Gateway(gateway) = &object.body else { continue };
            if !self.ours(&gateway.spec.gateway_class_name) {
                let message = format!("spec.gatewayClassName: {:?} is another gateway's", gateway.spec.gateway_class_name);
                let hint = Some("sluicegate, or a GatewayClass with controllerName sluicegate.dev/gateway-controller".to_owned());
                self.plan.faults.push(warning(&object.origin, &object.key, "spec.gatewayClassName", message, hint));
                continue;
            }
            let mut addresses: Vec<IpAddr> = Vec::new();
            for (i, address) in gateway.spec.addresses.iter().flatten().enumerate() {
                let value = address.value.clone().unwrap_or_default();
                match value.parse() {
                    Ok(ip) => addresses.push(ip),
                    Err(_) => {
                        let path = format!("spec.addresses[{i}].value");
                        self.plan.faults.push(error(
                            &object.origin,
                            &object.key,
                            &path,
                            format!("{path}: {value:?} is not an IP address"),
                            None,
                        ));
                    }
                }
            }
            if addresses.is_empty() && gateway.spec.addresses.iter().flatten().next().is_none() {
                addresses.push(Ipv4Addr::UNSPECIFIED.into());
            }
            for (i, listener) in gateway.spec.listeners.iter().enumerate() {
                let path = format!("spec.listeners[{i}]");
                let Ok(port) = u16::try_from(listener.port) else { continue };
                let transport = match listener.protocol.as_str() {
                    "HTTP" => Transport::Http,
                    "TCP" => Transport::Tcp,
                    other => {
                        let message = format!("{path}.protocol: {other} is not served by this version");
                        self.plan.faults.push(warning(
                            &object.origin,
                            &object.key,
                            &format!("{path}.protocol"),
                            message,
                            Some("HTTP or TCP".to_owned()),
                        ));
                        continue;
                    }
                };
                let name = format!("listener {} of Gateway {}/{}", listener.name, object.key.namespace, object.key.name);
                let hostname = listener.hostname.as_ref().map(|h| h.to_ascii_lowercase());
                let info = ListenerInfo {
                    name: name.clone(),
                    port,
                    transport,
                    hostname: hostname.clone(),
                    namespace: object.key.namespace.clone(),
                };
                let target = self.router("Gateway", object, &listener.name, info).map_or(PlannedTarget::Nothing, PlannedTarget::Router);
                for ip in &addresses {
                    let address = SocketAddr::new(*ip, port);
                    let same = self.plan.listeners.iter_mut().find(|l| l.address == address);
                    match (same.map(|l| &mut l.front), transport) {
                        (Some(PlannedFront::Http(hosts)), Transport::Http) if !hosts.iter().any(|(h, _)| *h == hostname) => {
                            hosts.push((hostname.clone(), target.clone()))
                        }
                        _ => {
                            let front = if transport == Transport::Http {
                                PlannedFront::Http(vec![(hostname.clone(), target.clone())])
                            } else {
                                PlannedFront::Tcp(target.clone())
                            };
                            self.listen(object, &path, PlannedListener { address, name: name.clone(), front });
                        }
                    }
                }
            }
        }
        for listener in &mut self.plan.listeners {
            if let PlannedFront::Http(hosts) = &mut listener.front {
                hosts.sort_by_key(|(h, _)| host_order(h.as_deref()));
            }
        }
    }

    fn ours(&self, class: &str) -> bool {
        class == "sluicegate"
            || self.objects.iter().any(|o| matches!(&o.body, Body::GatewayClass(c) if o.key.name == class && c.spec.controller_name == "sluicegate.dev/gateway-controller"))
    }

    /// Policies that lose the very same target to another of their kind.
    fn shadowed(&mut self) {
        let mut winners: BTreeMap<(&str, &str, &str, &str, &str), (Rank, &Object)> = BTreeMap::new();
        let policies = || self.objects.iter().filter_map(|o| targets(o).map(|targets| (o, targets)));
        let id = |o: &'a Object, t: &'a TargetRef| {
            (o.key.kind.as_str(), o.key.namespace.as_str(), t.kind.as_str(), t.name.as_str(), t.section_name.as_deref().unwrap_or_default())
        };
        for (object, targets) in policies() {
            for target in targets {
                let (rank, id) = (rank(object, 0), id(object, target));
                if winners.get(&id).is_none_or(|(other, _)| rank < *other) {
                    winners.insert(id, (rank, object));
                }
            }
        }
        let mut faults = Vec::new();
        for (object, targets) in policies() {
            for (i, target) in targets.iter().enumerate() {
                if let Some((_, winner)) = winners.get(&id(object, target)).filter(|(_, winner)| winner.key != object.key) {
                    let path = format!("spec.targetRefs[{i}]");
                    let message = format!("{path}: Conflicted: {} targets the same, and is older or comes first by name", winner.key);
                    faults.push(warning(&object.origin, &object.key, &path, message, None));
                }
            }
        }
        self.plan.faults.append(&mut faults);
    }

    /// Policies whose target is not there.
    fn dangling(&mut self) {
        for object in self.objects {
            let Some(targets) = targets(object) else { continue };
            for (i, target) in targets.iter().enumerate() {
                let there = self
                    .objects
                    .iter()
                    .any(|o| o.key.kind == target.kind && o.key.namespace == object.key.namespace && o.key.name == target.name);
                if !there {
                    let path = format!("spec.targetRefs[{i}].name");
                    let message = format!("{path}: there is no {} {:?} in namespace {:?}", target.kind, target.name, object.key.namespace);
                    self.plan.faults.push(warning(&object.origin, &object.key, &path, message, None));
                }
            }
        }
    }
}

/// How policies compete, the least wins: the more specific, then the older, then the first by name (GEP-713).
type Rank = (std::cmp::Reverse<u8>, bool, String, String);

fn rank(policy: &Object, specificity: u8) -> Rank {
    let created = created(policy).unwrap_or_default();
    (std::cmp::Reverse(specificity), created.is_empty(), created, policy.key.name.clone())
}

/// `creationTimestamp`; RFC 3339 in UTC sorts as text. Files seldom have one, and then the name decides.
fn created(policy: &Object) -> Option<String> {
    policy.value.pointer("/metadata/creationTimestamp").and_then(Value::as_str).map(str::to_owned)
}

fn targets(object: &Object) -> Option<&Vec<TargetRef>> {
    match &object.body {
        Body::BackendTrafficPolicy(p) => Some(&p.spec.target_refs),
        Body::ClientTrafficPolicy(p) => Some(&p.spec.target_refs),
        _ => None,
    }
}

fn traffic_policy(policy: Option<&str>) -> TrafficPolicy {
    if policy == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// 1 for the whole object, 2 for the section; none when the policy does not target it.
fn specificity(targets: &[TargetRef], kind: &str, name: &str, section: &str) -> Option<u8> {
    let fits = targets.iter().filter(|t| t.kind == kind && t.name == name);
    fits.filter_map(|t| match &t.section_name {
        None => Some(1),
        Some(wanted) => (wanted == section).then_some(2),
    })
    .max()
}

fn best<T>(found: impl Iterator<Item = (Rank, T)>) -> Option<T> {
    found.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, found)| found)
}

/// Exact names, then wildcards with more labels first, then the empty one.
fn host_order(host: Option<&str>) -> (u8, std::cmp::Reverse<usize>, String) {
    match host {
        None => (2, std::cmp::Reverse(0), String::new()),
        Some(h) if h.starts_with("*.") => (1, std::cmp::Reverse(h.split('.').count()), h.to_owned()),
        Some(h) => (0, std::cmp::Reverse(0), h.to_owned()),
    }
}
