//! `explain` gives the answer that the data plane gives, as it is the data plane's own code: each case is asked of both.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const OBJECTS: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 8765, targetPort: 9, appProtocol: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
status: {podIP: 127.231.7.9}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: sluicegate
  addresses: [{value: 127.231.7.1}]
  listeners: [{name: web, protocol: HTTP, port: 18766, hostname: \"*.example\"}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  path: {escapedSlashesAction: UnescapeAndRedirect}
  headers: {withUnderscoresAction: RejectRequest}
  router:
    plugin: rules
    config:
      rules:
        - matches: [{path: {type: PathPrefix, value: /admin}}]
          filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, hostname: other.example}}]
        - matches: [{path: {type: PathPrefix, value: /app}}]
          backendRefs: [{name: web, port: 8765}]
        - matches: [{path: {type: PathPrefix, value: /gone}}]
          backendRefs: [{name: nobody, port: 80}]
";

fn sluicegate(folder: &Path) -> Command {
    let mut command = crate::binary();
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_STATE_HOME");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = sluicegate(folder).args(arguments).output().expect("runs");
    (status.code(), String::from_utf8(stdout).expect("UTF-8") + &String::from_utf8(stderr).expect("UTF-8"))
}

/// A gateway that ends with the test.
struct Running(Child, String);

impl Running {
    fn start(folder: &Path) -> Self {
        let mut child = sluicegate(folder)
            .args(["run", "all.yaml", "--admin-address", "127.0.0.1:0", "--nodeport-addresses", "127.231.7.1/32", "--log-format", "json"])
            .args(["--service-cluster-ip-range", "127.231.7.128/25", "--state-dir", "state", "--workers", "1"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let admin = lines.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            line["fields"]["admin"].as_str().map(str::to_owned)
        });
        std::thread::spawn(move || lines.count());
        Self(child, admin.expect("the admin API's address is logged"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status line of a gateway's answer, and the reason that it gives.
fn ask(method: &str, target: &str, host: &str, more: &str) -> std::io::Result<(u16, Option<String>)> {
    let mut stream = TcpStream::connect("127.231.7.1:18766")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let reason = answer.lines().find_map(|line| line.strip_prefix("x-sluicegate-reason: ")).map(str::to_owned);
    Ok((status, reason))
}

#[test]
fn explain_and_the_gateway_answer_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), OBJECTS).expect("written");
    let gateway = Running::start(folder.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask("GET", "/app", "a.example", "").is_err() {
        assert!(Instant::now() < deadline, "it listens");
    }
    for (method, target, host, field) in [
        ("GET", "/x/../%61pp//y", "a.example", ""),
        ("GET", "/app/../admin", "a.example", ""),
        ("GET", "/gone", "a.example", ""),
        ("GET", "/../up", "a.example", ""),
        ("GET", "/app", "b.other", ""),
        ("TRACE", "/app", "a.example", ""),
        ("GET", "/app", "a.example", "x_y: 1"),
    ] {
        let more = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        let (status, reason) = ask(method, target, host, &more).expect("an answer");
        let host_field = format!("Host: {host}");
        let mut arguments = vec!["explain", "all.yaml", "--admin-address", &gateway.1, "--port", "18766", "-H", &host_field];
        if !field.is_empty() {
            arguments.extend(["-H", field]);
        }
        arguments.extend([method, target]);
        let (_, told) = run(folder.path(), &arguments);
        let result = told.lines().find(|line| line.starts_with("result")).unwrap_or_default();
        // Nothing listens at the endpoint, which `explain` does not try.
        if reason.as_deref() == Some("connect-failed") {
            assert!(result.contains("endpoint 127.231.7.9:9"), "{method} {target} {host}: {told}");
        } else {
            assert!(result.contains(&status.to_string()), "{method} {target} {host}: {status} {reason:?}: {told}");
            assert!(reason.as_deref().is_none_or(|reason| result.contains(reason)), "{method} {target} {host}: {reason:?}: {told}");
        }
    }
    // The node port belongs to the running gateway, and is not in any file.
    let (_, services) = run(folder.path(), &["get", "services", "-o", "json", "--admin-address", &gateway.1]);
    let services: serde_json::Value = serde_json::from_str(&services).expect("JSON");
    let port = services[0]["ports"][0]["nodePort"].to_string();
    let (code, told) =
        run(folder.path(), &["explain", "all.yaml", "--admin-address", &gateway.1, "--port", &port, "GET", "http://127.231.7.1/"]);
    assert!(code == Some(0) && told.contains(&format!("node port of default/web:8765 on 0.0.0.0:{port}")), "{told}");
    assert!(told.contains(&format!("node ports and addresses are those of the gateway that answers at {}", gateway.1)), "{told}");
}

#[test]
fn a_connection_is_hashed_by_its_clients_address_whatever_the_key_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = "apiVersion: v1
kind: Service
metadata: {name: db}
spec: {type: NodePort, selector: {app: db}, ports: [{port: 5432, nodePort: 30877}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, labels: {app: db}}
status: {podIP: 127.231.7.9}
---
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: db}
spec:
  targetRefs: [{kind: Service, name: db}]
  loadBalancer: {plugin: maglev, hash: {type: Header, header: {name: x-user}}}
";
    std::fs::write(folder.path().join("all.yaml"), objects).expect("written");
    let (code, told) =
        run(folder.path(), &["explain", "all.yaml", "--state-dir", "state", "--port", "30877", "GET", "http://127.231.7.1/"]);
    assert!(told.lines().any(|line| line.starts_with("hash") && line.contains("the client's address: ")), "{told}");
    assert!(code == Some(0) && told.contains("endpoint 127.231.7.9:5432"), "{told}");
}
