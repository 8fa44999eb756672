//! BackendTrafficPolicies that target routes, rules and Gateways.

use sluicegate_tests::eventually;

use super::retries::{failing, unreliable};
use super::world::{World, get, route, service};

/// A BackendTrafficPolicy of namespace `infra` with one target.
fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{targetRefs: [{{{target}}}], {spec}}}\n---\n"
    )
}

fn retries(times: u32) -> String {
    format!("retry: {{numRetries: {times}, retryOn: {{triggers: [retriable-status-codes], httpStatusCodes: [500]}}}}")
}

#[test]
fn a_rules_policy_counts_before_its_routes_and_that_before_the_services_and_the_gateways() {
    let rules = "  rules:
  - {name: own, matches: [{path: {value: /own}}], backendRefs: [{name: unreliable, port: 80}]}
  - {name: written, matches: [{path: {value: /written}}], backendRefs: [{name: unreliable, port: 80}], retry: {attempts: 0, codes: [500]}}
  - {matches: [{path: {value: /rest}}], backendRefs: [{name: unreliable, port: 80}]}";
    let other = "  hostnames: [other.example]\n  rules:\n  - {backendRefs: [{name: unreliable, port: 80}]}";
    let fixed =
        service("infra", "unreliable", "$9", "{name: http, port: 80, appProtocol: http}") + &route("shop", rules) + &route("plain", other);
    let world = World::new(&fixed);
    unreliable(world.address(9));
    // Which try answers when the first five fail: with so many after the first, as the status says.
    let tries = |host: &str, rule: &str| {
        let answer = world.ask(1, &get(&failing(rule, "500", 9)).host(host)).expect("an answer");
        answer.seen.parse::<u32>().unwrap_or(0)
    };
    let expect = |host: &str, rule: &str, wanted: u32| {
        let mut last = 0;
        let reached = (0..500).any(|_| {
            last = tries(host, rule);
            last == wanted || {
                std::thread::sleep(std::time::Duration::from_millis(10));
                false
            }
        });
        assert!(reached, "{host} {rule}: {last} tries and not {wanted}");
    };
    world.expect(1, &get("/rest/200/0/first"), "unreliable");
    expect("x.example", "rest", 1);
    let of_gateway = policy("gateway", "kind: Gateway, name: same-namespace", &retries(1));
    let of_service = policy("service", "kind: Service, name: unreliable", &retries(2));
    let of_route = policy("route", "group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop", &retries(3));
    let of_rule = policy("rule", "kind: HTTPRoute, name: shop, sectionName: own", &retries(4));
    world.apply("policies", &of_gateway);
    expect("x.example", "own", 2);
    expect("other.example", "rest", 2);
    world.apply("policies", &(of_gateway.clone() + &of_service));
    expect("x.example", "own", 3);
    world.apply("policies", &(of_gateway.clone() + &of_service + &of_route));
    expect("x.example", "own", 4);
    expect("other.example", "rest", 3);
    world.apply("policies", &(of_gateway.clone() + &of_service + &of_route + &of_rule));
    expect("x.example", "own", 5);
    expect("x.example", "rest", 4);
    expect("x.example", "written", 1);
    for name in ["gateway", "service", "route", "rule"] {
        world.condition("backendtrafficpolicies", name, "/status/ancestors/0/conditions", "Accepted", ("True", "Accepted"));
    }
    let ancestor = world.object("backendtrafficpolicies", "rule")["status"]["ancestors"][0]["ancestorRef"].clone();
    let wanted = serde_json::json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "infra", "name": "shop", "sectionName": "own"});
    assert_eq!(ancestor, wanted);
    // Settings are merged one by one: a policy of the rule that says nothing of retries leaves them to its route's.
    let limited = policy("rule", "kind: HTTPRoute, name: shop, sectionName: own", "timeout: {http: {requestTimeout: 100ms}}");
    world.apply("policies", &(of_gateway + &of_service + &of_route + &limited));
    expect("x.example", "own", 4);
    assert_eq!(world.ask(1, &get(&failing("own", "silence", 1))).expect("an answer").status, 504);
    // A policy with the same target that comes later by name.
    world.apply("late", &policy("zrule", "kind: HTTPRoute, name: shop, sectionName: own", &retries(0)));
    world.condition("backendtrafficpolicies", "zrule", "/status/ancestors/0/conditions", "Accepted", ("False", "Conflicted"));
    expect("x.example", "own", 4);
    world.apply("policies", "");
    world.apply("late", "");
    expect("x.example", "rest", 1);
}

#[test]
fn a_route_has_a_balancer_of_its_own_over_the_endpoints_of_its_services() {
    let rules = "  rules:
  - {name: led, matches: [{path: {value: /led}}], backendRefs: [{name: pair, port: 80}]}
  - {backendRefs: [{name: pair, port: 80}]}";
    let world = World::new(&route("balanced", rules));
    let addresses = [11, 12].map(|i| format!("{{addresses: [{}]}}", world.gateway.ip(i))).join(", ");
    world.apply(
        "pair",
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: pair, namespace: infra}}\nspec: {{ports: [{{port: 80, appProtocol: http}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: pair, namespace: infra, labels: {{kubernetes.io/service-name: pair}}}}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{addresses}]\n"
        ),
    );
    world.apply("turns", &policy("turns", "kind: Service, name: pair", "loadBalancer: {plugin: round-robin}"));
    let asked = |path: &str, key: &str| world.ask(1, &get(path).header("x-key", key)).map(|answer| answer.backend).unwrap_or_default();
    let both = |path: &str, key: &str| {
        let first = asked(path, key);
        !first.is_empty() && (0..5).any(|_| !matches!(asked(path, key), again if again == first || again.is_empty()))
    };
    eventually("in turn", || both("/led", "a") && both("/", "a"));
    let led = |hash: &str| {
        policy("led", "kind: HTTPRoute, name: balanced, sectionName: led", &format!("loadBalancer: {{plugin: maglev, hash: {hash}}}"))
    };
    world.apply("led", &led("{type: Header, header: {name: x-key}}"));
    eventually("led", || !both("/led", "a"));
    let mut seen = std::collections::BTreeSet::new();
    for key in 0..30 {
        let first = asked("/led", &key.to_string());
        assert!((0..5).all(|_| asked("/led", &key.to_string()) == first), "{key}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2, "keys are spread");
    assert!(both("/", "a"), "another rule goes on in turn");
    world.condition("backendtrafficpolicies", "led", "/status/ancestors/0/conditions", "Accepted", ("True", "Accepted"));
    // One that is not there leaves the Service's.
    world.apply("led", &led("{type: Path}").replace("maglev", "nobody"));
    world.condition("backendtrafficpolicies", "led", "/status/ancestors/0/conditions", "Accepted", ("False", "Invalid"));
    eventually("in turn again", || both("/led", "a"));
}

/// GEP-1619 and GEP-3388, which the suite has no tests for.
#[test]
fn the_experimental_policy_of_a_service_keeps_sessions_and_limits_retries_and_rules_say_so_before_it() {
    let x_policy = |name: &str, service: &str, spec: &str| {
        format!(
            "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {{name: {name}, namespace: infra}}\nspec: {{targetRefs: [{{group: \"\", kind: Service, name: {service}}}], {spec}}}\n---\n"
        )
    };
    let rules = "  rules:
  - {matches: [{path: {value: /own}}], backendRefs: [{name: ib1, port: 8080}, {name: ib2, port: 8080}], sessionPersistence: {sessionName: rule, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}}
  - {matches: [{path: {value: /either}}], backendRefs: [{name: ib1, port: 8080}, {name: ib2, port: 8080}]}
  - {matches: [{path: {value: /tries}}], backendRefs: [{name: unreliable, port: 80}], retry: {attempts: 5, codes: [500]}}
  - {backendRefs: [{name: ib1, port: 8080}, {name: ib2, port: 8080, weight: 0}]}";
    let policies = x_policy("sessions", "ib1", "sessionPersistence: {sessionName: service}")
        + &x_policy(
            "budget",
            "unreliable",
            "retryConstraint: {budget: {percent: 0, interval: 1h}, minRetryRate: {count: 1, interval: 1h}}",
        );
    let service = service("infra", "unreliable", "$9", "{name: http, port: 80, appProtocol: http}");
    let world = World::new(&(policies + &service + &route("sessions", rules)));
    unreliable(world.address(9));
    world.expect(1, &get("/"), "ib1");
    let told = |path: &str, brought: &str| {
        let ask = if brought.is_empty() { get(path) } else { get(path).header("cookie", brought) };
        let answer = world.ask(1, &ask).expect("an answer");
        (answer.backend.clone(), answer.header("set-cookie").unwrap_or_default())
    };
    let (first, set) = told("/", "");
    assert!(first == "ib1" && set.starts_with("service=") && !set.contains("Max-Age"), "{set}");
    assert_eq!(told("/", set.split(';').next().unwrap_or_default()), ("ib1".to_owned(), String::new()), "it goes on");
    // Of two Services one keeps sessions: its own go on there, whatever the weights are.
    let mut set = String::new();
    sluicegate_tests::eventually("an answer of ib1", || {
        set = told("/either", "").1;
        set.starts_with("service=")
    });
    let brought = set.split(';').next().unwrap_or_default();
    for _ in 0..12 {
        assert_eq!(told("/either", brought), ("ib1".to_owned(), String::new()));
    }
    let (first, set) = told("/own", "");
    assert!(set.starts_with("rule=") && set.contains("Max-Age=3600"), "{set}");
    let brought = set.split(';').next().unwrap_or_default().to_owned();
    for _ in 0..6 {
        assert_eq!(told("/own", &brought), (first.clone(), String::new()), "whatever the weights are");
    }
    // One further try in an hour, whatever the rule would like.
    world.expect(1, &get("/tries/200/0/first"), "unreliable");
    let answer = world.ask(1, &get(&failing("tries", "500", 9))).expect("an answer");
    assert_eq!((answer.status, answer.seen.as_str()), (500, "2"));
    let answer = world.ask(1, &get(&failing("tries", "500", 9))).expect("an answer");
    assert_eq!((answer.status, answer.seen.as_str()), (500, "1"));
    for name in ["sessions", "budget"] {
        world.condition("xbackendtrafficpolicies", name, "/status/ancestors/0/conditions", "Accepted", ("True", "Accepted"));
    }
    // What a name cannot be is told, and nothing else changes.
    world.apply("wrong", &x_policy("awrong", "ib2", "sessionPersistence: {sessionName: \"a b\"}"));
    world.condition("xbackendtrafficpolicies", "awrong", "/status/ancestors/0/conditions", "Accepted", ("False", "Invalid"));
    world.expect(1, &get("/"), "ib1");
}

#[test]
fn a_rate_limit_of_a_gateway_is_each_rules_own_unless_its_route_has_another() {
    let limit = |n: u32| format!("rateLimit: {{type: Local, local: {{rules: [{{limit: {{requests: {n}, unit: Hour}}}}]}}}}");
    let rules = "  rules:
  - {name: few, matches: [{path: {value: /few}}], backendRefs: [{name: ib1, port: 8080}]}
  - {matches: [{path: {value: /many}}], backendRefs: [{name: ib1, port: 8080}]}
  - {backendRefs: [{name: ib1, port: 8080}]}";
    let policies = policy("all", "kind: Gateway, name: same-namespace, sectionName: http", &limit(5))
        + &policy("few", "kind: HTTPRoute, name: limited, sectionName: few", &limit(2));
    let world = World::new(&(policies + &route("limited", rules)));
    world.expect(1, &get("/"), "ib1");
    let left = |path: &str| {
        let answer = world.ask(1, &get(path)).expect("an answer");
        (answer.status, answer.header("x-ratelimit-remaining").and_then(|left| left.parse::<u32>().ok()))
    };
    assert_eq!([left("/few"), left("/few"), left("/few")], [(200, Some(1)), (200, Some(0)), (429, Some(0))]);
    assert_eq!([left("/many"), left("/many")], [(200, Some(4)), (200, Some(3))], "each rule counts by itself");
    // A change of another object gives nobody a full bucket.
    world.apply("other", &route("other", "  hostnames: [other.example]\n  rules: [{backendRefs: [{name: ib2, port: 8080}]}]"));
    world.expect(1, &get("/").host("other.example"), "ib2");
    assert_eq!((left("/few").0, left("/many")), (429, (200, Some(2))));
}
