//! `sluicegate get` beside a running gateway: names, namespaces, forms, and what is watched.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sluicegate;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: test}
spec: {selector: {app: cart}, ports: [{port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, namespace: shop, labels: {app: cart}}
status: {podIP: 127.0.0.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: sluicegate, listeners: [{name: web, port: 18083, protocol: HTTP}, {name: grpc, port: 18084, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec: {hostnames: [cart.example], parentRefs: [{name: edge, sectionName: web}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: rpc, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: grpc}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
"#;

/// A gateway that is ended when it is dropped.
pub(crate) struct Running {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) admin: String,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a gateway with these objects. Its node ports and cluster IPs are those of 127.231.N.0/24.
pub(crate) fn running(n: u8, objects: &str) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), objects).expect("written");
    let mut child = sluicegate(folder.path())
        .args(["run", "all.yaml", "--admin-address", "127.0.0.1:0", "--log-format", "json", "--state-dir", "state"])
        .args(["--nodeport-addresses", &format!("127.231.{n}.1/32"), "--service-cluster-ip-range", &format!("127.231.{n}.128/25")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let admin = lines.find_map(|line| serde_json::from_str::<Value>(&line).ok()?["fields"]["admin"].as_str().map(str::to_owned));
    let running = Running { folder, admin: admin.expect("the admin API's address is logged"), child };
    std::thread::spawn(move || lines.count());
    let deadline = Instant::now() + Duration::from_secs(20);
    while ureq::get(format!("http://{}/readyz", running.admin)).call().is_err() {
        assert!(Instant::now() < deadline, "it is not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

impl Running {
    /// What a command says, and its exit code. The variable tells it where the gateway is.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = sluicegate(self.folder.path()).args(arguments).env("SLUICEGATE_ADMIN", &self.admin).output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("UTF-8"))
    }
}

fn get(gateway: &Running, arguments: &[&str]) -> (Option<i32>, String) {
    gateway.run(&[&["get"][..], arguments].concat())
}

#[test]
fn get_shows_what_is_named_in_the_form_that_is_wanted() {
    let gateway = running(11, OBJECTS);
    let lines = |arguments: &[&str]| get(&gateway, arguments).1.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&["services"]).len(), 3, "of all namespaces");
    assert_eq!(lines(&["svc", "cart", "-n", "shop"]).len(), 2);
    assert_eq!(lines(&["service", "test/cart", "-o", "name"]), ["service/cart"]);
    assert_eq!(
        lines(&["endpoints", "cart", "-o", "wide"])[1].split_whitespace().take(5).collect::<Vec<_>>(),
        ["shop", "cart", "80", "TCP", "127.0.0.2:80"]
    );
    assert_eq!(
        get(&gateway, &["services", "cart", "nothing"]),
        (Some(1), get(&gateway, &["services"]).1 + "sluicegate: services \"nothing\" not found\n")
    );

    let routes = lines(&["routes"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&routes[0]), ["KIND", "NAMESPACE", "NAME", "HOSTNAMES", "PARENT", "ACCEPTED", "RESOLVED"]);
    assert_eq!(words(&routes[1]), ["HTTPRoute", "shop", "cart", "cart.example", "edge/web", "True", "True"]);
    assert_eq!(words(&routes[2]), ["GRPCRoute", "shop", "rpc", "-", "edge/grpc", "True", "True"]);
    assert_eq!(lines(&["routes", "-o", "name"]), ["httproute.gateway.networking.k8s.io/cart", "grpcroute.gateway.networking.k8s.io/rpc"]);
    // One that is named is shown by itself, several are a list.
    let one: Value = serde_json::from_str(&get(&gateway, &["httproute", "cart", "-o", "json"]).1).expect("JSON");
    assert_eq!((&one["kind"], &one["spec"]["hostnames"][0]), (&"HTTPRoute".into(), &"cart.example".into()));
    let yaml = get(&gateway, &["httproute", "cart", "-o", "yaml"]).1;
    assert!(yaml.starts_with("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"), "{yaml}");
    let all: Value = serde_json::from_str(&get(&gateway, &["services", "-o", "json"]).1).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert_eq!(
        lines(&["plugins", "least-request", "-n", "elsewhere", "-o", "name"]),
        ["plugin.sluicegate.dev/least-request"],
        "it has no namespace"
    );
}

#[test]
fn a_flag_counts_before_the_variable() {
    let gateway = running(12, OBJECTS);
    let elsewhere = |arguments: &[&str]| {
        let mut command = sluicegate(gateway.folder.path());
        let output = command.args(arguments).env("SLUICEGATE_ADMIN", "127.0.0.1:1").output().expect("runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (code, error) = elsewhere(&["get", "services"]);
    assert!(code == Some(1) && error.contains("http://127.0.0.1:1/api/v1/services: ") && error.contains("--admin-address"), "{error}");
    assert_eq!(elsewhere(&["get", "services", "--admin-address", &gateway.admin]).0, Some(0));
    assert_eq!(elsewhere(&["get", "services", "--admin-address", &format!("http://{}/", gateway.admin)]).0, Some(0));
    assert_eq!(elsewhere(&["plugin", "list"]).0, Some(1));
    // What a gateway listens on is not where another one is asked.
    let check = |arguments: &[&str]| elsewhere(arguments).0;
    assert_eq!(check(&["check", "all.yaml"]), Some(0));
    assert!(
        gateway
            .run(&["explain", "all.yaml", "--port", "18083", "GET", "http://cart.example/"])
            .1
            .contains(&format!("answers at {}", gateway.admin))
    );
}

#[test]
fn a_watch_shows_what_is_new_and_what_has_changed() {
    let gateway = running(13, OBJECTS);
    let mut watching = sluicegate(gateway.folder.path())
        .args(["get", "endpoints", "cart", "--watch", "-n", "shop"])
        .env("SLUICEGATE_ADMIN", &gateway.admin)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.next().is_some_and(|line| line.starts_with("NAMESPACE")));
    assert!(lines.next().is_some_and(|line| line.contains("127.0.0.2:80 ") && line.contains("  ready  ")));
    let write = |objects: &str| write(gateway.folder.path(), objects);
    let pod = "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p2, namespace: shop, labels: {app: cart}}\nstatus: {podIP: 127.0.0.3, conditions: [{type: Ready, status: \"True\"}]}\n";
    write(&format!("{OBJECTS}{pod}"));
    assert!(lines.next().is_some_and(|line| line.contains("127.0.0.3:80 ") && line.contains("  ready  ")), "only the new one");
    write(&format!("{OBJECTS}{}", pod.replace("\"True\"", "\"False\"")));
    assert!(
        lines.next().is_some_and(|line| line.contains("127.0.0.3:80 ") && line.contains("  not-ready  ")),
        "only the one that has changed"
    );
    watching.kill().expect("ended");
    watching.wait().expect("ended");
}

fn write(folder: &Path, objects: &str) {
    let partial = folder.join(".all.yaml");
    std::fs::write(&partial, objects).expect("written");
    std::fs::rename(partial, folder.join("all.yaml")).expect("renamed");
}
