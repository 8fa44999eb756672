//! The plan that is kept up to date is the plan from nothing, whatever has changed in whatever order, and a change costs what it reaches.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sluicegate_config::object::{Object, ObjectKey};
use sluicegate_config::objects::{Change, Objects};
use sluicegate_config::plan::{Allocations, Delta, Plan, Planner, Settings, compile};
use sluicegate_config::{manifest, object};
use sluicegate_model::route::PortProtocol;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const NAMESPACES: [&str; 2] = ["one", "two"];

fn parse(text: &str) -> Arc<Object> {
    let mut parsed = manifest::parse(Path::new("world.yaml"), text);
    assert!(parsed.faults.is_empty(), "{text}\n{:?}", parsed.faults);
    let (made, faults) = object::decode(parsed.documents.remove(0));
    Arc::new(made.unwrap_or_else(|| panic!("{text}\n{faults:?}")))
}

/// Writes objects at random, few names and many meetings.
struct Writer {
    random: StdRng,
    certificate: String,
    key: String,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        let base64 = |text: &str| base64(text.as_bytes());
        Self { random: StdRng::seed_from_u64(seed), certificate: base64(&made.cert.pem()), key: base64(&made.signing_key.serialize_pem()) }
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of.choose(&mut self.random).copied().unwrap_or_default()
    }

    fn odds(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn object(&mut self) -> Arc<Object> {
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
        let mut spec = self.targets(&[("", "Service")], &["", "", "http", "none"]);
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
        spec.push_str(&format!("  rules:\n  - backendRefs: [{{name: {name}, port: {port}, weight: {weight}{namespace}}}]\n{filter}"));
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

    /// What an allocator may have given: numbers that meet are told in the plan.
    fn allocations(&mut self, objects: &Objects) -> Allocations {
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

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, i| (bits << 8) | usize::from(chunk.get(i).copied().unwrap_or_default()));
        let letter = |i: usize| if i > chunk.len() { '=' } else { char::from(LETTERS[(bits >> (18 - 6 * i)) & 63]) };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// All that is in a plan, as text. The order of faults means nothing: they are sorted before they are shown.
fn shown(plan: &Plan) -> Vec<String> {
    let mut faults: Vec<String> = plan.faults.iter().map(|fault| format!("{fault:?}")).collect();
    faults.sort();
    let services = plan.services.values().map(|s| format!("{s:?}"));
    let all = services.chain(plan.listeners.values().map(|l| format!("{l:?}"))).chain(plan.routers.iter().map(|r| format!("{r:?}")));
    let all = all.chain(plan.gateways.iter().map(|g| format!("{g:?}"))).chain(plan.routes.iter().map(|r| format!("{r:?}")));
    let all = all.chain(plan.listener_sets.iter().map(|s| format!("{s:?}"))).chain(plan.conflicts.iter().map(|c| format!("{c:?}")));
    let all = all.chain(plan.health_checks.iter().map(|c| format!("{c:?}"))).chain(plan.plugins.iter().map(|p| format!("{p:?}")));
    all.chain(faults).collect()
}

/// A planner and its world.
struct World {
    objects: Objects,
    allocations: Allocations,
    planner: Planner,
}

impl World {
    fn new() -> Self {
        Self { objects: Objects::default(), allocations: Allocations::default(), planner: Planner::new(Settings::default()) }
    }

    fn change(&mut self, changes: &[Change], allocations: Allocations) -> Delta {
        let before: Vec<_> = changes.iter().map(|change| (change, self.objects.change(change))).collect();
        let allocated = allocations.differences(&self.allocations);
        self.allocations = allocations;
        self.planner.update(&self.objects, before, &self.allocations, allocated)
    }
}

#[test]
fn a_plan_that_is_kept_up_to_date_is_the_plan_from_nothing() {
    for seed in 0..12 {
        let mut writer = Writer::new(seed);
        let mut world = World::new();
        for step in 0..60 {
            let mut changes: Vec<Change> = Vec::new();
            for _ in 0..writer.random.random_range(1..4) {
                let there: Vec<ObjectKey> = world.objects.iter().map(|object| object.key.clone()).collect();
                let change = match there.choose(&mut writer.random) {
                    Some(key) if writer.odds(30) => Change::Gone(key.clone()),
                    _ => Change::Applied(writer.object()),
                };
                if !changes.iter().any(|other| other.key() == change.key()) {
                    changes.push(change);
                }
            }
            let mut after = world.objects.clone();
            changes.iter().for_each(|change| drop(after.change(change)));
            let allocations = if writer.odds(50) { writer.allocations(&after) } else { world.allocations.clone() };
            let delta = world.change(&changes, allocations);
            let all: Vec<Arc<Object>> = world.objects.iter().cloned().collect();
            let anew = compile(&all, &world.allocations, &Settings::default());
            let (kept, fresh) = (shown(world.planner.plan()), shown(&anew));
            let differs = kept.iter().zip(&fresh).find(|(kept, fresh)| kept != fresh);
            assert!(
                kept == fresh,
                "seed {seed}, step {step}, {changes:?}: {} parts made\nkept  {:?}\nfresh {:?}",
                delta.made,
                differs.map(|(kept, _)| kept),
                differs.map(|(_, fresh)| fresh)
            );
            for (key, (_, now)) in &delta.services {
                let planned = world.planner.service(&key.0, &key.1);
                assert!(planned.map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr), "seed {seed}, step {step}: {key:?}");
            }
        }
    }
}

/// `services` Services, each with a policy and an EndpointSlice.
fn many(services: usize) -> (Vec<Arc<Object>>, Allocations) {
    let mut allocations = Allocations::default();
    let mut objects = Vec::new();
    for i in 0..services {
        let ip = IpAddr::from([127, 96, u8::try_from(i / 250).unwrap_or_default(), u8::try_from(i % 250 + 1).unwrap_or_default()]);
        allocations.cluster_ips.insert(("many".to_owned(), format!("s{i}")), vec![ip]);
        objects.push(service(i, "http"));
        objects.push(policy(i, 3));
        objects.push(parse(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{i}, namespace: many, labels: {{kubernetes.io/service-name: s{i}}}}}\naddressType: IPv4\nports: []\nendpoints: [{{addresses: [10.0.0.1]}}]\n"
        )));
    }
    (objects, allocations)
}

fn service(i: usize, protocol: &str) -> Arc<Object> {
    parse(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}, namespace: many}}\nspec: {{ports: [{{name: http, port: 80, appProtocol: {protocol}}}]}}\n"
    ))
}

fn policy(i: usize, seconds: usize) -> Arc<Object> {
    parse(&format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: p{i}, namespace: many}}\nspec:\n  targetRefs: [{{group: \"\", kind: Service, name: s{i}}}]\n  timeout: {{http: {{requestTimeout: {seconds}s}}}}\n"
    ))
}

#[test]
fn a_change_makes_the_parts_that_it_reaches_and_no_others() {
    let mut world = World::new();
    let (objects, allocations) = many(100);
    let changes: Vec<Change> = objects.iter().cloned().map(Change::Applied).collect();
    assert_eq!(world.change(&changes, allocations.clone()).made, 200);
    let before = world.planner.plan().clone();
    let delta = world.change(&[Change::Applied(policy(7, 9))], allocations.clone());
    assert_eq!((delta.made, delta.services.len()), (2, 1), "the policy, and the Service that it targets");
    let other = before.services.values().zip(world.planner.plan().services.values()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(other, 1, "the others are the same ones");
    let delta = world.change(&[Change::Applied(service(7, "grpc"))], allocations.clone());
    assert_eq!((delta.made, delta.services.len()), (2, 1));
    let delta = world.change(&[Change::Applied(objects[2].clone())], allocations.clone());
    assert_eq!(delta.made, 0, "the plan does not look at endpoints");
    let delta = world.change(&[Change::Gone(objects[0].key.clone())], allocations);
    assert_eq!((delta.made, delta.services.len()), (2, 1));
    assert_eq!(world.planner.plan().services.len(), 99);
}

/// A Gateway, and `routes` HTTPRoutes that are attached to it, each to a Service of its own.
fn routed(routes: usize) -> Vec<Arc<Object>> {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: many}\nspec:\n  gatewayClassName: sluicegate\n  listeners: [{name: http, port: 80, protocol: HTTP}]\n";
    let mut objects = vec![parse(gateway)];
    for i in 0..routes {
        objects.push(service(i, "http"));
        objects.push(route(i, "/"));
    }
    objects
}

fn route(i: usize, path: &str) -> Arc<Object> {
    parse(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{i}, namespace: many}}\nspec:\n  parentRefs: [{{name: g}}]\n  hostnames: [h{i}.example]\n  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: s{i}, port: 80}}]}}]\n"
    ))
}

#[test]
fn a_changed_route_makes_itself_and_its_gateway_and_no_other_route() {
    let mut world = World::new();
    let objects = routed(50);
    let changes: Vec<Change> = objects.iter().cloned().map(Change::Applied).collect();
    assert_eq!(world.change(&changes, Allocations::default()).made, 101);
    assert_eq!(world.planner.plan().gateways[0].listeners[0].routes, 50);
    assert_eq!(world.change(&[Change::Applied(route(7, "/other"))], Allocations::default()).made, 2);
    // The route is made anew, as it has looked at the Service, and comes to the same.
    assert_eq!(world.change(&[Change::Applied(service(7, "grpc"))], Allocations::default()).made, 2);
    assert_eq!(world.change(&[Change::Gone(service(7, "grpc").key.clone())], Allocations::default()).made, 3);
    assert_eq!(world.change(&[Change::Gone(route(7, "/").key.clone())], Allocations::default()).made, 2);
    assert_eq!(world.planner.plan().gateways[0].listeners[0].routes, 49);
}

#[test]
fn a_changed_listener_set_makes_itself_and_no_other_set() {
    let mut world = World::new();
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: many}\nspec:\n  gatewayClassName: sluicegate\n  allowedListeners: {namespaces: {from: All}}\n  listeners: [{name: http, port: 80, protocol: HTTP, hostname: own.example}]\n";
    let set = |i: usize, host: &str| {
        parse(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: l{i}, namespace: many}}\nspec:\n  parentRef: {{name: g}}\n  listeners: [{{name: http, port: 80, protocol: HTTP, hostname: {host}}}]\n"
        ))
    };
    let mut changes = vec![Change::Applied(parse(gateway))];
    changes.extend((0..50).map(|i| Change::Applied(set(i, &format!("h{i}.example")))));
    assert_eq!(world.change(&changes, Allocations::default()).made, 51);
    assert_eq!(world.change(&[Change::Applied(set(7, "other.example"))], Allocations::default()).made, 1);
    // A route of the Gateway is no concern of its sets, and what it allows is. The route has looked whether the Gateway is there.
    let of_gateway = route(1, "/");
    assert_eq!(world.change(&[Change::Applied(of_gateway)], Allocations::default()).made, 2);
    assert_eq!(world.change(&[Change::Applied(parse(&gateway.replace("All", "Same")))], Allocations::default()).made, 52);
    assert!(world.planner.plan().conflicts.is_empty());
}

#[test]
fn eight_times_the_objects_cost_about_eight_times_as_much() {
    let cost = |services: usize| {
        let (objects, allocations) = many(services);
        let once = || {
            let begun = std::time::Instant::now();
            let plan = compile(&objects, &allocations, &Settings::default());
            let all = Objects::new(&objects);
            let faults = sluicegate_config::diagnose::Diagnosis::new(&all).all(&plan);
            assert_eq!((plan.services.len(), faults.len()), (services, 0));
            begun.elapsed().as_secs_f64()
        };
        (0..3).map(|_| once()).fold(f64::MAX, f64::min)
    };
    let (few, many) = (cost(150), cost(1200));
    // Whatever walks over all objects for each makes it 64; the machine may be busy.
    assert!(many / few < 24.0, "{few} s, and {many} s for eight times as many");
}
