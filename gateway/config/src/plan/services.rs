//! Services: their ports, with the settings that policies make for these, and the addresses that they are served on.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use sluicegate_builtins::{DEFAULT_BALANCER, DEFAULT_DISCOVERY};
use sluicegate_model::family::IpFamily;
use sluicegate_model::route::{PortProtocol, Transport};
use sluicegate_model::snapshot::{ServiceSide, Side};

use super::compile::Compiler;
use super::effect::Way;
use super::gateways::ALPN;
use super::*;
use crate::object::ours::{Hash, HashedCookie, LoadBalancer, Span};
use crate::object::{Body, error, warning};
use crate::validate::SOURCE_RANGES;

/// The proxy to which a label leaves a Service.
fn proxy(service: &Service) -> Option<&str> {
    service.metadata.labels.as_ref()?.get("service.kubernetes.io/service-proxy-name").map(String::as_str)
}

/// Whether traffic to a Service is forwarded, or why not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Forwarding {
    Forwarded,
    Headless,
    ExternalName,
}

impl Forwarding {
    pub(super) fn of(spec: &ServiceSpec) -> Self {
        match (spec.cluster_ip.as_deref(), spec.type_.as_deref()) {
            (Some("None"), _) => Self::Headless,
            (_, Some("ExternalName")) => Self::ExternalName,
            _ => Self::Forwarded,
        }
    }
}

impl Compiler<'_> {
    /// The `spec` of a Service, if this gateway may lead traffic to it.
    pub(super) fn our_service<'s>(&self, service: &'s Service) -> Option<&'s ServiceSpec> {
        let ours = match self.settings.services {
            ServiceAddresses::Ours => self.serves(service),
            ServiceAddresses::Cluster => true,
        };
        service.spec.as_ref().filter(|_| ours)
    }

    /// Whether this gateway serves a Service's own addresses.
    pub(super) fn serves(&self, service: &Service) -> bool {
        match self.settings.services {
            ServiceAddresses::Ours => proxy(service).is_none_or(|proxy| proxy == "sluicegate"),
            ServiceAddresses::Cluster => proxy(service) == Some("sluicegate"),
        }
    }

    pub(super) fn service(&mut self, object: &Arc<Object>, service: &Service) {
        let Some(spec) = self.our_service(service) else { return };
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        let kind = spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned());
        let forwarding = Forwarding::of(spec);
        let forwarded = forwarding == Forwarding::Forwarded;
        let served_here = self.serves(service);
        let proxied = forwarded && served_here;
        let id = (namespace.clone(), name.clone());
        if let Some(class) = spec.load_balancer_class.as_deref().filter(|_| kind == "LoadBalancer" && has_foreign_class(spec)) {
            let path = "spec.loadBalancerClass";
            let message = format!(
                "{path}: {class:?} is another load balancer's: it is given no address here, and loadBalancerSourceRanges and loadBalancerIP have no effect; cluster IPs and node ports are served"
            );
            self.part.faults.push(warning(&object.origin, &object.key, path, message, Some(format!("{LOAD_BALANCER_CLASS:?}, or none"))));
        }
        let families = self.allocations.families.get(&id).cloned().unwrap_or_default();
        let mut balanced = self.allocations.load_balancer.get(&id).cloned().unwrap_or_default();
        let mut listened = balanced.clone();
        let ours = kind == "LoadBalancer" && spec.load_balancer_class.as_deref() == Some(LOAD_BALANCER_CLASS);
        let on_nodes = self.allocations.on_nodes && ours && forwarded;
        if on_nodes {
            (balanced, listened) = (self.shown_on_nodes(&families), self.node_addresses(&families));
        }
        let mut named = Vec::new();
        for (i, ip) in spec.external_ips.iter().flatten().enumerate().filter_map(|(i, ip)| Some((i, ip.parse::<IpAddr>().ok()?))) {
            if proxied && !families.takes(IpFamily::of(ip)) {
                let path = format!("spec.externalIPs[{i}]");
                let message = format!("{path}: {ip} has no effect: the Service is of {} only", families.names().join(", "));
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
            } else if !balanced.contains(&ip) {
                named.push(ip);
            }
        }
        if !served_here {
            named.clear();
        }
        let (external, external_ips) = (!named.is_empty() || !listened.is_empty(), [&*named, &*balanced].concat());
        let cluster_ips = self.allocations.cluster_ips.get(&id).filter(|_| proxied).cloned().unwrap_or_default();
        let mut ports = Vec::with_capacity(spec.ports.as_ref().map_or(0, Vec::len));
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let Ok(number) = u16::try_from(port.port) else { continue };
            let protocol = PortProtocol::named(port.protocol.as_deref());
            let at = format!("spec.ports[{i}]");
            if protocol.forwarded().is_none() && proxied {
                let message = format!("{at}.protocol: {protocol} is not forwarded by this version");
                self.part.faults.push(warning(&object.origin, &object.key, &at, message, None));
            }
            let app_protocol = match port.app_protocol.as_deref() {
                _ if protocol == PortProtocol::Udp => AppProtocol::Udp,
                Some("http" | "https") => AppProtocol::Http,
                Some("kubernetes.io/h2c") => AppProtocol::H2c,
                Some("grpc") => AppProtocol::Grpc,
                Some("kubernetes.io/ws" | "kubernetes.io/wss") => AppProtocol::Ws,
                _ => AppProtocol::Tcp,
            };
            let port_name = port.name.clone().unwrap_or_default();
            let policy = self.backend_policy(object, &port_name);
            let (mut balancer, mut discovery, mut hash) = (None, None, None);
            if let Some((source, policy)) = policy {
                if let Some(lb) = &policy.spec.load_balancer {
                    let plugin = lb.plugin.as_deref().unwrap_or(DEFAULT_BALANCER);
                    balancer = self.plugin(source, "spec.loadBalancer.plugin", plugin, PluginKind::Balancer, &lb.config);
                    hash = lb.hash.as_ref().and_then(|hash| self.hash(source, hash));
                }
                if let Some(d) = &policy.spec.discovery {
                    discovery = self.plugin(source, "spec.discovery.plugin", &d.plugin, PluginKind::Discovery, &d.config);
                }
            }
            let reference = ServiceRef { namespace: namespace.clone(), name: name.clone(), port: number };
            let x_policy = self.x_backend_policy(object);
            let constraints = self.constraints(x_policy, &reference);
            let settings = self.backend_settings(policy, constraints, app_protocol);
            let secure = matches!(port.app_protocol.as_deref(), Some("https" | "kubernetes.io/wss"));
            let tls = match app_protocol {
                AppProtocol::Udp => PlannedEndpointTls::Off,
                _ => self.endpoint_tls(object, &port_name, secure, policy),
            };
            // A connection whose TLS only the endpoint ends is forwarded as it is: its requests cannot be read.
            let untold = tls == PlannedEndpointTls::Untold;
            let app_protocol = if untold { AppProtocol::Tcp } else { app_protocol };
            if protocol.forwarded().is_some() && forwarded {
                let (way, why) = served(app_protocol, untold, port.app_protocol.as_deref());
                let what = format!("port {number} of {}", object.key);
                self.counts(x_policy.map(|(object, _)| object), way, what.clone(), why.clone());
                self.counts(policy.map(|(object, _)| object), way, what, why);
            }
            let seconds =
                spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds).unwrap_or(10_800);
            let affine = spec.session_affinity.as_deref() == Some("ClientIP");
            ports.push(PlannedPort {
                service: reference,
                name: port_name,
                node_port: self
                    .allocations
                    .node_ports
                    .get(&(namespace.clone(), name.clone(), number, protocol))
                    .copied()
                    .filter(|_| served_here),
                protocol,
                app_protocol,
                own_balancer: policy.is_some_and(|(_, policy)| policy.spec.load_balancer.as_ref().is_some_and(LoadBalancer::decides)),
                balancer: balancer.unwrap_or_else(|| self.builtin(DEFAULT_BALANCER, PluginKind::Balancer)),
                discovery: discovery.unwrap_or_else(|| self.builtin(DEFAULT_DISCOVERY, PluginKind::Discovery)),
                hash,
                internal: traffic_policy(spec.internal_traffic_policy.as_deref()),
                external: traffic_policy(spec.external_traffic_policy.as_deref()),
                distribution: match spec.traffic_distribution.as_deref() {
                    Some("PreferClose" | "PreferSameZone") => Distribution::SameZone,
                    Some("PreferSameNode") => Distribution::SameNode,
                    _ => Distribution::Any,
                },
                affinity: affine.then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(10_800))),
                settings,
                tls,
            });
        }
        if proxied || (forwarded && external) {
            for port in ports.iter().filter(|p| p.protocol.forwarded().is_some()) {
                let addresses = Addresses {
                    cluster: &cluster_ips,
                    external: &named,
                    balanced: &listened,
                    yields: on_nodes,
                    sources: source_ranges(service),
                    node: self.node_addresses(&families),
                };
                self.service_listeners(object, port, &addresses);
            }
        }
        if let Some(port) = self.allocations.health_check_node_ports.get(&id).filter(|_| proxied) {
            let addresses = self.node_addresses(&families).iter().map(|ip| SocketAddr::new(*ip, *port)).collect();
            self.part.health_check =
                Some(Arc::new(PlannedHealthCheck { namespace: namespace.clone(), name: name.clone(), addresses, local_endpoints: () }));
        }
        let type_ = if forwarding == Forwarding::Headless { "Headless".to_owned() } else { kind };
        self.part.service = Some(Arc::new(PlannedService {
            namespace: namespace.clone(),
            name: name.clone(),
            type_,
            proxied,
            routable: forwarding != Forwarding::ExternalName,
            families,
            cluster_ips,
            external_ips,
            balanced,
            listened,
            ports,
            object: object.clone(),
        }));
    }

    pub(super) fn hash(&mut self, source: &Object, hash: &Hash) -> Option<HashKey> {
        Some(match hash {
            Hash::SourceIP => HashKey::SourceIp,
            Hash::Path => HashKey::Path,
            Hash::Cookie { cookie } => HashKey::Cookie { name: cookie.name.clone(), given: cookie.ttl.map(|ttl| attributes(cookie, ttl)) },
            Hash::Header { header } => match header.name.parse() {
                Ok(name) => HashKey::Header(name),
                Err(_) => {
                    let path = "spec.loadBalancer.hash.header.name";
                    self.part.faults.push(error(
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

    pub(super) fn service_listeners(&mut self, object: &Arc<Object>, port: &PlannedPort, addresses: &Addresses<'_>) {
        let policy = self.client_policy("Service", object, &port.name);
        let tls = match port.app_protocol {
            AppProtocol::Udp => None,
            AppProtocol::Tcp => self.service_tls(policy, &[]),
            AppProtocol::Http | AppProtocol::H2c | AppProtocol::Grpc | AppProtocol::Ws => self.service_tls(policy, ALPN),
        };
        let (transport, name) = match port.app_protocol {
            AppProtocol::Tcp if tls.is_some() => (Transport::Tls, port.service.to_string()),
            AppProtocol::Tcp => (Transport::Tcp, port.service.to_string()),
            AppProtocol::Udp => (Transport::Udp, format!("{}/UDP", port.service)),
            AppProtocol::Http | AppProtocol::H2c | AppProtocol::Grpc | AppProtocol::Ws => (Transport::Http, port.service.to_string()),
        };
        let info = ListenerInfo {
            name: name.clone(),
            port: port.service.port,
            transport,
            hostname: None,
            namespace: object.key.namespace.clone(),
        };
        let router = self.router(policy, info, PlannedRule::default());
        let way = match (port.app_protocol, tls.is_some()) {
            (AppProtocol::Udp, _) => Way::Udp,
            (AppProtocol::Tcp, false) => Way::Tcp,
            (AppProtocol::Tcp, true) => Way::EndedTls,
            (_, false) => Way::Http,
            (_, true) => Way::Https,
        };
        let ports =
            if let Body::Service(service) = &object.body { service.spec.as_ref().and_then(|spec| spec.ports.as_deref()) } else { None };
        // Names tell ports apart. A Service with one port may leave its name out.
        let given = ports.unwrap_or_default().iter().find(|p| p.name.as_deref().unwrap_or_default() == port.name);
        let given = given.and_then(|p| p.app_protocol.as_deref());
        let why = served(port.app_protocol, port.tls == PlannedEndpointTls::Untold, given).1;
        self.counts(policy.map(|(object, _)| object), way, format!("port {} of {}", port.service.port, object.key), why);
        let settings = self.client_settings(policy);
        let front = |side| {
            let service = || PlannedTarget::Service(ServiceSide { service: port.service.clone(), side });
            let target = router.clone().map_or_else(service, PlannedTarget::Router);
            if let Some(tls) = tls.clone() {
                let mode = if port.app_protocol == AppProtocol::Tcp { PlannedTlsMode::Tcp(tls) } else { PlannedTlsMode::Http(tls) };
                return PlannedFront::Tls(vec![PlannedTlsHost { hostname: None, mode, target }]);
            }
            match port.app_protocol {
                AppProtocol::Tcp => PlannedFront::Tcp(target),
                AppProtocol::Udp => PlannedFront::Udp(target),
                AppProtocol::Http | AppProtocol::H2c | AppProtocol::Grpc | AppProtocol::Ws => {
                    PlannedFront::Http(vec![VirtualHost { hostname: None, target }])
                }
            }
        };
        let mut wanted = Vec::new();
        for ip in addresses.cluster {
            wanted.push((SocketAddr::new(*ip, port.service.port), "cluster IP", front(Side::Internal)));
        }
        for ip in addresses.external {
            wanted.push((SocketAddr::new(*ip, port.service.port), "external IP", front(Side::External)));
        }
        let others = wanted.len();
        for ip in addresses.balanced {
            wanted.push((SocketAddr::new(*ip, port.service.port), "external IP", front(Side::External)));
        }
        let balanced = others..wanted.len();
        if let Some(node_port) = port.node_port {
            for ip in &addresses.node {
                wanted.push((SocketAddr::new(*ip, node_port), "node port", front(Side::External)));
            }
        }
        for (at, (address, kind, front)) in wanted.into_iter().enumerate() {
            let settings = if balanced.contains(&at) && !addresses.sources.is_empty() {
                Arc::new(ClientSettings { sources: addresses.sources.clone(), ..ClientSettings::clone(&settings) })
            } else {
                settings.clone()
            };
            let name = format!("{kind} of {name}");
            self.listen(object, "spec.ports".into(), PlannedListener { address, name, front, settings, limiter: () }, None);
            if let Some(claim) = self.part.claims.last_mut() {
                claim.yields = addresses.yields && balanced.contains(&at);
            }
        }
    }
}

/// The `loadBalancerClass` of Services whose load balancer is this gateway.
pub const LOAD_BALANCER_CLASS: &str = "sluicegate.dev/gateway";

/// Whether another implementation is to be the Service's load balancer. In a folder that of a Service without a class is this gateway.
pub fn has_foreign_class(spec: &ServiceSpec) -> bool {
    spec.load_balancer_class.as_deref().is_some_and(|class| class != LOAD_BALANCER_CLASS)
}

impl PlannedService {
    /// Whether the Service says that this gateway is its load balancer.
    pub(super) fn is_balanced_here(&self) -> bool {
        let Body::Service(given) = &self.object.body else { return false };
        self.type_ == "LoadBalancer"
            && given.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.as_deref() == Some(LOAD_BALANCER_CLASS))
    }

    /// What a port listens on at the addresses of the load balancer.
    pub(crate) fn balanced_at(&self, port: &PlannedPort) -> impl Iterator<Item = At> {
        let (protocol, number) = (port.protocol.forwarded(), port.service.port);
        self.listened.iter().filter_map(move |ip| Some((protocol?, SocketAddr::new(*ip, number))))
    }
}

/// How a port is served, and why, in words that follow its name.
fn served(protocol: AppProtocol, untold: bool, given: Option<&str>) -> (Way, String) {
    let given = given.unwrap_or_default();
    match protocol {
        AppProtocol::Udp => (Way::Udp, "is of UDP".to_owned()),
        AppProtocol::Tcp if untold => {
            (Way::Tcp, format!("is forwarded by connection, as nobody says how to verify its endpoints (appProtocol {given})"))
        }
        AppProtocol::Tcp if given.is_empty() => (Way::Tcp, "is forwarded by connection, as it has no appProtocol".to_owned()),
        AppProtocol::Tcp => (Way::Tcp, format!("is forwarded by connection, as its appProtocol is {given}")),
        AppProtocol::Http | AppProtocol::Ws => {
            (Way::Http1Endpoints, format!("is served by request, over HTTP/1.1 to endpoints (appProtocol {given})"))
        }
        AppProtocol::H2c | AppProtocol::Grpc => {
            (Way::Http2Endpoints, format!("is served by request, over HTTP/2 to endpoints (appProtocol {given})"))
        }
    }
}

/// The addresses that the ports of a Service are served on.
pub(super) struct Addresses<'a> {
    cluster: &'a [IpAddr],
    external: &'a [IpAddr],
    /// Those that are the load balancer's, and who may connect to them. An empty list lets everybody in.
    balanced: &'a [IpAddr],
    /// Whether those go to somebody else who wants them.
    yields: bool,
    sources: Vec<IpNet>,
    node: Vec<IpAddr>,
}

impl Compiler<'_> {
    /// The addresses on which node ports of a Service of these families are served.
    fn node_addresses(&self, families: &ServiceFamilies) -> Vec<IpAddr> {
        let given = &self.settings.node_addresses;
        let all = if given.is_empty() { self.settings.everywhere() } else { given };
        all.iter().copied().filter(|ip| families.takes(IpFamily::of(*ip))).collect()
    }

    /// The addresses by which clients reach what is served on the nodes' own addresses: those of the Nodes, or of this one if nothing is known of others.
    fn shown_on_nodes(&self, families: &ServiceFamilies) -> Vec<IpAddr> {
        let Settings { node_addresses, own_addresses, .. } = self.settings;
        let ours = if node_addresses.is_empty() { own_addresses } else { node_addresses };
        let of = |all: &[IpAddr]| all.iter().copied().filter(|ip| families.takes(IpFamily::of(*ip))).collect::<Vec<_>>();
        Some(of(&self.allocations.everywhere)).filter(|nodes| !nodes.is_empty()).unwrap_or_else(|| of(ours))
    }
}

/// Who may connect to the load balancer's address, by the field, or otherwise by the annotation. Both were validated before. An entry that is no CIDR lets
/// nobody in.
fn source_ranges(service: &Service) -> Vec<IpNet> {
    let field = service.spec.as_ref().and_then(|s| s.load_balancer_source_ranges.as_deref()).unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE_RANGES)).filter(|_| field.is_empty());
    let all = field.iter().map(String::as_str).chain(annotation.into_iter().flat_map(|a| a.split(',')));
    all.filter_map(|range| range.trim().parse().ok()).collect()
}

pub(super) fn traffic_policy(policy: Option<&str>) -> TrafficPolicy {
    if policy == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// The attributes that follow the value of a cookie that the gateway sets (RFC 6265 §4.1.1).
fn attributes(cookie: &HashedCookie, ttl: Span) -> String {
    let own = |name: &&str| !cookie.attributes.keys().any(|given| given.eq_ignore_ascii_case(name));
    let mut text = if ttl.0.is_zero() { String::new() } else { format!("; Max-Age={}", ttl.0.as_secs().max(1)) };
    for (name, value) in [("Path", "/"), ("SameSite", "Lax")].into_iter().filter(|(name, _)| own(name)) {
        text.push_str(&format!("; {name}={value}"));
    }
    for (name, value) in &cookie.attributes {
        text.push_str(&if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") });
    }
    if own(&"HttpOnly") {
        text.push_str("; HttpOnly");
    }
    text
}
