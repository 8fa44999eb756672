//! What the specification says but no test of the conformance suite asserts, and what it leaves to implementations.

use std::net::SocketAddr;

use super::grpc::call;
use super::retries::unreliable;
use super::secure::Identity;
use super::world::{World, gateway, get, route, route_of};

/// GEP-1016, and `hostnames` of GRPCRoute.
#[test]
fn of_an_http_and_a_grpc_route_with_a_common_host_a_listener_takes_the_older() {
    let grpc = |name: &str, created: &str, parent: &str, host: &str| {
        let metadata = format!("{{name: {name}, namespace: infra{created}}}");
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {metadata}\nspec:\n  parentRefs: [{parent}]\n  hostnames: [\"{host}\"]\n  rules: [{{backendRefs: [{{name: g1, port: 8080}}]}}]\n---\n"
        )
    };
    let http =
        |name: &str, host: &str| route(name, &format!("  hostnames: [{host}]\n  rules: [{{backendRefs: [{{name: ib1, port: 8080}}]}}]"));
    let old = ", creationTimestamp: \"2026-01-01T00:00:00Z\"";
    let listeners = "  - {name: a, port: 80, protocol: HTTP, hostname: \"*.two.example\"}\n  - {name: b, port: 80, protocol: HTTP, hostname: \"*.three.example\"}";
    let manifests = grpc("z", old, "{name: same-namespace}", "*.one.example")
        + &http("a", "x.one.example")
        + &grpc("v", "", "{name: same-namespace}", "two.example")
        + &http("b", "two.example")
        + &grpc("w", "", "{name: same-namespace}", "three.example")
        // One listener has a route of the other kind for the host name, and another one has not.
        + &gateway("split", 4, listeners)
        + &route_of("infra", "c", "{name: split, sectionName: a}", "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]")
        + &grpc("d", "", "{name: split}", "*.example");
    let world = World::new(&manifests);
    for (plural, name) in [("grpcroutes", "z"), ("httproutes", "b"), ("grpcroutes", "w"), ("httproutes", "c"), ("grpcroutes", "d")] {
        world.route(plural, name, "Accepted", ("True", "Accepted"));
    }
    for (plural, name) in [("httproutes", "a"), ("grpcroutes", "v")] {
        world.route(plural, name, "Accepted", ("False", "Conflicted"));
    }
    world.attached("same-namespace", &[3]);
    world.attached("split", &[1, 1]);
    world.expect(1, &get("/").host("two.example"), "ib1");
    let at = SocketAddr::new(world.address(1), 80);
    assert_eq!(call(at, "x.one.example", "/a.B/C", None), Some(("g1".to_owned(), "0".to_owned())));
    world.expect(4, &get("/").host("x.two.example"), "ib1");
    let at = SocketAddr::new(world.address(4), 80);
    assert_eq!(call(at, "x.three.example", "/a.B/C", None), Some(("g1".to_owned(), "0".to_owned())));
    // If the older route is removed, the other one is taken.
    let without: String = manifests.split_inclusive("---\n").filter(|object| !object.contains("{name: z,")).collect();
    world.apply("test", &without);
    world.accepted("httproutes", "a");
    world.expect(1, &get("/").host("x.one.example"), "ib1");
}

#[test]
fn a_filter_by_extension_ref_answers_and_one_that_is_not_there_fails_its_rule() {
    let rule = |path: &str, kind: &str, name: &str| {
        let reference = format!("{{group: sluicegate.dev, kind: {kind}, name: {name}}}");
        format!(
            "  - {{matches: [{{path: {{value: /{path}}}}}], filters: [{{type: ExtensionRef, extensionRef: {reference}}}], backendRefs: [{{name: ib1, port: 8080}}]}}\n"
        )
    };
    let rules =
        [rule("known", "HTTPRouteFilter", "teapot"), rule("kind", "Unknown", "teapot"), rule("missing", "HTTPRouteFilter", "later")];
    let all = rules.concat() + "  - {backendRefs: [{name: ib1, port: 8080}]}";
    let filter = |name: &str| {
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: HTTPRouteFilter\nmetadata: {{name: {name}, namespace: infra}}\nspec:\n  directResponse: {{statusCode: 418, contentType: text/x-tea, body: {{type: Inline, inline: \"short\\nstout\"}}}}\n---\n"
        )
    };
    let world = World::new(&(filter("teapot") + &route("filters", &format!("  rules:\n{all}"))));
    let answer = world.expect(1, &get("/known"), 418);
    assert_eq!((&*answer.backend, &*answer.seen, answer.header("content-type").as_deref()), ("short", "stout", Some("text/x-tea")));
    world.expect(1, &get("/kind"), 500);
    world.expect(1, &get("/missing"), 500);
    world.expect(1, &get("/"), "ib1");
    world.route("httproutes", "filters", "Accepted", ("True", "Accepted"));
    world.route("httproutes", "filters", "ResolvedRefs", ("False", "InvalidKind"));
    world.apply("later", &filter("later"));
    world.expect(1, &get("/missing"), 418);
    world.apply("test", &(filter("teapot") + &route("filters", &format!("  rules:\n{}", rules[0].trim_end()))));
    world.accepted("httproutes", "filters");
    world.delete("later");
    world.apply("test", &(filter("teapot") + &route("filters", &format!("  rules:\n{}", rules[2].trim_end()))));
    world.route("httproutes", "filters", "ResolvedRefs", ("False", "FilterNotFound"));
}

#[test]
fn parameters_of_a_gateway_and_its_class_are_its_defaults() {
    let parameters = |name: &str, spec: &str| {
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: GatewayParameters\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{{spec}}}\n---\n"
        )
    };
    let class = |name: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: set}}\nspec: {{controllerName: sluicegate.dev/gateway-controller, parametersRef: {{group: sluicegate.dev, kind: GatewayParameters, name: {name}, namespace: infra}}}}\n---\n"
        )
    };
    let gateway = |name: &str, more: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{gatewayClassName: set, listeners: [{{name: http, port: 80, protocol: HTTP}}]{more}}}\n---\n"
        )
    };
    let limit = |n: u32| format!("rateLimit: {{type: Local, local: {{rules: [{{limit: {{requests: {n}, unit: Hour}}}}]}}}}");
    let own = ", infrastructure: {parametersRef: {group: sluicegate.dev, kind: GatewayParameters, name: own}}";
    let fixed = gateway("of-class", "")
        + &gateway("with-own", own)
        + &gateway("named", ", addresses: [{value: $6}]")
        + &route_of(
            "infra",
            "all",
            "{name: of-class}, {name: with-own}, {name: named}",
            "  rules: [{backendRefs: [{name: ib1, port: 8080}]}]",
        );
    let of_class = parameters("class", &format!("addresses: [$4], {}", limit(100)));
    let world = World::new(&(fixed.clone() + &class("class") + &of_class));
    // Without its own parameters a Gateway that names some is not accepted; the others are.
    let limited = |i: u8| world.expect(i, &get("/"), "ib1").header("x-ratelimit-limit");
    assert_eq!((limited(4).as_deref(), limited(6).as_deref()), (Some("100"), Some("100")));
    world.of_gateway("with-own", "Accepted", ("False", "InvalidParameters"));
    world.apply("own", &parameters("own", &format!("addresses: [$5], {}", limit(7))));
    assert_eq!(limited(5).as_deref(), Some("7"), "a Gateway's own count first");
    assert_eq!(world.addresses("with-own"), [world.address(5)]);
    world.of_gateway("with-own", "Accepted", ("True", "Accepted"));
    world.condition("gatewayclasses", "set", "/status/conditions", "Accepted", ("True", "Accepted"));
    // A class whose parameters are not there is not accepted, nor is a Gateway of it.
    world.apply("test", &(fixed + &class("gone") + &of_class));
    world.condition("gatewayclasses", "set", "/status/conditions", "Accepted", ("False", "InvalidParameters"));
    world.of_gateway("of-class", "Accepted", ("False", "InvalidParameters"));
}

#[test]
fn a_backend_leads_to_addresses_that_no_service_has() {
    let identity = Identity::new(&["inside.example"]);
    let backend = |namespace: &str, name: &str, spec: &str| {
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
        )
    };
    let to = |path: &str, name: &str| {
        format!("  - {{matches: [{{path: {{value: /{path}}}}}], backendRefs: [{{group: sluicegate.dev, kind: Backend, name: {name}}}]}}\n")
    };
    let tls = "tls: {sni: inside.example, caCertificateRefs: [{kind: ConfigMap, name: authorities}]}";
    let rules = to("plain", "plain") + &to("tls", "tls") + &to("missing", "missing") + &to("far", "far, namespace: web");
    let manifests = backend("infra", "plain", "endpoints: [{ip: {address: $8, port: 80}}]")
        + &backend("infra", "tls", &format!("endpoints: [{{ip: {{address: $9, port: 443}}}}], {tls}"))
        + &backend("web", "far", "endpoints: [{ip: {address: $8, port: 80}}]")
        + &identity.authority("infra", "authorities")
        + &route("backends", &format!("  rules:\n{}", rules.trim_end()));
    let world = World::new(&manifests);
    unreliable(world.address(8));
    identity.serve(world.address(9), "tls", None);
    world.expect(1, &get("/plain/200/0"), "unreliable");
    assert_eq!(world.expect(1, &get("/tls"), "tls").saw("x-sni").as_deref(), Some("inside.example"));
    world.expect(1, &get("/missing"), 500);
    world.expect(1, &get("/far/200/0"), 500);
    world.condition("backends", "tls", "/status/conditions", "Accepted", ("True", "Accepted"));
    world.route("httproutes", "backends", "ResolvedRefs", ("False", "BackendNotFound"));
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: far, namespace: web}\nspec:\n  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}]\n  to: [{group: sluicegate.dev, kind: Backend}]\n---\n";
    world.apply("grant", &(grant.to_owned() + &backend("infra", "missing", "endpoints: [{ip: {address: $8, port: 80}}]")));
    world.expect(1, &get("/far/200/0"), "unreliable");
    world.expect(1, &get("/missing/200/0"), "unreliable");
    world.accepted("httproutes", "backends");
    // If the authorities are removed, nobody gets in.
    world.apply("test", &manifests.replace("name: authorities}]}", "name: gone}]}"));
    world.condition("backends", "tls", "/status/conditions", "Accepted", ("False", "Invalid"));
    world.expect(1, &get("/tls"), 502);
}

#[test]
fn a_rules_rate_limit_by_extension_ref_is_kept_over_changes_and_is_that_rules_alone() {
    let filter = |requests: u32| {
        format!(
            "apiVersion: sluicegate.dev/v1alpha1\nkind: HTTPRouteFilter\nmetadata: {{name: few, namespace: infra}}\nspec: {{rateLimit: {{type: Local, local: {{rules: [{{limit: {{requests: {requests}, unit: Hour}}}}]}}}}}}\n---\n"
        )
    };
    let rules = "  rules:\n  - matches: [{path: {value: /few}}]\n    filters: [{type: ExtensionRef, extensionRef: {group: sluicegate.dev, kind: HTTPRouteFilter, name: few}}]\n    backendRefs: [{name: ib1, port: 8080}]\n  - {backendRefs: [{name: ib1, port: 8080}]}";
    let world = World::new(&(filter(3) + &route("limited", rules)));
    world.expect(1, &get("/"), "ib1");
    let asked = || world.ask(1, &get("/few")).expect("an answer");
    let first = asked();
    assert_eq!((first.status, first.header("x-ratelimit-remaining").as_deref()), (200, Some("2")));
    world.apply("other", &route("other", "  hostnames: [other.example]\n  rules: [{backendRefs: [{name: ib2, port: 8080}]}]"));
    world.expect(1, &get("/").host("other.example"), "ib2");
    assert_eq!([asked().status, asked().status, asked().status], [200, 200, 429], "a change gives nobody a full bucket");
    world.expect(1, &get("/"), "ib1");
    world.apply("test", &(filter(5) + &route("limited", rules)));
    world.expect(1, &get("/few"), "ib1");
}

/// Of so many routes the router's tables are changed in place.
#[test]
fn routes_come_go_and_change_among_three_hundred_others() {
    let to = |i: usize, conditions: &str, backend: &str| {
        let matches = format!("[{{path: {{value: /r{i}}}{conditions}}}]");
        route(&format!("r{i}"), &format!("  rules: [{{matches: {matches}, backendRefs: [{{name: {backend}, port: 8080}}]}}]"))
    };
    let header = |name: &str| format!(", headers: [{{name: {name}, value: \"1\"}}]");
    let others: String = (0..300).filter(|i| *i != 150).map(|i| to(i, "", "ib1")).collect();
    let world = World::new(&others);
    let untouched = || [0, 149, 151, 299].map(|i| world.expect(1, &get(&format!("/r{i}")), "ib1"));
    world.expect(1, &get("/r150"), 404);
    untouched();
    world.apply("one", &to(150, "", "ib2"));
    world.expect(1, &get("/r150"), "ib2");
    untouched();
    world.apply("one", &to(150, "", "ib3"));
    world.expect(1, &get("/r150"), "ib3");
    // Headers that are read are others then, one more and one less.
    for name in ["x-one", "x-two"] {
        world.apply("one", &to(150, &header(name), "ib2"));
        world.expect(1, &get("/r150").header(name, "1"), "ib2");
        world.expect(1, &get("/r150"), 404);
        untouched();
    }
    // A backend that is not there, and one that is again.
    world.apply("one", &to(150, "", "nobody"));
    world.expect(1, &get("/r150"), 500);
    world.apply("one", &to(150, "", "ib3"));
    world.expect(1, &get("/r150"), "ib3");
    world.apply("more", &(to(3, "", "ib2") + &to(400, "", "ib2")).replace("name: r3,", "name: a,"));
    world.expect(1, &get("/r400"), "ib2");
    // Of two for the same path the first by name counts.
    world.expect(1, &get("/r3"), "ib2");
    world.delete("one");
    world.expect(1, &get("/r150"), 404);
    world.delete("more");
    world.expect(1, &get("/r3"), "ib1");
    untouched();
}
