//! Policies that target routes of connections and datagrams, Gateways and ListenerSets, and what becomes of those whose plugin refuses them.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sluicegate_tests::{PATIENCE, connect, eventually};

use super::world::{World, gateway, get, route_of};

/// A policy of namespace `infra` with one target.
fn policy(kind: &str, name: &str, target: &str, spec: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{targetRefs: [{{{target}}}], {spec}}}\n---\n"
    )
}

fn backend_policy(name: &str, target: &str, spec: &str) -> String {
    policy("BackendTrafficPolicy", name, target, spec)
}

const IN_TURN: &str = "loadBalancer: {plugin: round-robin}";
const BY_CLIENT: &str = "loadBalancer: {plugin: maglev, hash: {type: SourceIP}}";

/// A Service `pair` of two endpoints that answer connections and datagrams with their names, and requests with theirs.
fn pair(world: &World) -> String {
    let slice = |name: &str, ports: &str, addresses: [u8; 2]| {
        let addresses = addresses.map(|i| format!("{{addresses: [{}]}}", world.gateway.ip(i))).join(", ");
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: infra, labels: {{kubernetes.io/service-name: pair}}}}\naddressType: IPv4\nports: [{ports}]\nendpoints: [{addresses}]\n---\n"
        )
    };
    let ports = "{name: tcp, port: 9000}, {name: udp, port: 5300, protocol: UDP}, {name: http, port: 8080, appProtocol: http}";
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: pair, namespace: infra}}\nspec: {{ports: [{ports}]}}\n---\n")
        + &slice("plain", "{name: tcp, port: 80}, {name: udp, port: 53, protocol: UDP}", [40, 41])
        + &slice("requests", "{name: http, port: 80}", [11, 12])
}

/// A TCPRoute or UDPRoute for listener `section` of Gateway `g`, whose rule is called `only`.
fn l4_route(kind: &str, section: &str, port: u16) -> String {
    let rules = format!("  rules: [{{name: only, backendRefs: [{{name: pair, port: {port}}}]}}]");
    route_of("infra", "r", &format!("{{name: g, sectionName: {section}}}"), &rules).replace("HTTPRoute", kind)
}

/// Who answers a connection.
fn connected(at: SocketAddr) -> String {
    connect(at).map(|(name, _)| name).unwrap_or_default()
}

/// Who answers a datagram from a socket of its own.
fn answered(at: SocketAddr) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
    let (mut content, _) = ([0; 64], socket.send_to(b"hello", at));
    socket.recv(&mut content).map(|length| String::from_utf8_lossy(&content[..length]).into_owned()).unwrap_or_default()
}

/// Waits until what is asked for 20 times is answered by one endpoint alone, or by both.
fn is_led(what: &str, alone: bool, ask: impl Fn() -> String) {
    eventually(&format!("{what}: led to {}", if alone { "one" } else { "both" }), || {
        let seen: BTreeSet<String> = (0..20).map(|_| ask()).filter(|name| !name.is_empty()).collect();
        seen.len() == if alone { 1 } else { 2 }
    });
}

fn accepted(world: &World, plural: &str, name: &str) {
    world.condition(plural, name, "/status/ancestors/0/conditions", "Accepted", ("True", "Accepted"));
}

/// What the first condition of a policy's first ancestor says.
fn message(world: &World, plural: &str, name: &str) -> String {
    let object = world.object(plural, name);
    object["status"]["ancestors"][0]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn policies_of_l4_routes_rules_and_gateways_say_how_connections_and_flows_are_balanced() {
    let listeners = "  - {name: tcp, port: 9301, protocol: TCP}\n  - {name: udp, port: 5301, protocol: UDP}";
    let world = World::new(&gateway("g", 4, listeners));
    let ways: [(&str, &str, u16, u16, fn(SocketAddr) -> String); 2] =
        [("TCPRoute", "tcp", 9000, 9301, connected), ("UDPRoute", "udp", 5300, 5301, answered)];
    for (kind, section, port, listener, ask) in ways {
        let at = SocketAddr::new(world.address(4), listener);
        let of = |what: &str, alone: bool| is_led(&format!("{kind}, {what}"), alone, || ask(at));
        world.apply("pair", &(pair(&world) + &l4_route(kind, section, port)));
        let of_service = backend_policy("service", "kind: Service, name: pair", IN_TURN);
        world.apply("policies", &backend_policy("gateway", "kind: Gateway, name: g", BY_CLIENT));
        of("a Gateway's balancer", true);
        world.apply("policies", &(backend_policy("gateway", &format!("kind: Gateway, name: g, sectionName: {section}"), BY_CLIENT)));
        of("a listener's", true);
        accepted(&world, "backendtrafficpolicies", "gateway");
        world.apply("policies", &(backend_policy("gateway", "kind: Gateway, name: g", BY_CLIENT) + &of_service));
        of("the Service's own counts before", false);
        // What is about requests has no effect, which is said; the rest counts.
        let spec = format!("{BY_CLIENT}, rateLimit: {{type: Local, local: {{rules: [{{limit: {{requests: 1, unit: Hour}}}}]}}}}");
        world.apply("policies", &(backend_policy("route", &format!("kind: {kind}, name: r"), &spec) + &of_service));
        of("a route's counts before that", true);
        accepted(&world, "backendtrafficpolicies", "route");
        let said = message(&world, "backendtrafficpolicies", "route");
        assert!(said.contains("spec.rateLimit has no effect") && !said.contains("loadBalancer has no effect"), "{said}");
        let rule = backend_policy("rule", &format!("kind: {kind}, name: r, sectionName: only"), IN_TURN);
        world.apply("policies", &(backend_policy("route", &format!("kind: {kind}, name: r"), BY_CLIENT) + &rule));
        of("a rule's counts first", false);
        accepted(&world, "backendtrafficpolicies", "rule");
        let ancestor = world.object("backendtrafficpolicies", "rule")["status"]["ancestors"][0]["ancestorRef"].clone();
        let wanted = serde_json::json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "infra", "name": "r", "sectionName": "only"});
        assert_eq!(ancestor, wanted);
        world.apply("policies", &rule.replace("only", "other"));
        world.condition("backendtrafficpolicies", "rule", "/status/ancestors/0/conditions", "Accepted", ("False", "TargetNotFound"));
    }
}

#[test]
fn a_balancer_of_a_gateway_is_for_services_whose_policy_names_none() {
    let rules = "  rules: [{name: only, backendRefs: [{name: pair, port: 8080}]}]";
    let world = World::new(&route_of("infra", "r", "{name: same-namespace}", rules));
    let by_header = "loadBalancer: {plugin: maglev, hash: {type: Header, header: {name: x-key}}}";
    let of = |what: &str, alone: bool| {
        is_led(what, alone, || world.ask(1, &get("/").header("x-key", "k")).map(|answer| answer.backend).unwrap_or_default());
    };
    let of_gateway = backend_policy("gateway", "kind: Gateway, name: same-namespace", by_header);
    world.apply("pair", &pair(&world));
    world.apply("policies", &of_gateway);
    of("a Gateway's", true);
    accepted(&world, "backendtrafficpolicies", "gateway");
    assert_eq!(message(&world, "backendtrafficpolicies", "gateway"), "");
    let slow = backend_policy("service", "kind: Service, name: pair", "loadBalancer: {slowStart: {window: 1ms}}");
    world.apply("policies", &(of_gateway.clone() + &slow));
    of("slow start names no balancer", true);
    world.apply("policies", &(of_gateway.clone() + &backend_policy("service", "kind: Service, name: pair", IN_TURN)));
    of("the Service's", false);
    let listener = backend_policy("listener", "kind: Gateway, name: same-namespace, sectionName: http", IN_TURN);
    world.apply("policies", &(of_gateway + &listener));
    of("the listener's counts before its Gateway's", false);
}

#[test]
fn policies_of_a_listener_set_count_before_its_gateways_and_for_its_listeners_only() {
    // So many that asking again until a policy counts does not come to an end of them.
    let limit = |n: u32| format!("rateLimit: {{type: Local, local: {{rules: [{{limit: {{requests: {n}, unit: Hour}}}}]}}}}");
    let named = |name: &str| format!("headers: {{earlyRequestHeaders: {{set: [{{name: x-policy, value: {name}}}]}}}}");
    let holder = gateway("g", 4, "  - {name: a, port: 80, protocol: HTTP}")
        .replace("  listeners:\n", "  allowedListeners: {namespaces: {from: Same}}\n  listeners:\n");
    let set = "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: s, namespace: infra}\nspec:\n  parentRef: {name: g}\n  listeners:\n  - {name: a, port: 8081, protocol: HTTP}\n  - {name: b, port: 8082, protocol: HTTP}\n---\n";
    let parents = "{name: g}, {kind: ListenerSet, name: s}";
    let manifests = holder + set + &route_of("infra", "r", parents, "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]");
    let world = World::new(&manifests);
    let policies = |kind: &str, spec: &dyn Fn(&str, u32) -> String| {
        policy(kind, "gateway", "kind: Gateway, name: g", &spec("gateway", 10_000))
            + &policy(kind, "set", "kind: ListenerSet, name: s", &spec("set", 5_000))
            + &policy(kind, "listener", "kind: ListenerSet, name: s, sectionName: a", &spec("listener", 2_000))
    };
    let told = |port: u16| {
        let answer = world.expect_at(SocketAddr::new(world.address(4), port), &get("/"), "ib1");
        (answer.saw("x-policy").unwrap_or_default(), answer.header("x-ratelimit-limit").unwrap_or_default())
    };
    let reach = |wanted: [(&str, &str); 3]| {
        let mut last = Vec::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while last != wanted.map(|(policy, limit)| (policy.to_owned(), limit.to_owned())) {
            assert!(std::time::Instant::now() < deadline, "{last:?} and not {wanted:?}");
            last = [80, 8081, 8082].map(&told).to_vec();
        }
    };
    reach([("", ""); 3]);
    let backend = policies("BackendTrafficPolicy", &|_, n| limit(n));
    let client = policies("ClientTrafficPolicy", &|name, _| named(name));
    world.apply("backend", &backend);
    world.apply("client", &client);
    reach([("gateway", "10000"), ("listener", "2000"), ("set", "5000")]);
    for plural in ["backendtrafficpolicies", "clienttrafficpolicies"] {
        for name in ["gateway", "set", "listener"] {
            accepted(&world, plural, name);
        }
        let ancestor = world.object(plural, "listener")["status"]["ancestors"][0]["ancestorRef"].clone();
        let wanted = serde_json::json!({"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "namespace": "infra", "name": "s", "sectionName": "a"});
        assert_eq!(ancestor, wanted);
    }
    let without = |policies: &str, name: &str| -> String {
        policies.split_inclusive("---\n").filter(|object| !object.contains(&format!("name: {name},"))).collect()
    };
    world.apply("backend", &without(&backend, "set"));
    world.apply("client", &without(&client, "set"));
    reach([("gateway", "10000"), ("listener", "2000"), ("gateway", "10000")]);
    // A policy of a listener that is the Gateway's is not one of the set's of that name.
    let own = "kind: Gateway, name: g, sectionName: a";
    world.apply("backend", &backend_policy("own", own, &limit(7_000)));
    world.apply("client", &policy("ClientTrafficPolicy", "own", own, &named("own")));
    reach([("own", "7000"), ("", ""), ("", "")]);
    // What targets a set that is not taken, or a listener that it has not, counts for nothing.
    let other = backend_policy("other", "kind: ListenerSet, name: s, sectionName: c", &limit(7_000));
    let none = backend_policy("none", "kind: ListenerSet, name: t", &limit(7_000));
    world.apply("backend", &(other + &none + &backend_policy("set", "kind: ListenerSet, name: s", &limit(7_000))));
    for name in ["other", "none"] {
        world.condition("backendtrafficpolicies", name, "/status/ancestors/0/conditions", "Accepted", ("False", "TargetNotFound"));
    }
    world.apply("test", &manifests.replace("from: Same", "from: None"));
    world.condition("backendtrafficpolicies", "set", "/status/ancestors/0/conditions", "Accepted", ("False", "Invalid"));
}

/// The router of a ListenerSet's policy takes what its listeners take, and is of the set's namespace.
#[test]
fn a_router_of_a_listener_sets_policy_decides_for_its_listeners() {
    let holder = gateway("g", 4, "  - {name: a, port: 80, protocol: HTTP}")
        .replace("  listeners:\n", "  allowedListeners: {namespaces: {from: All}}\n  listeners:\n");
    let set = "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: s, namespace: app}\nspec:\n  parentRef: {name: g, namespace: infra}\n  listeners:\n  - {name: a, port: 8081, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}\n---\n";
    let parents = "{name: g}, {kind: ListenerSet, name: s, namespace: app}";
    let router = policy(
        "ClientTrafficPolicy",
        "led",
        "kind: ListenerSet, name: s",
        "router: {plugin: rules, config: {rules: [{backendRefs: [{name: app-v1, port: 8080}]}]}}",
    )
    .replace("namespace: infra", "namespace: app");
    let world =
        World::new(&(holder + set + &route_of("infra", "r", parents, "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]") + &router));
    world.expect(4, &get("/"), "ib1");
    world.expect_at(SocketAddr::new(world.address(4), 8081), &get("/"), "app-v1");
    world.condition("httproutes", "r", "/status/parents/0/conditions", "Accepted", ("True", "Accepted"));
    world.condition("httproutes", "r", "/status/parents/1/conditions", "Accepted", ("False", "Overridden"));
}

#[test]
fn what_only_a_plugin_refuses_is_in_the_status_of_the_policy_and_of_the_route() {
    let balancer = |size: u32| format!("loadBalancer: {{plugin: maglev, config: {{tableSize: {size}}}}}");
    let router = |status: u32| {
        format!(
            "router: {{plugin: rules, config: {{rules: [{{filters: [{{type: DirectResponse, directResponse: {{statusCode: {status}}}}}]}}]}}}}"
        )
    };
    let filter = |status: u32| {
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: HTTPRouteFilter\nmetadata: {{name: led, namespace: infra}}\nspec: {{{}}}\n---\n",
            router(status)
        )
    };
    let extension = "filters: [{type: ExtensionRef, extensionRef: {group: sluicegate.dev, kind: HTTPRouteFilter, name: led}}]";
    let to = "backendRefs: [{name: ib1, port: 8080}]";
    let whole =
        route_of("infra", "whole", "{name: same-namespace}", &format!("  hostnames: [whole.example]\n  rules: [{{{extension}, {to}}}]"));
    let part = route_of(
        "infra",
        "part",
        "{name: same-namespace}",
        &format!("  rules:\n  - {{name: led, matches: [{{path: {{value: /led}}}}], {extension}, {to}}}\n  - {{{to}}}"),
    );
    let all = |size: u32, status: u32| {
        backend_policy("of-service", "kind: Service, name: ib2", &balancer(size))
            + &backend_policy("of-route", "kind: HTTPRoute, name: part", &balancer(size))
            + &backend_policy("of-gateway", "kind: Gateway, name: same-namespace", &balancer(size))
            + &policy("ClientTrafficPolicy", "led", "kind: Gateway, name: all-namespaces", &router(status))
            + &filter(status)
    };
    let world = World::new(&(whole + &part));
    // No table has so many places, and no answer that status.
    world.apply("policies", &all(4, 9999));
    world.expect(1, &get("/"), "ib1");
    let policies = ["of-service", "of-route", "of-gateway"].map(|name| ("backendtrafficpolicies", name));
    for (plural, name) in policies.into_iter().chain([("clienttrafficpolicies", "led")]) {
        world.condition(plural, name, "/status/ancestors/0/conditions", "Accepted", ("False", "Invalid"));
        let (said, plugin) = (message(&world, plural, name), if name == "led" { "rules" } else { "maglev" });
        assert!(said.contains(&format!("plugin {plugin}")), "{name}: {said}");
    }
    world.route("httproutes", "whole", "Accepted", ("False", "UnsupportedValue"));
    world.route("httproutes", "part", "Accepted", ("True", "Accepted"));
    world.route("httproutes", "part", "PartiallyInvalid", ("True", "UnsupportedValue"));
    let conditions = world.object("httproutes", "part")["status"]["parents"][0]["conditions"].to_string();
    assert!(conditions.contains("HTTPRouteFilter infra/led") && conditions.contains("plugin rules"), "{conditions}");
    world.expect(1, &get("/led"), 503);
    world.expect(2, &get("/"), 503);
    world.apply("policies", &all(5, 418));
    for (plural, name) in policies.into_iter().chain([("clienttrafficpolicies", "led")]) {
        accepted(&world, plural, name);
    }
    world.accepted("httproutes", "whole");
    world.expect(1, &get("/led"), 418);
    world.expect(2, &get("/"), 418);
}

#[test]
fn a_gateway_whose_parameters_name_its_address_takes_none_of_the_pool() {
    let parameters = |ip: &str| {
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: GatewayParameters\nmetadata: {{name: own, namespace: infra}}\nspec: {{addresses: [{ip}]}}\n---\n"
        )
    };
    let of = |name: &str, infrastructure: &str| {
        gateway(name, 4, "  - {name: http, port: 8080, protocol: HTTP}").replace("  addresses: [{value: $4}]\n", infrastructure)
    };
    let own = "  infrastructure: {parametersRef: {group: sluicegate.dev, kind: GatewayParameters, name: own}}\n";
    let gateways = of("a", own) + &of("b", "") + &of("c", "");
    let world = World::with_pool(&(gateways.clone() + &parameters("$4")));
    let pool = [world.gateway.ip(97), world.gateway.ip(98)];
    for name in ["a", "b", "c"] {
        world.of_gateway(name, "Programmed", ("True", "Programmed"));
    }
    assert_eq!(world.addresses("a"), [world.address(4)]);
    assert_eq!([world.addresses("b"), world.addresses("c")].concat(), pool);
    // One of the pool that parameters name is nobody else's, but for who has it.
    world.apply("test", &(of("a", own) + &parameters(&pool[0].to_string())));
    eventually("the pool's first", || world.addresses("a") == pool[..1]);
    world.apply("test", &(gateways.clone() + &parameters(&pool[0].to_string())));
    world.of_gateway("c", "Programmed", ("False", "AddressNotAssigned"));
    assert_eq!([world.addresses("a"), world.addresses("b")].concat(), pool);
    // Parameters that name another one let it go, and a Gateway without them takes part again.
    world.apply("test", &(gateways + &parameters("$4")));
    world.of_gateway("c", "Programmed", ("True", "Programmed"));
    world.apply("test", &(of("a", "") + &of("b", "")));
    eventually("both have one of the pool", || {
        let held = [world.addresses("a"), world.addresses("b")].concat();
        held.iter().collect::<BTreeSet<_>>() == pool.iter().collect()
    });
}
