//! Services: their ports with what policies say of them, and the addresses they listen on.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use super::compile::Compiler;
use super::gateways::ALPN;
use super::*;
use crate::object::ours::{Hash, HashedCookie, Span};
use crate::object::{error, warning};
use crate::route::Transport;
use crate::validate::SOURCE_RANGES;

impl Compiler<'_> {
    pub(super) fn service(&mut self, object: &Arc<Object>, service: &Service) {
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
        let balanced = self.allocations.load_balancer.get(&id).copied();
        external_ips.retain(|ip| balanced != Some(*ip));
        external_ips.extend(balanced);
        let cluster_ips: Vec<IpAddr> = self.allocations.cluster_ips.get(&id).copied().filter(|_| proxied).into_iter().collect();
        let mut ports = Vec::new();
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let Ok(number) = u16::try_from(port.port) else { continue };
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let at = format!("spec.ports[{i}]");
            if protocol == "SCTP" && proxied {
                let message = format!("{at}.protocol: {protocol} is not forwarded by this version");
                self.plan.faults.push(warning(&object.origin, &object.key, &at, message, None));
            }
            let app_protocol = match port.app_protocol.as_deref() {
                _ if protocol == "UDP" => AppProtocol::Udp,
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
                    let plugin = lb.plugin.as_deref().unwrap_or("least-request");
                    balancer = self.plugin(source, "spec.loadBalancer.plugin", plugin, PluginKind::Balancer, &lb.config);
                    hash = lb.hash.as_ref().and_then(|hash| self.hash(source, hash));
                }
                if let Some(d) = &policy.spec.discovery {
                    discovery = self.plugin(source, "spec.discovery.plugin", &d.plugin, PluginKind::Discovery, &d.config);
                }
            }
            let settings = self.backend_settings(policy, app_protocol);
            let secure = matches!(port.app_protocol.as_deref(), Some("https" | "kubernetes.io/wss"));
            let tls = match app_protocol {
                AppProtocol::Udp => PlannedEndpointTls::Off,
                _ => self.endpoint_tls(object, &port_name, secure, policy),
            };
            // Requests cannot be taken from a connection whose TLS is the endpoint's own affair.
            let app_protocol = if tls == PlannedEndpointTls::Untold { AppProtocol::Tcp } else { app_protocol };
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
                settings,
                tls,
            });
        }
        if proxied {
            for port in ports.iter().filter(|p| p.protocol != "SCTP") {
                self.service_listeners(object, port, &cluster_ips, &external_ips, balanced.map(|ip| (ip, source_ranges(service))));
            }
        }
        if let Some(port) = self.allocations.health_check_node_ports.get(&id).filter(|_| proxied) {
            let addresses = self.node_addresses().iter().map(|ip| SocketAddr::new(*ip, *port)).collect();
            self.plan.health_checks.push(PlannedHealthCheck { namespace: namespace.clone(), name: name.clone(), addresses });
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

    pub(super) fn hash(&mut self, source: &Object, hash: &Hash) -> Option<HashKey> {
        Some(match hash {
            Hash::SourceIP => HashKey::SourceIp,
            Hash::Path => HashKey::Path,
            Hash::Cookie { cookie } => HashKey::Cookie { name: cookie.name.clone(), given: cookie.ttl.map(|ttl| attributes(cookie, ttl)) },
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

    /// `balanced`: which external address is the load balancer's, and who may connect to it.
    pub(super) fn service_listeners(
        &mut self,
        object: &Object,
        port: &PlannedPort,
        cluster_ips: &[IpAddr],
        external_ips: &[IpAddr],
        balanced: Option<(IpAddr, Vec<IpNet>)>,
    ) {
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
        let router = self.router("Service", object, &port.name, info);
        let settings = self.client_settings(policy);
        let front = |side| {
            let target = router.map_or_else(|| PlannedTarget::Service { service: port.service.clone(), side }, PlannedTarget::Router);
            if let Some(tls) = tls.clone() {
                let mode = if port.app_protocol == AppProtocol::Tcp { PlannedTlsMode::Tcp(tls) } else { PlannedTlsMode::Http(tls) };
                return PlannedFront::Tls(vec![PlannedTlsHost { hostname: None, mode, target }]);
            }
            match port.app_protocol {
                AppProtocol::Tcp => PlannedFront::Tcp(target),
                AppProtocol::Udp => PlannedFront::Udp(target),
                AppProtocol::Http | AppProtocol::H2c | AppProtocol::Grpc | AppProtocol::Ws => PlannedFront::Http(vec![(None, target)]),
            }
        };
        let mut wanted = Vec::new();
        for ip in cluster_ips {
            wanted.push((SocketAddr::new(*ip, port.service.port), format!("cluster IP of {name}"), front(Side::Internal)));
        }
        for ip in external_ips {
            wanted.push((SocketAddr::new(*ip, port.service.port), format!("external IP of {name}"), front(Side::External)));
        }
        if let Some(node_port) = port.node_port {
            for ip in self.node_addresses() {
                wanted.push((SocketAddr::new(*ip, node_port), format!("node port of {name}"), front(Side::External)));
            }
        }
        for (address, name, front) in wanted {
            let settings = match &balanced {
                Some((ip, sources)) if *ip == address.ip() && !sources.is_empty() => {
                    Arc::new(ClientSettings { sources: sources.clone(), ..ClientSettings::clone(&settings) })
                }
                _ => settings.clone(),
            };
            self.listen(object, "spec.ports", PlannedListener { address, name, front, settings });
        }
    }
}

impl Compiler<'_> {
    /// Where node ports are.
    fn node_addresses(&self) -> &[IpAddr] {
        const ANY: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        if self.settings.node_addresses.is_empty() { ANY } else { &self.settings.node_addresses }
    }
}

/// Who may connect to the load balancer's address; the field, else the annotation. Both are validated already; what is no CIDR lets nobody in.
fn source_ranges(service: &Service) -> Vec<IpNet> {
    let field = service.spec.as_ref().and_then(|s| s.load_balancer_source_ranges.as_deref()).unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE_RANGES)).filter(|_| field.is_empty());
    let all = field.iter().map(String::as_str).chain(annotation.into_iter().flat_map(|a| a.split(',')));
    all.filter_map(|range| range.trim().parse().ok()).collect()
}

pub(super) fn traffic_policy(policy: Option<&str>) -> TrafficPolicy {
    if policy == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// What follows the value of a cookie that the gateway sets (RFC 6265 §4.1.1).
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
