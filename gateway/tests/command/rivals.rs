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

/// What is told of a topic, its further lines in one.
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
    // A listener's rules of HTTP take no connections.
    let topics = told(folder.path(), "18768", &["GET", "http://127.231.8.1/"]);
    assert!(topics.iter().any(|(name, text)| name == "result" && text.contains("no-route")), "{topics:#?}");
}
