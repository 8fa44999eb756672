//! HTTPRoute: which listeners take a route, and what it may refer to.

use std::net::SocketAddr;

use super::world::{World, gateway, get, grant, route, route_of};

const TO_IB1: &str = "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]";

#[test]
fn HTTPRouteCrossNamespace() {
    let parent = "{name: backend-namespaces, namespace: infra}";
    let world = World::new(&route_of("web", "r", parent, "  rules: [{backendRefs: [{name: web, port: 8080}]}]"));
    world.expect(3, &get("/"), "web");
    world.accepted("httproutes", "r");
}

#[test]
fn HTTPRouteInvalidCrossNamespaceParentRef() {
    let parent = "{name: same-namespace, namespace: infra}";
    let world = World::new(&route_of("web", "r", parent, "  rules: [{backendRefs: [{name: web, port: 8080}]}]"));
    world.route("httproutes", "r", "Accepted", ("False", "NotAllowedByListeners"));
    world.route("httproutes", "r", "ResolvedRefs", ("True", "ResolvedRefs"));
    world.attached("same-namespace", &[0]);
    world.expect(1, &get("/"), 404);
}

#[test]
fn HTTPRouteDisallowedKind() {
    let listener = "  - {name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: TLSRoute}]}}";
    let world = World::new(&(gateway("tls-only", 4, listener) + &route_of("infra", "r", "{name: tls-only}", TO_IB1)));
    world.route("httproutes", "r", "Accepted", ("False", "NotAllowedByListeners"));
    world.route("httproutes", "r", "ResolvedRefs", ("True", "ResolvedRefs"));
    world.attached("tls-only", &[0]);
}

fn no_parent(parent: &str) {
    let world = World::new(&route_of("infra", "r", parent, TO_IB1));
    world.route("httproutes", "r", "Accepted", ("False", "NoMatchingParent"));
    world.route("httproutes", "r", "ResolvedRefs", ("True", "ResolvedRefs"));
    world.attached("same-namespace", &[0]);
    world.expect(1, &get("/"), 404);
}

#[test]
fn HTTPRouteInvalidParentRefNotMatchingSectionName() {
    no_parent("{name: same-namespace, sectionName: http1}");
}

#[test]
fn HTTPRouteInvalidParentRefNotMatchingListenerPort() {
    no_parent("{name: same-namespace, port: 81}");
}

#[test]
fn HTTPRouteInvalidParentRefSectionNameNotMatchingPort() {
    no_parent("{name: same-namespace, sectionName: http, port: 81}");
}

#[test]
fn HTTPRouteListenerPortMatching() {
    let listeners = "  - {name: l1, port: 80, protocol: HTTP, hostname: foo.com}
  - {name: l2, port: 8080, protocol: HTTP, hostname: foo.com}
  - {name: l3, port: 8080, protocol: HTTP, hostname: bar.com}
  - {name: l4, port: 8090, protocol: HTTP, hostname: foo.com}
  - {name: l5, port: 8090, protocol: HTTP, hostname: bar.com}";
    let to = |name: &str| format!("  rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]");
    let routes = route_of("infra", "r1", "{name: ports, port: 80}", &to("ib1"))
        + &route_of("infra", "r2", "{name: ports, port: 8080}", &to("ib2"))
        + &route_of("infra", "r3", "{name: ports, port: 8090, sectionName: l4}", &to("ib3"));
    let world = World::new(&(gateway("ports", 4, listeners) + &routes));
    let at = |port| SocketAddr::new(world.address(4), port);
    let host = |name: &str, port: u16| get("/").host(&format!("{name}:{port}"));
    world.expect_at(at(80), &host("foo.com", 80), "ib1");
    world.expect_at(at(8080), &host("foo.com", 8080), "ib2");
    world.expect_at(at(8080), &host("bar.com", 8080), "ib2");
    world.expect_at(at(8090), &host("foo.com", 8090), "ib3");
    world.expect_at(at(8090), &host("bar.com", 8090), 404);
    world.attached("ports", &[1, 1, 1, 1, 0]);
}

#[test]
fn HTTPRouteListenerHostnameMatching() {
    let listeners = "  - {name: l1, port: 80, protocol: HTTP, hostname: bar.com}
  - {name: l2, port: 80, protocol: HTTP, hostname: foo.bar.com}
  - {name: l3, port: 80, protocol: HTTP, hostname: '*.bar.com'}
  - {name: l4, port: 80, protocol: HTTP, hostname: '*.foo.com'}";
    let to = |name: &str| format!("  rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]");
    let both = "{name: hosts, sectionName: l3}, {name: hosts, sectionName: l4}";
    let routes = route_of("infra", "r1", "{name: hosts, sectionName: l1}", &to("ib1"))
        + &route_of("infra", "r2", "{name: hosts, sectionName: l2}", &to("ib2"))
        + &route_of("infra", "r3", both, &to("ib3"));
    let world = World::new(&(gateway("hosts", 4, listeners) + &routes));
    for (host, backend) in [
        ("bar.com", "ib1"),
        ("foo.bar.com", "ib2"),
        ("baz.bar.com", "ib3"),
        ("boo.bar.com", "ib3"),
        ("multiple.prefixes.bar.com", "ib3"),
        ("multiple.prefixes.foo.com", "ib3"),
    ] {
        world.expect(4, &get("/").host(host), backend);
    }
    for host in ["foo.com", "no.matching.host"] {
        world.expect(4, &get("/").host(host), 404);
    }
}

#[test]
fn HTTPRouteHostnameIntersection() {
    let listeners = "  - {name: l1, port: 80, protocol: HTTP, hostname: very.specific.com}
  - {name: l2, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}
  - {name: l3, port: 80, protocol: HTTP, hostname: '*.anotherwildcard.io'}";
    let of = |name: &str, hosts: &str, path: &str, backend: &str| {
        route_of(
            "infra",
            name,
            "{name: hosts}",
            &format!(
                "  hostnames: [{hosts}]\n  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: {backend}, port: 8080}}]}}]"
            ),
        )
    };
    let routes = of("specific", "non.matching.com, '*.nonmatchingwildcard.io', very.specific.com", "/s1", "ib1")
        + &of("under-wildcard", "non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io", "/s2", "ib2")
        + &of("wildcard-of-specific", "non.matching.com, '*.specific.com'", "/s3", "ib3")
        + &of("wildcard", "'*.anotherwildcard.io'", "/s4", "ib1")
        + &of("none", "specific.but.wrong.com, wildcard.io", "/s5", "ib2");
    let other = gateway("any-host", 5, "  - {name: any, port: 80, protocol: HTTP}")
        + &route_of("infra", "of-two", "{name: any-host}", &format!("  hostnames: [first.com, '*.second.com']\n{TO_IB1}"));
    let world = World::new(&(gateway("hosts", 4, listeners) + &routes + &other));
    for (host, path, backend) in [
        ("very.specific.com", "/s1", "ib1"),
        ("very.specific.com:1234", "/s1", "ib1"),
        ("foo.wildcard.io", "/s2", "ib2"),
        ("bar.wildcard.io", "/s2", "ib2"),
        ("foo.bar.wildcard.io", "/s2", "ib2"),
        ("very.specific.com", "/s3", "ib3"),
        ("one.anotherwildcard.io", "/s4", "ib1"),
        ("one.two.anotherwildcard.io", "/s4", "ib1"),
    ] {
        world.expect(4, &get(path).host(host), backend);
    }
    for (host, path) in [
        ("non.matching.com", "/s1"),
        ("foo.nonmatchingwildcard.io", "/s1"),
        ("very.specific.com", "/non-matching-prefix"),
        ("wildcard.io", "/s2"),
        ("non.matching.com", "/s3"),
        ("foo.specific.com", "/s3"),
        ("anotherwildcard.io", "/s4"),
        ("specific.but.wrong.com", "/s5"),
        ("wildcard.io", "/s5"),
    ] {
        world.expect(4, &get(path).host(host), 404);
    }
    world.route("httproutes", "none", "Accepted", ("False", "NoMatchingListenerHostname"));
    world.attached("hosts", &[2, 1, 1]);
    world.expect(5, &get("/").host("first.com"), "ib1");
    world.expect(5, &get("/").host("x.second.com"), "ib1");
    world.expect(5, &get("/").host("third.com"), 404);
}

#[test]
fn HTTPRouteMultipleGateways() {
    let shared = "  rules: [{matches: [{path: {value: /shared}}], backendRefs: [{name: ib1, port: 8080}]}]";
    let to = |name: &str| format!("  rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]");
    let routes = route_of("infra", "shared", "{name: same-namespace}, {name: all-namespaces}", shared)
        + &route("one", &to("ib2"))
        + &route_of("infra", "two", "{name: all-namespaces}", &to("ib3"));
    let world = World::new(&routes);
    world.expect(1, &get("/shared"), "ib1");
    world.expect(2, &get("/shared"), "ib1");
    world.expect(1, &get("/"), "ib2");
    world.expect(2, &get("/"), "ib3");
    for at in ["/status/parents/0/conditions", "/status/parents/1/conditions"] {
        world.condition("httproutes", "shared", at, "Accepted", ("True", "Accepted"));
    }
}

#[test]
fn HTTPRouteObservedGenerationBump() {
    let of = |generation: u8, backend: &str| {
        route("r", &format!("  rules: [{{backendRefs: [{{name: {backend}, port: 8080}}]}}]"))
            .replace("name: r, ", &format!("name: r, generation: {generation}, "))
    };
    let world = World::new(&of(1, "ib1"));
    world.accepted("httproutes", "r");
    world.apply("test", &of(2, "ib2"));
    world.expect(1, &get("/"), "ib2");
    let conditions = world.object("httproutes", "r")["status"]["parents"][0]["conditions"].clone();
    let conditions = conditions.as_array().expect("conditions");
    assert!(!conditions.is_empty() && conditions.iter().all(|c| c["observedGeneration"] == 2 && c["status"] == "True"), "{conditions:?}");
}

fn unresolved(rule: &str, reason: &str) -> World {
    let world = World::new(&route("r", rule));
    world.route("httproutes", "r", "Accepted", ("True", "Accepted"));
    world.route("httproutes", "r", "ResolvedRefs", ("False", reason));
    world.expect(1, &get("/"), 500);
    world
}

#[test]
fn HTTPRouteInvalidNonExistentBackendRef() {
    unresolved("  rules: [{backendRefs: [{name: nonexistent, port: 8080}]}]", "BackendNotFound");
}

#[test]
fn HTTPRouteInvalidBackendRefUnknownKind() {
    unresolved("  rules: [{backendRefs: [{group: unknownkind.example.com, kind: NonExistent, name: x, port: 8080}]}]", "InvalidKind");
}

const TO_WEB: &str = "  rules: [{backendRefs: [{name: web, namespace: web, port: 8080}]}]";

#[test]
fn HTTPRouteInvalidCrossNamespaceBackendRef() {
    unresolved(TO_WEB, "RefNotPermitted");
}

#[test]
fn HTTPRouteInvalidReferenceGrant() {
    let world = unresolved(TO_WEB, "RefNotPermitted");
    let right = grant("web", ", name: web");
    for (from, to) in [
        ("namespace: web}", "namespace: app}"),
        ("group: gateway.networking.k8s.io, kind: HTTPRoute", "group: other.example, kind: HTTPRoute"),
        ("kind: HTTPRoute", "kind: Gateway"),
        ("namespace: infra}", "namespace: web}"),
        ("group: \"\"", "group: other.example"),
        ("kind: Service", "kind: Secret"),
        ("name: web}]", "name: other}]"),
    ] {
        let wrong = right.replace(from, to);
        assert_ne!(wrong, right);
        world.apply("grant", &wrong);
        // The route that comes with it is served once it is read.
        let path = format!("/{}", to.len());
        world.apply(
            "marker",
            &route("marker", &format!("  rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: ib1, port: 8080}}]}}]")),
        );
        world.expect(1, &get(&path), "ib1");
        world.expect(1, &get("/"), 500);
        world.route("httproutes", "r", "ResolvedRefs", ("False", "RefNotPermitted"));
    }
    world.apply("grant", &right);
    world.expect(1, &get("/"), "web");
}

#[test]
fn HTTPRouteReferenceGrant() {
    let world = World::new(&route("r", TO_WEB));
    world.apply("grant", &grant("web", ", name: web"));
    world.expect(1, &get("/"), "web");
    world.accepted("httproutes", "r");
    world.delete("grant");
    world.expect(1, &get("/"), 500);
}

#[test]
fn HTTPRoutePartiallyInvalidViaInvalidReferenceGrant() {
    let rules = "  rules:
  - backendRefs: [{name: app-v1, namespace: app, port: 8080}]
  - {matches: [{path: {value: /v2}}], backendRefs: [{name: app-v2, namespace: app, port: 8080}]}";
    let world = World::new(&(route("r", rules) + &grant("app", ", name: app-v1")));
    world.route("httproutes", "r", "Accepted", ("True", "Accepted"));
    world.route("httproutes", "r", "ResolvedRefs", ("False", "RefNotPermitted"));
    world.expect(1, &get("/v2"), 500);
    world.expect(1, &get("/"), "app-v1");
}

#[test]
fn HTTPRouteNoBackendRefs() {
    let rules = "  rules:
  - {matches: [{path: {value: /}}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{path: {value: /omitted}}]}
  - {matches: [{path: {value: /empty}}], backendRefs: []}";
    let world = World::new(&route("r", rules));
    world.expect(1, &get("/"), "ib1");
    world.accepted("httproutes", "r");
    world.expect(1, &get("/omitted"), 500);
    world.expect(1, &get("/empty"), 500);
}

#[test]
fn HTTPRouteServiceTypes() {
    let paths = ["manual", "headless", "headless-manual"];
    let rule =
        |name: &str| format!("  - {{matches: [{{path: {{type: Exact, value: /{name}}}}}], backendRefs: [{{name: {name}, port: 8080}}]}}\n");
    let rules: String = paths.iter().map(|name| rule(name)).collect();
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{{spec}ports: [{{name: first-port, port: 8080, targetPort: 80}}]}}\n---\n"
        )
    };
    let services = service("manual", "")
        + &service("headless", "clusterIP: None, selector: {app: ib1}, ")
        + &service("headless-manual", "clusterIP: None, ");
    let world = World::new(&(route("r", &format!("  rules:\n{rules}")) + &services));
    let slice = |name: &str, family: &str, addresses: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{}, namespace: infra, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family}\nports: [{{name: first-port, port: 80}}]\nendpoints: [{addresses}]\n---\n",
            family.to_lowercase()
        )
    };
    let ib1 = format!("{{addresses: [{}]}}", world.gateway.ip(11));
    let both = |name: &str| slice(name, "IPv4", &ib1) + &slice(name, "IPv6", "");
    // A cluster marks the slices that it makes for a headless Service.
    let marked = |slice: String| slice.replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    world.apply("slices", &(both("manual") + &both("headless-manual") + &marked(slice("headless", "IPv4", &ib1))));
    for name in paths {
        world.expect(1, &get(&format!("/{name}")), "ib1");
    }
    world.accepted("httproutes", "r");
}
