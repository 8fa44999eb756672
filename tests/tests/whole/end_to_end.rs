//! The whole way from manifests over endpoints found by a wasm discovery plugin and a wasm pick to the answer, and what happens when any of it changes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use sluicegate_model::access_log::{AccessLogField, Line};
use sluicegate_proxy::{AccessLog, AccessLogTarget};
use sluicegate_tests::{Gateway, PATIENCE, SERVICE, connect, echo, eventually, fetch, http, names, replace};

#[test]
fn the_quickstart_is_served_on_a_node_port_and_a_cluster_ip_that_a_restart_keeps() {
    let mut gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    let (node_port, cluster_ip) = (gateway.node_port(), gateway.cluster_ip());
    assert!((30086..=32767).contains(&node_port.port()), "from the dynamic band: {node_port}");
    assert_eq!(names(node_port, 40), ["a", "b"]);
    assert_eq!(names(cluster_ip, 40), ["a", "b"]);
    gateway.stop();
    assert!(connect(node_port).is_err(), "nothing listens any more");
    gateway.start();
    assert_eq!((gateway.node_port(), gateway.cluster_ip()), (node_port, cluster_ip));
    assert_eq!(names(node_port, 40), ["a", "b"]);
}

#[test]
fn pods_come_and_go_under_an_address_that_stays_and_running_connections_are_not_cut() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let address = gateway.node_port();
    let (name, mut running) = connect(address).expect("connected");
    assert_eq!(name, "a");

    gateway.write("b.yaml", &gateway.pod("b", 3, true));
    gateway.write("a.yaml", &gateway.pod("a", 2, false));
    eventually("b alone is ready", || gateway.ready_endpoints() == 1 && gateway.json("endpoints").as_array().is_some_and(|e| e.len() == 2));
    eventually("the workers serve it", || connect(address).expect("connected").0 == "b");
    assert_eq!(names(address, 40), ["b"]);
    std::fs::remove_file(gateway.path("a.yaml")).expect("removed");
    eventually("a is gone", || gateway.json("endpoints").as_array().is_some_and(|e| e.len() == 1));

    // The old connection still echoes, and keeps its half-close.
    running.get_mut().write_all(b"still here").expect("written");
    running.get_mut().shutdown(std::net::Shutdown::Write).expect("half closed");
    let mut rest = String::new();
    running.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "still herebye");

    std::fs::remove_file(gateway.path("b.yaml")).expect("removed");
    eventually("none is left", || gateway.ready_endpoints() == 0);
    eventually("new connections are reset", || connect(address).is_err());
}

#[test]
fn client_ip_affinity_holds_across_workers_and_ends_with_the_endpoint() {
    let service = SERVICE.replace("type: NodePort", "type: NodePort\n  sessionAffinity: ClientIP");
    let gateway = Gateway::new(&[("svc.yaml", &service)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    let address = gateway.node_port();
    eventually("both workers know both", || connect(address).is_ok());
    let bound = names(address, 50);
    assert_eq!(bound.len(), 1, "{bound:?}");
    std::fs::remove_file(gateway.path(&format!("{}.yaml", bound[0]))).expect("removed");
    eventually("the other takes over", || connect(address).is_ok_and(|(name, _)| name != bound[0]));
    assert_eq!(names(address, 50).len(), 1);
}

#[test]
fn http_is_balanced_by_request_and_keeps_connections_on_both_sides() {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::new(&[("svc.yaml", &service)]);
    let address = gateway.node_port();
    let (status, body) = fetch(address);
    assert_eq!((status, body.as_str()), (503, "the service has no ready endpoint\n"));
    for (name, last) in [("a", 2), ("b", 3)] {
        http(gateway.ip(last), name);
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    eventually("served", || fetch(address).0 == 200);
    let mut client = TcpStream::connect(address).expect("connected");
    let mut reader = BufReader::new(client.try_clone().expect("cloned"));
    let (mut seen, mut connections) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for _ in 0..100 {
        client
            .write_all(b"GET /x HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n")
            .expect("sent");
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).expect("a header line") > 0, "the connection was closed");
            assert!(!line.to_lowercase().starts_with("keep-alive"), "hop-by-hop: {line}");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let body = String::from_utf8(body).expect("text").to_lowercase();
        assert!(body.contains("x-end: 1") && !body.contains("x-hop"), "{body}");
        assert!(body.contains("host: example.com") && body.contains("x-forwarded-for: 127."), "{body}");
        let (first, _) = body.split_once('\n').expect("a first line");
        connections.insert(first.to_owned());
        seen.insert(first.split(' ').next().map(str::to_owned));
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(connections.len() <= 6, "a hundred requests on kept connections: {connections:?}");
}

#[test]
fn a_plugin_file_is_replaced_under_load_and_a_broken_one_changes_nothing() {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let policy = "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {name: mine}\nspec: {kind: balancer, source: {file: mine.wasm}}\n---\n\
        apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\n\
        spec: {targetRefs: [{group: '', kind: Service, name: nginx-svc}], loadBalancer: {plugin: mine}}\n";
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    let gateway = Gateway::new(&[("svc.yaml", &service)]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    std::fs::write(gateway.path("mine.wasm"), wasm("random")).expect("written");
    gateway.write("policy.yaml", policy);
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1);
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);

    let (stop, stopped) = mpsc::channel::<()>();
    let load = std::thread::spawn(move || {
        let mut requests = 0;
        while stopped.try_recv().is_err() {
            assert_eq!(fetch(address).0, 200, "request {requests}");
            requests += 1;
        }
        requests
    });
    // A file is renamed over the plugin's, then it is rewritten in place; then come two that must be refused.
    replace(&gateway.path("mine.wasm"), &wasm("round-robin"));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    std::fs::write(gateway.path("mine.wasm"), wasm("least-request")).expect("written");
    eventually("generation 3", || gateway.plugin("mine")["generation"]["number"] == 3);
    replace(&gateway.path("mine.wasm"), &wasm("random")[..1000]);
    eventually("truncated is refused", || {
        gateway.plugin("mine")["reason"].as_str().is_some_and(|r| r.contains("plugin mine, stage compile"))
    });
    replace(&gateway.path("mine.wasm"), &wasm("static"));
    eventually("the wrong world is refused", || {
        gateway.plugin("mine")["reason"].as_str().is_some_and(|r| r.contains("it is a discovery, and a balancer is wanted"))
    });
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 3);
    assert_eq!(gateway.plugin("mine")["state"], "degraded");
    replace(&gateway.path("mine.wasm"), &wasm("random"));
    eventually("generation 4", || gateway.plugin("mine")["generation"]["number"] == 4 && gateway.plugin("mine")["state"] == "active");
    stop.send(()).expect("the load runs");
    assert!(load.join().expect("no request failed") > 50);
}

#[test]
fn a_changed_process_configuration_is_reported_and_waits_for_a_restart() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    gateway.write("own.yaml", "apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\nworkers: 1\n");
    eventually("reported", || gateway.json("faults").to_string().contains("a restart of the gateway"));
    std::fs::remove_file(gateway.path("own.yaml")).expect("removed");
    eventually("as before", || gateway.json("faults").as_array().is_some_and(Vec::is_empty));
}

#[test]
fn a_gateway_is_routed_by_the_rules_plugin() {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::new(&[("svc.yaml", &service)]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let address = SocketAddr::new(gateway.ip(1), 8081);
    let routes = format!(
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: sluicegate, addresses: [{{type: IPAddress, value: {}}}], listeners: [{{name: web, port: 8081, protocol: HTTP}}]}}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  router:
    plugin: rules
    config:
      rules:
      - matches: [{{path: {{type: PathPrefix, value: /app}}}}]
        filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}}}]
        backendRefs: [{{name: nginx-svc, port: 8080}}]
      - matches: [{{path: {{type: Exact, value: /old}}}}]
        filters: [{{type: RequestRedirect, requestRedirect: {{hostname: new.example, statusCode: 301}}}}]
      - matches: [{{path: {{type: Exact, value: /gone}}}}]
        backendRefs: [{{name: nosuch, port: 80}}]
"#,
        gateway.ip(1)
    );
    gateway.write("routes.yaml", &routes);
    let fetch = |path: &str| {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(PATIENCE)).build();
        let mut response = ureq::Agent::from(config).get(format!("http://{address}{path}")).call().ok()?;
        let location = response.headers().get("location").and_then(|l| l.to_str().ok()).unwrap_or("").to_owned();
        Some((response.status().as_u16(), location, response.body_mut().read_to_string().ok()?))
    };
    eventually("routed", || fetch("/app/x?y=1").is_some_and(|(status, ..)| status == 200));
    let (_, _, body) = fetch("/app/x?y=1").expect("an answer");
    assert!(body.contains("GET /x?y=1 HTTP/1.1"), "the prefix is rewritten, the query kept: {body}");
    assert_eq!(fetch("/old").map(|(s, l, _)| (s, l)), Some((301, "http://new.example:8081/old".to_owned())));
    assert_eq!(fetch("/gone").map(|(s, ..)| s), Some(500));
    assert_eq!(fetch("/application").map(|(s, ..)| s), Some(404), "a prefix matches whole path elements");
}

#[test]
fn a_policy_names_the_proxies_that_are_believed_and_the_access_log_says_who_came() {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let policy = "apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: edge}\nspec:\n  \
        targetRefs: [{kind: Service, name: nginx-svc}]\n  clientIPDetection: {xForwardedFor: {trustedCIDRs: [127.0.0.0/8]}}\n  \
        headers: {requestID: Generate, via: edge-1, traceContext: {}, earlyRequestHeaders: {set: [{name: x-early, value: '1'}]}}\n  \
        path: {escapedSlashesAction: RejectRequest}\n";
    let gateway = Gateway::with(&[("svc.yaml", &service), ("policy.yaml", policy)], |settled, _| {
        use AccessLogField::{Client, Path, Reason, Service, Status};
        // The log is in the folder of objects, where names that begin with a dot are skipped.
        let to = AccessLogTarget::File(settled.paths[0].join(".access.log"));
        settled.access_log = Some(AccessLog { line: Line::Json(vec![Client, Path, Status, Reason, Service]), to });
    });
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let address = gateway.node_port();
    eventually("served", || fetch(address).0 == 200);
    let ask = |path: &str| {
        let mut client = TcpStream::connect(address).expect("connected");
        let head = "Host: a.example\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.9\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
        client.write_all(format!("GET {path} HTTP/1.1\r\n{head}").as_bytes()).expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let answer = ask("/a//b/../c");
    for there in [
        "GET /a/c HTTP/1.1",
        "x-forwarded-for: 192.0.2.9, 127.",
        "x-forwarded-proto: https",
        "x-early: 1",
        "x-request-id: ",
        "traceparent: 00-",
    ] {
        assert!(answer.contains(there), "{there} is not in {answer}");
    }
    assert!(answer.contains("via: 1.1 edge-1\r\n") && !answer.contains("6.6.6.6"), "{answer}");
    assert!(ask("/a%2Fb").contains("x-sluicegate-reason: bad-path"));
    let metrics = gateway.get("/metrics").expect("metrics");
    for row in [
        "sluicegate_own_answers_total{reason=\"bad-path\"} 1",
        "sluicegate_service_request_duration_seconds_bucket{le=\"+Inf\",namespace=\"default\",service=\"nginx-svc\"",
        "sluicegate_service_connect_duration_seconds_count{namespace=\"default\",service=\"nginx-svc\"",
        "sluicegate_service_bytes_out_total{namespace=\"default\",service=\"nginx-svc\"",
    ] {
        assert!(metrics.contains(row), "{row} is not in {metrics}");
    }
    let line = "{\"client\":\"192.0.2.9\",\"path\":\"/a//b/../c\",\"status\":200,\"reason\":null,\"service\":\"default/nginx-svc:8080\"}\n";
    eventually("logged", || {
        std::fs::read_to_string(gateway.path(".access.log"))
            .is_ok_and(|text| text.contains(line) && text.contains("\"reason\":\"bad-path\""))
    });
}
