//! HTTP/3 as YAML configures it, with aioquic (PyPI) as the client: `tests/http3/client.py`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use sluicegate_model::access_log::{AccessLogField, Line};
use sluicegate_proxy::{AccessLog, AccessLogTarget};
use sluicegate_tests::{Gateway, SERVICE, eventually, http};

/// The Python that has aioquic, in a folder of its own below the build products.
fn python() -> PathBuf {
    let products = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the build products");
    let python = products.join("tools/python/bin/python");
    assert!(python.exists(), "{} is missing, a Python with aioquic: run `make test-tools`", python.display());
    python
}

/// An authority in a file, and a Secret of a certificate for `a.example`.
fn certificate(folder: &Path) -> (PathBuf, String) {
    let mut authority = CertificateParams::new(vec![]).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Without a name of its own it would have that of what it signs.
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let file = folder.join("authority.pem");
    std::fs::write(&file, authority.self_signed(&key).expect("a certificate").pem()).expect("written");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let made = CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters").signed_by(&key, &issuer).expect("a certificate");
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(&made.pem()),
        indented(&key.serialize_pem())
    );
    (file, secret)
}

/// Sends requests, each given by its words, and returns the responses.
fn ask(at: SocketAddr, authority: &Path, requests: &[&[&str]]) -> Result<Vec<Value>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("http3/client.py");
    let mut command = Command::new(python());
    command.arg(script).args([at.ip().to_string(), at.port().to_string()]).arg(authority).arg("a.example");
    for (i, words) in requests.iter().enumerate() {
        command.args((i > 0).then_some("--")).args(*words);
    }
    let output = command.output().expect("runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let lines = String::from_utf8(output.stdout).expect("text");
    Ok(lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

/// A Gateway with an HTTPS and an HTTP listener, whose policy says `http3`.
fn objects(gateway: &Gateway, http3: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: sluicegate
  addresses: [{{value: {}}}]
  listeners:
  - {{name: secure, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}
  - {{name: plain, port: 8080, protocol: HTTP}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all}}
spec:
  parentRefs: [{{name: edge}}]
  rules: [{{backendRefs: [{{name: nginx-svc, port: 8080}}]}}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  timeout: {{http: {{idleTimeout: 20s}}}}
{http3}",
        gateway.ip(1)
    )
}

#[test]
fn aioquic_is_served_as_a_policy_says() {
    let service = SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::with(&[("svc.yaml", &service)], |settled, _| {
        use AccessLogField::{Path, Protocol, Status};
        // The log is in the folder of objects, where names that begin with a dot are skipped.
        let to = AccessLogTarget::File(settled.paths[0].join(".access.log"));
        settled.access_log = Some(AccessLog { line: Line::Json(vec![Protocol, Path, Status]), to });
    });
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, secret) = certificate(folder.path());
    http(gateway.ip(2), "a");
    gateway.write("secret.yaml", &secret);
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    gateway.write("edge.yaml", &objects(&gateway, ""));
    let at = SocketAddr::new(gateway.ip(1), 8443);
    let curl = |version: &str| {
        let url = format!("https://a.example:{}/", at.port());
        let resolve = format!("a.example:{}:{}", at.port(), at.ip());
        let mut command = Command::new("curl");
        command.args(["-sSi", version, "--cacert"]).arg(&authority).args(["--resolve", &resolve, &url]);
        let output = command.output().expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually("served over TCP", || curl("--http2").starts_with("HTTP/2 200"));
    assert!(!curl("--http2").contains("alt-svc"), "HTTP/3 is off");
    gateway.write("edge.yaml", &objects(&gateway, "  http3: {}\n"));
    let told = format!("alt-svc: h3=\":{}\"; ma=86400\r\n", at.port());
    eventually("HTTP/3 is told of", || curl("--http2").contains(&told));
    assert!(curl("--http1.1").contains(&told));
    let get: &[&str] = &["GET", "/x?y"];
    let seen = ask(at, &authority, &[get, &["POST", "/content", "0"], get]).expect("answers");
    let head = |response: &Value| response["heads"].as_array().and_then(|heads| heads.first().cloned()).expect("a head");
    assert!(seen.iter().all(|response| head(response)[":status"] == "200"), "{seen:?}");
    let text = seen[0]["start"].as_str().expect("text").to_owned();
    assert!(text.contains("GET /x?y HTTP/1.1\r\n") && text.contains("x-forwarded-proto: https"), "{text}");
    assert!(head(&seen[0]).get("alt-svc").is_none());
    let metrics = gateway.get("/metrics").expect("metrics");
    assert!(metrics.contains("sluicegate_http3_connections_total 1\n"), "{metrics}");
    let log = gateway.path(".access.log");
    let line = r#"{"protocol":"HTTP/3","path":"/x","status":200}"#;
    eventually("the access log has it", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.lines().any(|l| l == line || l.contains("HTTP/3")))
    });
    gateway.write("edge.yaml", &objects(&gateway, ""));
    eventually("HTTP/3 is off", || !curl("--http2").contains("alt-svc"));
    eventually("nobody listens any more", || std::net::UdpSocket::bind(at).is_ok());
}

#[test]
fn what_of_http3_has_no_effect_is_said() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let folder = tempfile::tempdir().expect("a folder");
    let (_, secret) = certificate(folder.path());
    gateway.write("secret.yaml", &secret);
    // Somebody else has the port of UDP, for which nobody asks at first.
    let taken = std::net::UdpSocket::bind((gateway.ip(1), 8443)).expect("bound");
    let faults = || gateway.json("faults").to_string();
    let plain = objects(&gateway, "  http3: {}\n")
        .replace("kind: Gateway, name: edge}]\n  timeout", "kind: Gateway, name: edge, sectionName: plain}]\n  timeout");
    gateway.write("edge.yaml", &plain);
    eventually("an HTTP listener has none", || faults().contains("spec.http3 has no effect"));
    gateway.write("edge.yaml", &objects(&gateway, "  http3: {}\n  tls: {maxVersion: '1.2'}\n"));
    eventually("nor TLS 1.2", || faults().contains("HTTP/3 needs TLS 1.3"));
    gateway.write("edge.yaml", &objects(&gateway, "  http3: {advertisedPort: 0}\n"));
    eventually("there is no such port", || faults().contains("spec.http3.advertisedPort"));
    gateway.write("edge.yaml", &objects(&gateway, "  http3: {}\n"));
    let said = || gateway.get("/readyz").unwrap_or_default();
    eventually("the port is taken", || said().contains("HTTP/3 of ") || faults().contains("HTTP/3 of "));
    drop(taken);
    gateway.write("edge.yaml", &objects(&gateway, "  http3: {}\n  path: {}\n"));
    eventually("it is free again", || !said().contains("HTTP/3 of ") && !faults().contains("HTTP/3 of "));
}
