//! Retries, rate limits and connection limits, from the objects that ask for them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use sluicegate_tests::{Gateway, eventually, fetch, http, plugin};

const POLICIES: &str = r#"
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: to-endpoints}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  loadBalancer: {plugin: round-robin}
  timeout: {http: {requestTimeout: 10s}}
  retry: {numRetries: 1, retryOn: {triggers: [gateway-error]}}
  circuitBreaker: {maxParallelRequests: 100}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: from-clients}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  timeout: {http: {requestReceivedTimeout: 5s}}
  requestBody: {maxBytes: 1Ki}
  rateLimit:
    type: Local
    local:
      rules:
      - clientSelectors: [{path: {type: Exact, value: /dear}, sourceCIDR: {type: Distinct, value: 0.0.0.0/0}}]
        limit: {requests: 5, unit: Hour}
"#;

const ROUTED: &str = r#"
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: to-endpoints}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  loadBalancer: {plugin: round-robin}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: from-clients}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  router:
    plugin: rules
    config:
      rules:
      - matches: [{path: {value: /again}}]
        backendRefs: [{name: nginx-svc, port: 8080}]
        retry: {codes: [503], attempts: 1, backoff: 10ms}
      - backendRefs: [{name: nginx-svc, port: 8080}]
"#;

/// An HTTP backend that answers 503.
fn unavailable(ip: IpAddr) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                while stream.read(&mut head).is_ok_and(|count| count > 0) {
                    if stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Sends a request; returns the answer's head.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
}

/// A gateway whose Service has an endpoint that answers and one that is not available.
fn good_and_bad(policies: &str) -> Gateway {
    let gateway = Gateway::new(&[("svc.yaml", &plugin::http_service()), ("policies.yaml", policies)]);
    assert_eq!(gateway.json("faults").as_array().map(Vec::len), Some(0), "{}", gateway.json("faults"));
    unavailable(gateway.ip(2));
    http(gateway.ip(3), "good");
    for (name, last) in [("bad", 2), ("good", 3)] {
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    gateway
}

#[test]
fn policies_ask_for_retries_and_limits_and_a_change_elsewhere_forgives_nothing() {
    let gateway = good_and_bad(POLICIES);
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);
    for _ in 0..20 {
        assert_eq!(fetch(address).0, 200, "the endpoint that has no time is not the client's concern");
    }
    let metric = |name: &str| {
        let all = gateway.get("/metrics").expect("metrics");
        let line = all.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in\n{all}"));
        line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    assert!(metric("sluicegate_service_retries_total") >= 10);
    assert!(metric("sluicegate_service_load{") == 0);

    let passed = |times: usize| (0..times).filter(|_| get(address, "/dear").starts_with("HTTP/1.1 200 ")).count();
    assert_eq!(passed(8), 5);
    // This makes another snapshot, with the same limits.
    std::fs::remove_file(gateway.path("bad.yaml")).expect("removed");
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let refused = get(address, "/dear");
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("\r\nretry-after: 720\r\n"), "{refused}");
    assert!(get(address, "/other").starts_with("HTTP/1.1 200 "));
    assert!(ask(address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n").starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_rule_of_the_router_says_what_is_tried_again() {
    let gateway = good_and_bad(ROUTED);
    let address = gateway.node_port();
    let statuses = |path: &str| (0..20).filter(|_| get(address, path).starts_with("HTTP/1.1 503 ")).count();
    eventually("both are asked", || (5..=15).contains(&statuses("/once")));
    assert_eq!(statuses("/again"), 0, "with its rule the endpoint that has no time is not the client's concern");
}
