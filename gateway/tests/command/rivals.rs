//! `explain` tells which rule would take a request if the one that does were not there, and why it does not.

const OBJECTS: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: sluicegate
  addresses: [{value: 127.231.8.1}]
  listeners: [{name: web, protocol: HTTP, port: 18767}, {name: raw, protocol: TCP, port: 18768}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  router:
    plugin: rules
    config:
      rules:
        - {source: shop/everything, hostnames: [\"*.example\"], backendRefs: [{name: web, port: 80}]}
        - source: shop/cart
          hostnames: [other.example, a.example]
          matches: [{path: {value: /no}}, {path: {value: /cart}}]
          backendRefs: [{invalid: \"RefNotPermitted: Service pay/cart\", weight: 3}]
        - {source: shop/items, hostnames: [a.example], matches: [{path: {value: /cart/items}}, {method: GET}], backendRefs: [{name: web, port: 80}]}
        - {source: shop/late, createdAt: \"2026-01-02T00:00:00Z\", hostnames: [b.example], backendRefs: [{name: web, port: 80}]}
        - {source: shop/early, createdAt: \"2026-01-01T00:00:00Z\", hostnames: [b.example], backendRefs: [{name: web, port: 80}]}
        - hostnames: [grpc.example]
          matches: [{grpc: {service: shop.Cart}}, {headers: [{name: a, value: b}]}]
          backendRefs: [{name: web, port: 80}]
        - {hostnames: [grpc.example], matches: [{grpc: {method: Get}}], backendRefs: [{name: web, port: 80}]}
";

/// What is said about each topic, with its further lines in one.
fn told(folder: &std::path::Path, port: &str, arguments: &[&str]) -> Vec<(String, String)> {
    let words = [&["explain", "all.yaml", "--state-dir", "state", "--port", port], arguments].concat();
    let (_, text, _) = crate::run(folder, &words);
    let mut topics: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let (topic, rest) = line.split_at(line.len().min(10));
        match topics.last_mut().filter(|_| topic.trim().is_empty()) {
            Some((_, before)) => before.push_str(rest),
            None => topics.push((topic.trim().to_owned(), rest.trim().to_owned())),
        }
    }
    topics
}

#[test]
fn the_rules_that_come_after_are_told_and_why() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), OBJECTS).expect("written");
    for (host, path, field, winner, rivals) in [
        (
            "a.example",
            "/cart/items/1",
            "x: y",
            "rule 2 \"shop/items\"",
            [
                "rule 1 \"shop/cart\" would take it too: its path, PathPrefix \"/cart\", comes after PathPrefix \"/cart/items\"",
                "rule 0 \"shop/everything\" would take it too: its hostname \"*.example\" is less specific than \"a.example\"",
            ],
        ),
        (
            "b.example",
            "/",
            "x: y",
            "rule 4 \"shop/early\"",
            [
                "rule 3 \"shop/late\" would take it too: it is younger, of 2026-01-02T00:00:00Z; the one before it is of 2026-01-01T00:00:00Z",
                "rule 0 \"shop/everything\" would take it too: its hostname \"*.example\"",
            ],
        ),
        (
            "grpc.example",
            "/shop.Cart/Get",
            "a: b",
            "rule 5",
            [
                "rule 6 would take it too: its path, gRPC Exact */Get, comes after gRPC Exact shop.Cart/*",
                "rule 0 \"shop/everything\" would take it too: its hostname",
            ],
        ),
        ("z.example", "/", "x: y", "rule 0 \"shop/everything\"", ["", ""]),
    ] {
        let topics = told(folder.path(), "18767", &["-H", &format!("Host: {host}"), "-H", field, "GET", path]);
        let of = |topic: &str| topics.iter().find(|(name, _)| name == topic).map_or("", |(_, text)| text.as_str());
        assert!(of("route").contains(winner), "{host}{path}: {topics:#?}");
        for (topic, wanted) in ["second", "third"].into_iter().zip(rivals) {
            assert!(of(topic).starts_with(wanted) && wanted.is_empty() == of(topic).is_empty(), "{topic} of {host}{path}: {topics:#?}");
            assert!(wanted.is_empty() || of(topic).contains("written in all.yaml:"), "{topics:#?}");
        }
    }
}

#[test]
fn an_invalid_backend_is_told_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), OBJECTS).expect("written");
    let topics = told(folder.path(), "18767", &["-H", "Host: a.example", "POST", "/cart"]);
    let result = topics.iter().find(|(name, _)| name == "result").map(|(_, text)| text.as_str());
    assert_eq!(result, Some("500 bad-backend: RefNotPermitted: Service pay/cart"), "{topics:#?}");
    // The rules of an HTTP listener take no connections.
    let topics = told(folder.path(), "18768", &["GET", "http://127.231.8.1/"]);
    assert!(topics.iter().any(|(name, text)| name == "result" && text.contains("no-route")), "{topics:#?}");
}

#[test]
fn a_rule_that_leaves_the_decision_to_another_router_is_told_and_so_is_that_ones() {
    const HANDED: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: sluicegate, addresses: [{value: 127.231.8.2}], listeners: [{name: web, protocol: HTTP, port: 18769}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - name: outer
    matches: [{path: {value: /a}}]
    filters: [{type: ExtensionRef, extensionRef: {group: sluicegate.dev, kind: HTTPRouteFilter, name: f}}]
    backendRefs: [{group: sluicegate.dev, kind: Backend, name: one}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: HTTPRouteFilter
metadata: {name: f}
spec:
  router:
    plugin: rules
    config:
      rules:
      - {name: inner, matches: [{path: {value: /a/b}}], backendRefs: [{group: sluicegate.dev, kind: Backend, name: one, port: 80}]}
      - {name: strange, matches: [{path: {value: /a/c}}], backendRefs: [{group: sluicegate.dev, kind: Backend, name: two, port: 80}]}
---
apiVersion: sluicegate.dev/v1alpha1
kind: Backend
metadata: {name: one}
spec: {endpoints: [{ip: {address: 10.0.0.1, port: 80}}]}
---
apiVersion: sluicegate.dev/v1alpha1
kind: Backend
metadata: {name: two}
spec: {endpoints: [{ip: {address: 10.0.0.2, port: 80}}]}
";
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), HANDED).expect("written");
    let routes = |path: &str| {
        let topics = told(folder.path(), "18769", &["GET", path]);
        let of = |topic: &str| topics.iter().filter(|(name, _)| name == topic).map(|(_, text)| text.clone()).collect::<Vec<_>>();
        (of("route"), of("result"), of("backend"))
    };
    let (told_of, _, backend) = routes("/a/b");
    assert!(told_of[0].contains("HTTPRoute default/shop outer") && told_of[1].contains("rule 0 \"inner\""), "{told_of:?}");
    assert_eq!(backend, ["default/one.backend:80"], "of the outer rule no backend is told");
    // The Backend exists, but does not belong to the rule.
    let (told_of, result, _) = routes("/a/c");
    assert!(told_of[1].contains("rule 1 \"strange\""), "{told_of:?}");
    assert!(result[0].starts_with("500 bad-backend: default/two.backend:80 is none of the backends of the rule"), "{result:?}");
    let (told_of, result, _) = routes("/a/d");
    assert!(told_of[1].contains("none of 2 rules matches") && result[0].starts_with("404"), "{told_of:?} {result:?}");
}
