//! ListenerSets: which Gateway allows them, whose listeners come first, and whose routes they take.

use std::net::SocketAddr;

use super::secure::Identity;
use super::world::{World, gateway, get, route_of};

/// A Gateway of namespace `infra` with one listener for gateway-listener.com, that allows ListenerSets as `allowed` says.
fn allowing(allowed: &str) -> String {
    let http =
        "  - {name: gateway-listener, port: 80, protocol: HTTP, hostname: gateway-listener.com, allowedRoutes: {namespaces: {from: All}}}";
    with_allowed(&gateway("g", 4, http), allowed)
}

fn with_allowed(gateway: &str, allowed: &str) -> String {
    gateway.replace("  listeners:\n", &format!("  allowedListeners: {{namespaces: {allowed}}}\n  listeners:\n"))
}

/// A ListenerSet of Gateway `g`; `listeners` is the list, indented by two.
fn set(namespace: &str, name: &str, listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  parentRef: {{kind: Gateway, group: gateway.networking.k8s.io, name: g, namespace: infra}}\n  listeners:\n{listeners}\n---\n"
    )
}

/// A listener for HTTP at port 80 that takes routes of namespaces as `from` says.
fn http(name: &str, from: &str) -> String {
    format!("  - {{name: {name}, port: 80, protocol: HTTP, hostname: {name}.com, allowedRoutes: {{namespaces: {from}}}}}\n")
}

fn parent(set: &str, section: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    format!("{{kind: ListenerSet, group: gateway.networking.k8s.io, name: {set}, namespace: infra{section}}}")
}

/// A rule for requests to the path that is the route's name.
fn rule(name: &str, backend: &str) -> String {
    format!(
        "  rules: [{{matches: [{{path: {{type: PathPrefix, value: /{name}}}}}], backendRefs: [{{name: {backend}, namespace: infra, port: 8080}}]}}]"
    )
}

fn route(name: &str, parents: &str, backend: &str) -> String {
    route_of("infra", name, parents, &rule(name, backend))
}

/// The ListenerSet, its one listener and traffic to it are as they should be.
fn is_allowed(world: &World, name: &str) {
    world.of_set(name, "Accepted", ("True", "Accepted"));
    world.of_set(name, "Programmed", ("True", "Programmed"));
    for kind in ["Accepted", "Programmed", "ResolvedRefs"] {
        world.of_set_listener(name, 0, kind, ("True", kind));
    }
    world.of_set_listener(name, 0, "Conflicted", ("False", "NoConflicts"));
    world.expect(4, &get("/").host("allowed.com"), "ib1");
}

fn is_not_allowed(world: &World, name: &str) {
    world.of_set(name, "Accepted", ("False", "NotAllowed"));
    world.of_set(name, "Programmed", ("False", "NotAllowed"));
    world.expect(4, &get("/").host("not-allowed.com"), 404);
    world.route("httproutes", "of-the-other", "Accepted", ("False", "NoMatchingParent"));
}

/// Routes to a ListenerSet of `infra` called `allowed`, and to one called `not-allowed` in `namespace`.
fn to_both(namespace: &str) -> String {
    let to_ib1 = "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]";
    let other = format!("{{kind: ListenerSet, name: not-allowed, namespace: {namespace}}}");
    route_of("infra", "of-the-allowed", "{kind: ListenerSet, name: allowed}", to_ib1) + &route_of("infra", "of-the-other", &other, to_ib1)
}

fn none_is_allowed(gateway: &str) {
    let world = World::new(&(gateway.to_owned() + &set("infra", "not-allowed", &http("not-allowed", "{from: All}")) + &to_both("infra")));
    world.of_gateway("g", "Accepted", ("True", "Accepted"));
    world.attached_sets("g", 0);
    is_not_allowed(&world, "not-allowed");
}

#[test]
fn ListenerSetDefaultNotAllowed() {
    none_is_allowed(&allowing("{}").replace("  allowedListeners: {namespaces: {}}\n", ""));
}

#[test]
fn ListenerSetAllowedNamespaceNone() {
    none_is_allowed(&allowing("{from: None}"));
}

#[test]
fn ListenerSetAllowedNamespaceSame() {
    let sets = set("infra", "allowed", &http("allowed", "{from: All}")) + &set("web", "not-allowed", &http("not-allowed", "{from: All}"));
    let world = World::new(&(allowing("{from: Same}") + &sets + &to_both("web")));
    world.attached_sets("g", 1);
    is_allowed(&world, "allowed");
    is_not_allowed(&world, "not-allowed");
    // What the Gateway allows is looked at anew when it changes.
    world.apply("test", &(allowing("{from: All}") + &sets + &to_both("web")));
    world.of_set("not-allowed", "Accepted", ("True", "Accepted"));
    world.expect(4, &get("/").host("not-allowed.com"), "ib1");
    world.attached_sets("g", 2);
}

#[test]
fn ListenerSetAllowedNamespaceSelector() {
    let namespace = |label: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: chosen, labels: {{{label}}}}}\n");
    let sets = set("chosen", "allowed", &http("allowed", "{from: All}")) + &set("web", "not-allowed", &http("not-allowed", "{from: All}"));
    let routes = to_both("web").replace("name: allowed}", "name: allowed, namespace: chosen}");
    let world = World::new(&(allowing("{from: Selector, selector: {matchLabels: {allowed: ns}}}") + &sets + &routes));
    world.apply("namespace", &namespace("allowed: ns"));
    world.attached_sets("g", 1);
    is_allowed(&world, "allowed");
    is_not_allowed(&world, "not-allowed");
    world.apply("namespace", &namespace("allowed: other"));
    world.of_set("allowed", "Accepted", ("False", "NotAllowed"));
    world.expect(4, &get("/").host("allowed.com"), 404);
}

#[test]
fn ListenerSetAllowedRoutesNamespaces() {
    let listeners = http("all", "{from: All}")
        + &http("same", "{from: Same}")
        + &http("selector", "{from: Selector, selector: {matchLabels: {of: backend}}}");
    let sets = set("infra", "s", &listeners) + &set("other", "elsewhere", &http("cross", "{from: Same}"));
    let other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n---\n";
    let grant = "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: grant, namespace: infra}\nspec:
  from:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: web}
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}
  to: [{group: \"\", kind: Service}]\n---\n";
    let of = |namespace: &str, name: &str, backend: &str| route_of(namespace, name, &parent("s", ""), &rule(name, backend));
    let elsewhere = |namespace: &str, name: &str| {
        route_of(namespace, name, "{kind: ListenerSet, name: elsewhere, namespace: other}", &rule(name, "ib1"))
    };
    let routes = of("infra", "of-same", "ib1") + &of("web", "of-selected", "ib2") + &of("other", "of-another", "ib3");
    let routes = routes + &elsewhere("other", "of-set") + &elsewhere("infra", "of-gateway");
    let world = World::new(&(allowing("{from: All}") + &sets + other + grant + &routes));
    world.attached_sets("g", 2);
    world.attached_to("listenersets", "s", &[3, 1, 1]);
    world.attached_to("listenersets", "elsewhere", &[1]);
    for name in ["of-same", "of-selected", "of-another", "of-set"] {
        world.accepted("httproutes", name);
    }
    world.route("httproutes", "of-gateway", "Accepted", ("False", "NotAllowedByListeners"));
    for (host, served) in [
        ("all.com", &[("of-same", "ib1"), ("of-selected", "ib2"), ("of-another", "ib3")][..]),
        ("same.com", &[("of-same", "ib1")]),
        ("selector.com", &[("of-selected", "ib2")]),
        ("cross.com", &[("of-set", "ib1")]),
        ("gateway-listener.com", &[]),
    ] {
        for name in ["of-same", "of-selected", "of-another", "of-set", "of-gateway"] {
            let ask = get(&format!("/{name}")).host(host);
            match served.iter().find(|(served, _)| *served == name) {
                Some((_, backend)) => world.expect(4, &ask, *backend),
                None => world.expect(4, &ask, 404),
            };
        }
    }
}

#[test]
fn ListenerSetAllowedRoutesSupportedKinds() {
    let tls = "  - {name: tls-only, port: 443, protocol: TLS, hostname: tls-only.com, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}";
    let world = World::new(&(allowing("{from: All}") + &set("infra", "s", tls)));
    world.of_gateway("g", "Accepted", ("True", "Accepted"));
    world.of_set_listener("s", 0, "ResolvedRefs", ("False", "InvalidRouteKinds"));
    assert_eq!(world.object("listenersets", "s")["status"]["listeners"][0]["supportedKinds"], serde_json::json!([]));
}

/// Gateway `g` with the listeners g1 and g2, and the sets a and b with a1 and a2, b1 and b2.
fn two_sets() -> String {
    let listeners = |names: [&str; 2]| names.map(|name| http(name, "{from: All}")).concat();
    let own = with_allowed(&gateway("g", 4, &listeners(["g1", "g2"])), "{from: All}");
    own + &set("infra", "a", &listeners(["a1", "a2"])) + &set("infra", "b", &listeners(["b1", "b2"]))
}

#[test]
fn ListenerSetHTTPRouting() {
    let everywhere = format!("{{name: g}}, {}, {}", parent("a", ""), parent("b", ""));
    let routes = route("everywhere", &everywhere, "ib1")
        + &route("of-gateway", "{name: g}", "ib2")
        + &route("of-g1", "{name: g, sectionName: g1}", "ib3")
        + &route("of-a", &parent("a", ""), "ib2")
        + &route("of-section-a1", &parent("a", "a1"), "ib3")
        + &route("of-b", &parent("b", ""), "ib2");
    let world = World::new(&(two_sets() + &routes));
    world.attached_sets("g", 2);
    world.attached("g", &[3, 2]);
    world.attached_to("listenersets", "a", &[3, 2]);
    world.attached_to("listenersets", "b", &[2, 2]);
    for set in ["a", "b"] {
        world.of_set(set, "Programmed", ("True", "Programmed"));
        let kinds = world.object("listenersets", set)["status"]["listeners"][0]["supportedKinds"].clone();
        assert!(kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] == "HTTPRoute")), "{kinds}");
    }
    let served: [(&str, &[&str], &'static str); 6] = [
        ("everywhere", &["g1", "g2", "a1", "a2", "b1", "b2"], "ib1"),
        ("of-gateway", &["g1", "g2"], "ib2"),
        ("of-g1", &["g1"], "ib3"),
        ("of-a", &["a1", "a2"], "ib2"),
        ("of-section-a1", &["a1"], "ib3"),
        ("of-b", &["b1", "b2"], "ib2"),
    ];
    for (path, at, backend) in served {
        for listener in ["g1", "g2", "a1", "a2", "b1", "b2"] {
            let ask = get(&format!("/{path}")).host(&format!("{listener}.com"));
            if at.contains(&listener) {
                world.expect(4, &ask, backend);
            } else {
                world.expect(4, &ask, 404);
            }
        }
    }
}

#[test]
fn ListenerSetGatewayParentSectionNameNotFound() {
    let routes = route("by-set", &parent("a", "a1"), "ib1") + &route("by-gateway", "{name: g, sectionName: a1}", "ib2");
    let world = World::new(&(two_sets() + &routes));
    world.accepted("httproutes", "by-set");
    world.route("httproutes", "by-gateway", "Accepted", ("False", "NoMatchingParent"));
    world.attached("g", &[0, 0]);
    world.attached_to("listenersets", "a", &[1, 0]);
    world.expect(4, &get("/by-set").host("a1.com"), "ib1");
    world.expect(4, &get("/by-gateway").host("a1.com"), 404);
}

#[test]
fn ListenerSetDualParentRefIndependence() {
    let routes = route("both", &format!("{{name: g}}, {}", parent("a", "")), "ib1")
        + &route("one", &format!("{{name: g, sectionName: a1}}, {}", parent("a", "a1")), "ib2");
    let world = World::new(&(two_sets() + &routes));
    let second = "/status/parents/1/conditions";
    world.route("httproutes", "both", "Accepted", ("True", "Accepted"));
    world.condition("httproutes", "both", second, "Accepted", ("True", "Accepted"));
    world.route("httproutes", "one", "Accepted", ("False", "NoMatchingParent"));
    world.condition("httproutes", "one", second, "Accepted", ("True", "Accepted"));
    for (path, host, backend) in
        [("/both", "g1.com", Some("ib1")), ("/both", "a1.com", Some("ib1")), ("/one", "a1.com", Some("ib2")), ("/one", "g1.com", None)]
    {
        match backend {
            Some(backend) => world.expect(4, &get(path).host(host), backend),
            None => world.expect(4, &get(path).host(host), 404),
        };
    }
}

#[test]
fn ListenerSetRouteStatusScopedToParentRef() {
    let world = World::new(&(two_sets() + &route("of-gateway", "{name: g}", "ib1") + &route("of-set", &parent("a", ""), "ib2")));
    for (name, kind, parent) in [("of-gateway", "Gateway", "g"), ("of-set", "ListenerSet", "a")] {
        world.accepted("httproutes", name);
        let parents = world.object("httproutes", name)["status"]["parents"].clone();
        let parents = parents.as_array().expect("parents");
        assert_eq!(parents.len(), 1, "{parents:?}");
        let found = &parents[0]["parentRef"];
        assert_eq!((&found["kind"], &found["name"], &found["group"]), (&kind.into(), &parent.into(), &"gateway.networking.k8s.io".into()));
    }
    world.expect(4, &get("/of-gateway").host("g1.com"), "ib1");
    world.expect(4, &get("/of-gateway").host("a1.com"), 404);
    world.expect(4, &get("/of-set").host("a1.com"), "ib2");
    world.expect(4, &get("/of-set").host("g1.com"), 404);
}

/// The Gateway and four sets of the two tests of conflicts: `conflicting` makes the listener that is in conflict with the one for a host name. Returns
/// what was applied, but for the Gateway.
fn conflicts(conflicting: impl Fn(&str) -> String, reason: &'static str) -> (World, String) {
    let all = |name: &str| http(name, "{from: All}");
    let own = with_allowed(&gateway("g", 4, &(all("gateway-listener") + &all("with-gateway"))), "{from: Same}");
    // The oldest comes first, whatever its name.
    let aged = |name: &str, age: u8, listeners: String| {
        let created = format!("namespace: infra, creationTimestamp: '2026-01-01T00:00:0{age}Z'}}");
        set("infra", name, &listeners).replacen("namespace: infra}", &created, 1)
    };
    let sets = aged("z-first", 1, all("set-1") + &conflicting("with-gateway") + &all("with-set"))
        + &aged("with-gateway-only", 2, conflicting("with-gateway"))
        + &aged("with-set-too", 3, all("set-2") + &conflicting("with-set"))
        + &aged("a-last", 4, conflicting("with-set"));
    let to = |name: &str, parent: &str, backend: &str| {
        route_of("infra", name, parent, &format!("  rules: [{{backendRefs: [{{name: {backend}, port: 8080}}]}}]"))
    };
    let routes =
        to("own", "{name: g}", "ib1") + &to("first", &parent("z-first", ""), "ib2") + &to("second", &parent("with-set-too", ""), "ib3");
    let world = World::new(&(own + &sets + &routes));
    world.of_gateway("g", "Accepted", ("True", "Accepted"));
    world.attached_sets("g", 2);
    for kind in ["Accepted", "Programmed", "ResolvedRefs"] {
        for listener in [0, 1] {
            world.of_listener("g", listener, kind, ("True", kind));
        }
        for (set, listener) in [("z-first", 0), ("z-first", 2), ("with-set-too", 0)] {
            world.of_set_listener(set, listener, kind, ("True", kind));
        }
    }
    for (set, listener) in [("z-first", 1), ("with-gateway-only", 0), ("with-set-too", 1), ("a-last", 0)] {
        for (kind, status) in [("Accepted", "False"), ("Programmed", "False"), ("Conflicted", "True")] {
            world.of_set_listener(set, listener, kind, (status, reason));
        }
    }
    for set in ["z-first", "with-set-too"] {
        world.of_set(set, "Accepted", ("True", "ListenersNotValid"));
        world.of_set(set, "Programmed", ("True", "Programmed"));
    }
    for set in ["with-gateway-only", "a-last"] {
        world.of_set(set, "Accepted", ("False", "ListenersNotValid"));
        world.of_set(set, "Programmed", ("False", "ListenersNotValid"));
    }
    for (host, backend) in
        [("gateway-listener.com", "ib1"), ("with-gateway.com", "ib1"), ("set-1.com", "ib2"), ("with-set.com", "ib2"), ("set-2.com", "ib3")]
    {
        world.expect(4, &get("/").host(host), backend);
    }
    (world, sets + &routes)
}

#[test]
fn ListenerSetHostnameConflict() {
    let (world, others) = conflicts(|name| http(name, "{from: All}"), "HostnameConflict");
    // With the Gateway's own listeners gone, the next in order has what they had.
    let own = with_allowed(&gateway("g", 4, "  - {name: other, port: 8080, protocol: HTTP}"), "{from: Same}");
    world.apply("test", &(own + &others));
    world.expect(4, &get("/").host("with-gateway.com"), "ib2");
    world.of_set_listener("z-first", 1, "Conflicted", ("False", "NoConflicts"));
    world.of_set_listener("with-gateway-only", 0, "Conflicted", ("True", "HostnameConflict"));
}

#[test]
fn ListenerSetProtocolConflict() {
    let tcp = |name: &str| format!("  - {{name: {name}, port: 80, protocol: TCP, allowedRoutes: {{namespaces: {{from: All}}}}}}\n");
    let (world, others) = conflicts(tcp, "ProtocolConflict");
    // Without the Gateway's own listeners the first set's are in conflict with each other, and none of them wins.
    let own = with_allowed(&gateway("g", 4, "  - {name: other, port: 8080, protocol: HTTP}"), "{from: Same}");
    world.apply("test", &(own + &others));
    for listener in 0..3 {
        world.of_set_listener("z-first", listener, "Conflicted", ("True", "ProtocolConflict"));
    }
    world.of_set("z-first", "Accepted", ("False", "ListenersNotValid"));
}

#[test]
fn ListenerSetReferenceGrant() {
    let https = |name: &str| {
        format!(
            "  - {{name: {name}, port: 443, protocol: HTTPS, hostname: {name}.com, tls: {{certificateRefs: [{{name: certificate, namespace: web}}]}}}}"
        )
    };
    let grant = |name: &str, kind: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {{name: {name}, namespace: web}}\nspec:\n  from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: infra}}]\n  to: [{{group: \"\", kind: Secret}}]\n---\n"
        )
    };
    let identity = Identity::new(&["granted.com", "not-granted.com", "gateway-listener.com"]);
    let own = with_allowed(&gateway("g", 4, &https("gateway-listener")), "{from: All}");
    let sets = set("infra", "with", &https("granted")) + &set("app", "without", &https("not-granted"));
    let route = route("of-set", &parent("with", ""), "ib1");
    let world = World::new(&(own + &sets + &identity.secret("web", "certificate") + &route));
    world.apply("grant", &grant("of-gateway", "Gateway"));
    // The Gateway's grant is not the ListenerSet's.
    world.of_listener("g", 0, "ResolvedRefs", ("True", "ResolvedRefs"));
    world.of_set_listener("with", 0, "ResolvedRefs", ("False", "RefNotPermitted"));
    world.apply("grant", &(grant("of-gateway", "Gateway") + &grant("of-set", "ListenerSet")));
    world.of_set("with", "Accepted", ("True", "Accepted"));
    world.of_set("with", "Programmed", ("True", "Programmed"));
    world.of_set_listener("with", 0, "ResolvedRefs", ("True", "ResolvedRefs"));
    world.of_set("without", "Accepted", ("False", "ListenersNotValid"));
    world.of_set("without", "Programmed", ("False", "ListenersNotValid"));
    world.of_set_listener("without", 0, "ResolvedRefs", ("False", "RefNotPermitted"));
    let at = SocketAddr::new(world.address(4), 443);
    let answered = |host: &str| identity.ask(at, host, &get("/of-set")).is_ok_and(|answer| answer.backend == "ib1");
    sluicegate_tests::eventually("the certificate of the set", || answered("granted.com"));
    assert!(identity.ask(at, "not-granted.com", &get("/of-set")).is_err());
}
