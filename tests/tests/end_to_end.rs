//! Manifest → endpoints by wasm discovery → wasm pick → bytes back, and what happens when any of it changes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::{Settled, run};
use sluicegate_control::allocate::Ranges;

const PATIENCE: Duration = Duration::from_secs(20);

const SERVICE: &str = include_str!("../../config/quickstart/nginx.yaml");

/// A gateway on loopback addresses of its own: 127.B.C.1 for node ports, 127.B.C.128/25 for cluster IPs, the rest for pods.
struct Gateway {
    folder: tempfile::TempDir,
    state: tempfile::TempDir,
    net: [u8; 2],
    _claim: TcpListener,
    running: Option<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
    admin: SocketAddr,
}

impl Gateway {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let (net, claim) = claim();
        let mut gateway = Self {
            folder,
            state: tempfile::tempdir().expect("a folder"),
            net,
            _claim: claim,
            running: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        gateway.start();
        gateway
    }

    fn start(&mut self) {
        let settled = Settled {
            paths: vec![self.folder.path().to_owned()],
            workers: 2,
            admin_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_dir: self.state.path().to_owned(),
            ranges: Ranges { cluster_ips: format!("{}/25", self.ip(128)).parse().expect("a network"), ..Ranges::default() },
            nodeport_addresses: vec![format!("{}/32", self.ip(1)).parse().expect("an address")],
            grace: Duration::from_secs(5),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (started, admin) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                let _ = stopped.await;
            };
            run(&settled, shutdown, |address| started.send(address).expect("the test waits")).expect("the gateway runs");
        });
        self.admin = admin.recv_timeout(PATIENCE).expect("started");
        self.running = Some((stop, thread));
        eventually("ready", || self.get("/readyz").is_some());
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("stopped");
        }
    }

    fn ip(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.net[0], self.net[1], last).into()
    }

    fn write(&self, name: &str, text: &str) {
        let partial = self.folder.path().join(format!(".{name}"));
        std::fs::write(&partial, text).expect("written");
        std::fs::rename(partial, self.folder.path().join(name)).expect("renamed");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pod(&self, name: &str, last: u8, ready: bool) -> String {
        let ready = if ready { "True" } else { "False" };
        let ip = self.ip(last);
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: nginx}}}}\nstatus: {{podIP: {ip}, conditions: [{{type: Ready, status: \"{ready}\"}}]}}\n"
        )
    }

    fn get(&self, path: &str) -> Option<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        agent.get(format!("http://{}{path}", self.admin)).call().ok()?.body_mut().read_to_string().ok()
    }

    fn json(&self, what: &str) -> Value {
        serde_json::from_str(&self.get(&format!("/api/v1/{what}")).expect("answered")).expect("JSON")
    }

    fn plugin(&self, name: &str) -> Value {
        let all = self.json("plugins");
        all.as_array().expect("a list").iter().find(|p| p["name"] == name).cloned().unwrap_or(Value::Null)
    }

    fn node_port(&self) -> SocketAddr {
        let port = self.json("services")[0]["ports"][0]["node_port"].as_u64().expect("a node port");
        SocketAddr::new(self.ip(1), u16::try_from(port).expect("a port"))
    }

    fn cluster_ip(&self) -> SocketAddr {
        let ip = self.json("services")[0]["cluster_ips"][0].as_str().expect("an address").parse().expect("an address");
        SocketAddr::new(ip, 8080)
    }

    fn ready_endpoints(&self) -> usize {
        self.json("endpoints").as_array().expect("a list").iter().filter(|e| e["ready"] == true).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A 127.B.C.0/24 that no other test has, held by a port of it.
fn claim() -> ([u8; 2], TcpListener) {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let b = 128 + u8::try_from(std::process::id() % 100).expect("below 100");
    for _ in 0..250 {
        let c = NEXT.fetch_add(1, Ordering::Relaxed);
        if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, b, c, 1), 29_999)) {
            return ([b, c], claim);
        }
    }
    panic!("no free loopback network");
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A TCP backend that sends its name, then echoes until the client's end, then says goodbye.
fn echo(ip: IpAddr, name: &'static str) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                stream.write_all(format!("{name}\n").as_bytes())?;
                std::io::copy(&mut stream.try_clone()?, &mut stream)?;
                stream.write_all(b"bye")
            });
        }
    });
}

/// An HTTP backend that answers `name connection-number` and the request's head.
fn http(ip: IpAddr, name: &'static str) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut writer = stream.try_clone()?;
                let mut reader = BufReader::new(stream);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head)? == 0 {
                            return Ok(());
                        }
                    }
                    let body = format!("{name} {number}\n{head}");
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nKeep-Alive: timeout=5\r\n\r\n{body}", body.len());
                    // In one write: several small ones would wait for each other's acknowledgement (RFC 896).
                    writer.write_all(answer.as_bytes())?;
                }
            });
        }
    });
}

fn connect(address: SocketAddr) -> std::io::Result<(String, BufReader<TcpStream>)> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut name = String::new();
    reader.read_line(&mut name)?;
    Ok((name.trim_end().to_owned(), reader))
}

fn names(address: SocketAddr, connections: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..connections).map(|_| connect(address).expect("connected").0).collect();
    names.sort();
    names.dedup();
    names
}

fn fetch(address: SocketAddr) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let mut response = agent.get(format!("http://{address}/x")).call().expect("an answer");
    (response.status().as_u16(), response.body_mut().read_to_string().expect("a body"))
}

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
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm;
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
    // Renamed over, rewritten in place, then two that must be refused.
    replace(&gateway.path("mine.wasm"), wasm("round-robin"));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    std::fs::write(gateway.path("mine.wasm"), wasm("least-request")).expect("written");
    eventually("generation 3", || gateway.plugin("mine")["generation"]["number"] == 3);
    replace(&gateway.path("mine.wasm"), &wasm("random")[..1000]);
    eventually("truncated is refused", || {
        gateway.plugin("mine")["reason"].as_str().is_some_and(|r| r.contains("plugin mine, stage compile"))
    });
    replace(&gateway.path("mine.wasm"), wasm("static"));
    eventually("the wrong world is refused", || {
        gateway.plugin("mine")["reason"].as_str().is_some_and(|r| r.contains("it is a discovery, and a balancer is wanted"))
    });
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 3);
    assert_eq!(gateway.plugin("mine")["state"], "degraded");
    replace(&gateway.path("mine.wasm"), wasm("random"));
    eventually("generation 4", || gateway.plugin("mine")["generation"]["number"] == 4 && gateway.plugin("mine")["state"] == "active");
    stop.send(()).expect("the load runs");
    assert!(load.join().expect("no request failed") > 50);
}

fn replace(path: &Path, bytes: &[u8]) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).expect("written");
    std::fs::rename(partial, path).expect("renamed");
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
