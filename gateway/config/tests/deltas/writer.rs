//! Random worlds: objects of all kinds that share a few names, and what an allocator may have given them.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sluicegate_config::object::Object;
use sluicegate_config::objects::Objects;
use sluicegate_config::plan::Allocations;
use sluicegate_model::route::PortProtocol;

use crate::parse;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const NAMESPACES: [&str; 2] = ["one", "two"];

/// Writes random objects, with few names and many collisions.
pub(crate) struct Writer {
    pub(crate) random: StdRng,
    certificate: String,
    key: String,
}

impl Writer {
    pub(crate) fn new(seed: u64) -> Self {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        Self { random: StdRng::seed_from_u64(seed), certificate: base64(&made.cert.pem()), key: base64(&made.signing_key.serialize_pem()) }
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of.choose(&mut self.random).copied().unwrap_or_default()
    }

    pub(crate) fn odds(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    pub(crate) fn object(&mut self) -> Arc<Object> {
        let kinds: [fn(&mut Self) -> String; 18] = [
            Self::service,
            Self::service,
            Self::backend_policy,
            Self::backend_policy,
            Self::client_policy,
            Self::client_policy,
            Self::gateway,
            Self::listener_set,
            Self::listener_set,
            Self::plugin,
            Self::tls_policy,
            Self::secret,
            Self::grant,
            Self::grant,
            Self::route,
            Self::route,
            Self::route,
            Self::namespace,
        ];
        let kind = self.random.random_range(0..kinds.len());
        let body = kinds[kind](self);
        parse(&body)
    }

    fn metadata(&mut self, more: &str) -> String {
        let (name, namespace) = (self.pick(&NAMES), self.pick(&NAMESPACES));
        format!("metadata: {{name: {name}, namespace: {namespace}{more}}}\n")
    }

    fn service(&mut self) -> String {
        let labels = if self.odds(10) { ", labels: {service.kubernetes.io/service-proxy-name: other}" } else { "" };
        let metadata = self.metadata(labels);
        let kind = self.pick(&["ClusterIP", "NodePort", "LoadBalancer", "ClusterIP", "ExternalName"]);
        let mut spec = format!("spec:\n  type: {kind}\n");
        if self.odds(10) {
            spec.push_str("  clusterIP: None\n");
        }
        if self.odds(30) {
            let ip = self.pick(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
            spec.push_str(&format!("  externalIPs: ['{ip}']\n"));
        }
        if self.odds(20) {
            spec.push_str("  externalTrafficPolicy: Local\n");
        }
        if self.odds(20) {
            spec.push_str("  sessionAffinity: ClientIP\n");
        }
        if self.odds(10) {
            spec.push_str("  loadBalancerClass: other.example/x\n");
        }
        spec.push_str("  ports:\n");
        for (name, number) in [("http", 80), ("more", 81)] {
            let protocol = self.pick(&["TCP", "TCP", "TCP", "UDP", "SCTP"]);
            let app = self.pick(&["", "http", "https", "grpc", "kubernetes.io/h2c"]);
            let app = if app.is_empty() { String::new() } else { format!(", appProtocol: {app}") };
            spec.push_str(&format!("  - {{name: {name}, port: {number}, protocol: {protocol}{app}}}\n"));
        }
        format!("apiVersion: v1\nkind: Service\n{metadata}{spec}")
    }

    fn targets(&mut self, kinds: &[(&str, &str)], sections: &[&str]) -> String {
        let mut all = String::from("  targetRefs:\n");
        for _ in 0..self.random.random_range(1..3) {
            let (group, kind) = kinds[self.random.random_range(0..kinds.len())];
            let (name, section) = (self.pick(&NAMES), self.pick(sections));
            let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
            all.push_str(&format!("  - {{group: \"{group}\", kind: {kind}, name: {name}{section}}}\n"));
        }
        all
    }

    fn backend_policy(&mut self) -> String {
        let created = if self.odds(30) {
            ", creationTimestamp: '2026-01-0{}T00:00:00Z'".replace("{}", self.pick(&["1", "2"]))
        } else {
            String::new()
        };
        let metadata = self.metadata(&created);
        let gateway_api = "gateway.networking.k8s.io";
        let kinds = [("", "Service"), ("", "Service"), (gateway_api, "HTTPRoute"), (gateway_api, "GRPCRoute"), (gateway_api, "Gateway")];
        let mut spec = self.targets(&kinds, &["", "", "http", "one", "none"]);
        if self.odds(60) {
            let plugin = self.pick(&["random", "a", "b", "nobody"]);
            spec.push_str(&format!("  loadBalancer: {{plugin: {plugin}, hash: {{type: Path}}}}\n"));
        }
        if self.odds(30) {
            let plugin = self.pick(&["static", "c", "nobody"]);
            spec.push_str(&format!("  discovery: {{plugin: {plugin}, config: {{targets: []}}}}\n"));
        }
        if self.odds(30) {
            spec.push_str("  timeout: {http: {requestTimeout: 3s}}\n");
        }
        if self.odds(30) {
            spec.push_str("  rateLimit: {type: Local, local: {rules: [{limit: {requests: 1, unit: Second}}]}}\n");
        }
        if self.odds(30) {
            let (kind, name, namespace) = (self.pick(&["Secret", "ConfigMap"]), self.pick(&NAMES), self.pick(&NAMESPACES));
            spec.push_str(&format!(
                "  tls: {{sni: a.example, caCertificateRefs: [{{kind: {kind}, name: {name}, namespace: {namespace}}}]}}\n"
            ));
        }
        format!("apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\n{metadata}spec:\n{spec}")
    }

    fn client_policy(&mut self) -> String {
        let metadata = self.metadata("");
        let mut spec = self.targets(&[("", "Service"), ("gateway.networking.k8s.io", "Gateway")], &["", "", "http", "one", "none"]);
        if self.odds(50) {
            let plugin = self.pick(&["rules", "d", "nobody"]);
            spec.push_str(&format!("  router: {{plugin: {plugin}, config: {{rules: []}}}}\n"));
        }
        if self.odds(40) {
            let (name, namespace) = (self.pick(&NAMES), self.pick(&NAMESPACES));
            spec.push_str(&format!("  tls: {{certificateRefs: [{{kind: Secret, name: {name}, namespace: {namespace}}}]}}\n"));
        }
        if self.odds(30) {
            spec.push_str("  timeout: {http: {idleTimeout: 3s}}\n");
        }
        format!("apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\n{metadata}spec:\n{spec}")
    }

    fn gateway(&mut self) -> String {
        if self.odds(20) {
            let name = self.pick(&["theirs", "ours"]);
            let controller = self.pick(&["sluicegate.dev/gateway-controller", "other.example/controller"]);
            return format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\nspec: {{controllerName: {controller}}}\n"
            );
        }
        let metadata = self.metadata("");
        let class = self.pick(&["sluicegate", "sluicegate", "theirs", "ours"]);
        let mut spec = format!("  gatewayClassName: {class}\n");
        if self.odds(50) {
            let ip = self.pick(&["192.0.2.1", "192.0.2.9", "127.96.0.1"]);
            spec.push_str(&format!("  addresses: [{{value: {ip}}}]\n"));
        }
        let allowed = self.pick(&["", "Same", "All", "All", "Selector, selector: {matchLabels: {a: b}}"]);
        if !allowed.is_empty() {
            spec.push_str(&format!("  allowedListeners: {{namespaces: {{from: {allowed}}}}}\n"));
        }
        let listeners = self.listeners();
        format!("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n{metadata}spec:\n{spec}{listeners}")
    }

    fn listener_set(&mut self) -> String {
        let created = self.pick(&["", ", creationTimestamp: '2026-01-01T00:00:00Z'", ", creationTimestamp: '2026-01-02T00:00:00Z'"]);
        let metadata = self.metadata(created);
        let (name, namespace) = (self.pick(&NAMES), self.pick(&NAMESPACES));
        let listeners = self.listeners();
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\n{metadata}spec:\n  parentRef: {{name: {name}, namespace: {namespace}}}\n{listeners}"
        )
    }

    fn listeners(&mut self) -> String {
        let mut spec = String::from("  listeners:\n");
        for name in ["one", "two"] {
            let (protocol, port) = (self.pick(&["HTTP", "HTTP", "HTTPS", "TLS", "TCP", "UDP"]), self.pick(&["80", "81", "443"]));
            let host = self.pick(&["", "a.example", "b.example", "*.example"]);
            let host = if host.is_empty() || matches!(protocol, "TCP" | "UDP") { String::new() } else { format!(", hostname: '{host}'") };
            let (secret, namespace) = (self.pick(&NAMES), self.pick(&NAMESPACES));
            let tls = match protocol {
                "HTTPS" => format!(", tls: {{certificateRefs: [{{name: {secret}, namespace: {namespace}}}]}}"),
                "TLS" => ", tls: {mode: Passthrough}".to_owned(),
                _ => String::new(),
            };
            let routes = self.pick(&[
                "",
                "",
                ", allowedRoutes: {namespaces: {from: All}}",
                ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}",
                ", allowedRoutes: {kinds: [{kind: GRPCRoute}]}",
            ]);
            spec.push_str(&format!("  - {{name: {name}, port: {port}, protocol: {protocol}{host}{tls}{routes}}}\n"));
        }
        spec
    }

    fn route(&mut self) -> String {
        let created = if self.odds(20) { ", creationTimestamp: '2026-01-01T00:00:00Z'" } else { "" };
        let metadata = self.metadata(created);
        let kind = self.pick(&["HTTPRoute", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"]);
        let mut spec = String::from("  parentRefs:\n");
        for _ in 0..self.random.random_range(1..3) {
            let (name, namespace) = (self.pick(&NAMES), self.pick(&NAMESPACES));
            let more = self.pick(&["", "", ", sectionName: one", ", port: 80", ", sectionName: none"]);
            let kind = self.pick(&["", "", ", kind: ListenerSet"]);
            spec.push_str(&format!("  - {{name: {name}, namespace: {namespace}{kind}{more}}}\n"));
        }
        let host = self.pick(&["a.example", "b.example", "*.example", "other.test"]);
        if kind == "TLSRoute" || (!matches!(kind, "TCPRoute" | "UDPRoute") && self.odds(60)) {
            spec.push_str(&format!("  hostnames: ['{host}']\n"));
        }
        let (name, port, weight) = (self.pick(&NAMES), self.pick(&["80", "81", "82"]), self.pick(&["0", "1", "3"]));
        let namespace = if self.odds(40) { format!(", namespace: {}", self.pick(&NAMESPACES)) } else { String::new() };
        let filter = if kind == "HTTPRoute" && self.odds(30) {
            let name = self.pick(&NAMES);
            format!("    filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 80}}}}}}]\n")
        } else {
            String::new()
        };
        let rule = if matches!(kind, "HTTPRoute" | "GRPCRoute") && self.odds(50) { "    name: one\n" } else { "" };
        spec.push_str(&format!("  rules:\n  - backendRefs: [{{name: {name}, port: {port}, weight: {weight}{namespace}}}]\n{rule}{filter}"));
        format!("apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n{metadata}spec:\n{spec}")
    }

    fn namespace(&mut self) -> String {
        let (name, value) = (self.pick(&NAMESPACES), self.pick(&["b", "c"]));
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{a: {value}}}}}\n")
    }

    fn plugin(&mut self) -> String {
        let metadata = self.metadata("");
        let kind = self.pick(&["balancer", "router", "discovery"]);
        let policy = self.pick(&["Fallback", "Fail"]);
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\n{metadata}spec: {{kind: {kind}, source: {{file: x.wasm}}, failurePolicy: {policy}}}\n"
        )
    }

    fn tls_policy(&mut self) -> String {
        let metadata = self.metadata("");
        let (target, map) = (self.pick(&NAMES), self.pick(&NAMES));
        let section = if self.odds(30) { ", sectionName: http" } else { "" };
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n{metadata}spec:\n  targetRefs: [{{group: \"\", kind: Service, name: {target}{section}}}]\n  validation: {{hostname: a.example, caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: {map}}}]}}\n"
        )
    }

    fn secret(&mut self) -> String {
        let metadata = self.metadata("");
        if self.odds(40) {
            let text = self.pick(&["nonsense", "-----BEGIN CERTIFICATE-----"]);
            return format!("apiVersion: v1\nkind: ConfigMap\n{metadata}data: {{ca.crt: '{text}'}}\n");
        }
        let (certificate, key) = (&self.certificate, &self.key);
        format!("apiVersion: v1\nkind: Secret\n{metadata}type: kubernetes.io/tls\ndata: {{tls.crt: {certificate}, tls.key: {key}}}\n")
    }

    fn grant(&mut self) -> String {
        let metadata = self.metadata("");
        let (group, kind) = if self.odds(70) {
            ("gateway.networking.k8s.io", self.pick(&["Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "TCPRoute"]))
        } else {
            ("sluicegate.dev", self.pick(&["ClientTrafficPolicy", "BackendTrafficPolicy"]))
        };
        let (namespace, to) = (self.pick(&NAMESPACES), self.pick(&["Secret", "Service"]));
        format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n{metadata}spec:\n  from: [{{group: {group}, kind: {kind}, namespace: {namespace}}}]\n  to: [{{group: \"\", kind: {to}}}]\n"
        )
    }

    /// What an allocator may have given. Numbers that collide are faults of the plan.
    pub(crate) fn allocations(&mut self, objects: &Objects) -> Allocations {
        let mut made = Allocations::default();
        for service in objects.of_kind("Service") {
            let id = (service.key.namespace.clone(), service.key.name.clone());
            let ip = |n: u32| IpAddr::from([127, 96, 0, u8::try_from(n).unwrap_or_default()]);
            made.cluster_ips.insert(id.clone(), vec![ip(self.random.random_range(1..6))]);
            if self.odds(30) {
                made.node_ports.insert((id.0.clone(), id.1.clone(), 80, PortProtocol::Tcp), self.random.random_range(30000..30004));
            }
            if self.odds(10) {
                made.load_balancer.insert(id.clone(), vec!["192.0.2.1".parse().expect("an address")]);
            }
            if self.odds(10) {
                made.health_check_node_ports.insert(id, self.random.random_range(30000..30004));
            }
        }
        for gateway in objects.of_kind("Gateway") {
            let id = (gateway.key.namespace.clone(), gateway.key.name.clone());
            if self.odds(50) {
                let ips: &[&str] = if self.odds(30) { &[] } else { &["192.0.2.9"] };
                made.gateways.insert(id, ips.iter().map(|ip| ip.parse().expect("an address")).collect());
            }
        }
        made
    }
}
