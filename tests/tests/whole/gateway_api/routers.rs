//! A router plugin as a filter of a route's rule: it decides what the rule takes, and can lead nowhere that the route could not.

use std::path::Path;

use sluicegate_tests::{HOSTILE_ROUTER, eventually};

use super::world::{World, get, grant, route};

/// An HTTPRouteFilter of namespace `infra`.
fn filter(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: HTTPRouteFilter\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{{spec}}}\n---\n"
    )
}

/// A rule that has such a filter.
fn rule(path: &str, filter: &str, more: &str) -> String {
    let reference = format!("{{group: sluicegate.dev, kind: HTTPRouteFilter, name: {filter}}}");
    format!(
        "  - {{name: {path}, matches: [{{path: {{value: /{path}}}}}], filters: [{{type: ExtensionRef, extensionRef: {reference}}}], {more}}}\n"
    )
}

const DECIDES: &str = "router: {plugin: rules, config: {rules: [
  {name: second, matches: [{headers: [{name: x-to, value: two}]}], backendRefs: [{name: ib2, port: 8080}]},
  {name: told, matches: [{path: {value: /routed/told}}], filters: [{type: DirectResponse, directResponse: {statusCode: 418}}]},
  {name: elsewhere, matches: [{path: {value: /routed/web}}], backendRefs: [{name: web, namespace: web, port: 8080}]},
  {name: not-its-own, matches: [{path: {value: /routed/ib3}}], backendRefs: [{name: ib3, port: 8080}]},
  {name: nobody, matches: [{path: {value: /routed/nobody}}], backendRefs: [{name: gone, port: 8080}]},
  {name: first, matches: [{path: {value: /routed/a}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: inner}]}}], backendRefs: [{name: ib1, port: 8080}]}
]}}";

#[test]
fn a_router_of_a_rule_decides_among_the_backends_of_the_rule() {
    let both = "backendRefs: [{name: ib1, port: 8080}, {name: ib2, port: 8080, weight: 0}]";
    let rules = rule("routed", "decides", both) + "  - {backendRefs: [{name: ib3, port: 8080}]}";
    let manifests = filter("decides", DECIDES) + &route("routed", &format!("  rules:\n{rules}"));
    // Permission for another route to refer to the Service is no permission for a router.
    let world = World::new(&(manifests.clone() + &grant("web", "")));
    let answer = world.expect(1, &get("/routed/a"), "ib1");
    assert_eq!(answer.saw("x-set").as_deref(), Some("inner"));
    world.expect(1, &get("/routed/b").header("x-to", "two"), "ib2");
    world.expect(1, &get("/routed/told"), 418);
    world.expect(1, &get("/"), "ib3");
    assert_eq!(world.ask(1, &get("/routed/b")).expect("an answer").status, 404, "what it has no rule for is nobody's");
    for path in ["/routed/web", "/routed/ib3", "/routed/nobody"] {
        assert_eq!(world.ask(1, &get(path)).expect("an answer").status, 500, "{path}");
    }
    world.accepted("httproutes", "routed");
    // A limit and a policy of the rule hold for whatever the router decides.
    let limit = filter("few", "rateLimit: {type: Local, local: {rules: [{limit: {requests: 2, unit: Hour}}]}}");
    let two = manifests.replace(
        "filters: [{type: ExtensionRef",
        "filters: [{type: ExtensionRef, extensionRef: {group: sluicegate.dev, kind: HTTPRouteFilter, name: few}}, {type: ExtensionRef",
    );
    world.apply("test", &(limit + &two));
    eventually("limited", || {
        world.ask(1, &get("/routed/a")).is_ok_and(|answer| answer.header("x-ratelimit-limit").as_deref() == Some("2"))
    });
    let statuses = [get("/routed/b").header("x-to", "two"), get("/routed/a")].map(|ask| world.ask(1, &ask).expect("an answer").status);
    assert_eq!(statuses, [200, 429], "both rules of the router count together");
    world.expect(1, &get("/"), "ib3");
}

#[test]
fn what_has_no_place_beside_a_router_is_told_and_not_passed_over() {
    let backends = "backendRefs: [{name: ib1, port: 8080}]";
    let one = |more: &str| {
        route("routed", &format!("  rules:\n{}  - {{backendRefs: [{{name: ib3, port: 8080}}]}}", rule("routed", "decides", more)))
    };
    let world = World::new(&(filter("decides", DECIDES) + &one(backends)));
    world.expect(1, &get("/routed/a"), "ib1");
    for more in [
        "timeouts: {request: 1s}, backendRefs: [{name: ib1, port: 8080}]",
        "backendRefs: [{name: ib1, port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}]",
    ] {
        world.apply("test", &(filter("decides", DECIDES) + &one(more)));
        world.expect(1, &get("/routed/a"), 500);
        world.route("httproutes", "routed", "PartiallyInvalid", ("True", "UnsupportedValue"));
        world.expect(1, &get("/"), "ib3");
        world.apply("test", &(filter("decides", DECIDES) + &one(backends)));
        world.expect(1, &get("/routed/a"), "ib1");
    }
    world.apply("test", &(filter("decides", "router: {plugin: nobody}") + &one(backends)));
    world.expect(1, &get("/routed/a"), 500);
    world.route("httproutes", "routed", "ResolvedRefs", ("False", "FilterNotFound"));
}

#[test]
fn a_router_of_a_rule_that_misbehaves_costs_that_rule() {
    let hostile = "router: {plugin: mine, config: {mode: MODE, spare_trials: true}}";
    let manifests = |mode: &str| {
        let rules = rule("routed", "decides", "backendRefs: [{name: ib1, port: 8080}]") + "  - {backendRefs: [{name: ib3, port: 8080}]}";
        filter("decides", &hostile.replace("MODE", mode)) + &route("routed", &format!("  rules:\n{rules}"))
    };
    let plugin = "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {name: mine}\nspec: {kind: router, source: {file: mine.wasm}, limits: {memory: 8Mi, deadline: 200ms}}\n";
    let world = World::new(&manifests("ok"));
    let file: &Path = &world.gateway.path("mine.wasm");
    std::fs::write(file, HOSTILE_ROUTER).expect("written");
    world.apply("plugin", plugin);
    eventually("asked", || world.ask(1, &get("/routed")).is_ok_and(|answer| answer.status == 200));
    for mode in ["trap-route", "out-of-range", "loop-route"] {
        world.apply("test", &manifests(mode));
        world.expect(1, &get("/routed"), 503);
        for _ in 0..10 {
            assert_eq!(world.ask(1, &get("/")).expect("an answer").backend, "ib3", "{mode}");
        }
        world.apply("test", &manifests("ok"));
        let again = another(mode);
        std::fs::write(world.gateway.path("new.wasm"), again).expect("written");
        std::fs::rename(world.gateway.path("new.wasm"), file).expect("renamed");
        eventually("it behaves again", || world.ask(1, &get("/routed")).is_ok_and(|answer| answer.status == 200));
    }
}

/// The plugin with one more custom section, which makes it a version of its own that begins without failures.
fn another(mode: &str) -> Vec<u8> {
    let mut bytes = HOSTILE_ROUTER.to_vec();
    let name = format!("v{mode}");
    let length = u8::try_from(name.len()).expect("short");
    bytes.extend([0, length + 1, length]);
    bytes.extend(name.bytes());
    bytes
}
