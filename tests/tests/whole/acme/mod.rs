//! Certificates by ACME from somebody else's CA, [`pebble`], to clients of OpenSSL.

mod pebble;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::Settled;
use sluicegate_tests::{Gateway, PATIENCE, eventually};

use pebble::{HTTP_PORT, Pebble, TLS_PORT};

/// An issuer called `pebble`, with these further settings.
fn issuer(settled: &mut Settled, [b, c]: [u8; 2], more: &Value) {
    let state = &settled.state_dir;
    let mut issuer = json!({
        "name": "pebble", "directory": format!("https://127.{b}.{c}.9:14000/dir"), "termsOfServiceAgreed": true, "email": "ops@example.com",
        "caFile": state.join("ca.pem"),
    });
    issuer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    settled.acme = serde_json::from_value(json!({"issuers": [issuer]})).expect("settings");
    settled.acme_timing.unreachable = Duration::from_millis(100);
    settled.acme_timing.unreachable_at_most = Duration::from_millis(500);
    settled.acme_timing.refused = Duration::from_millis(500);
}

fn by_handshake(settled: &mut Settled, net: [u8; 2]) {
    issuer(settled, net, &json!({"challenges": ["TLS-ALPN-01"]}));
}

fn by_request(settled: &mut Settled, net: [u8; 2]) {
    issuer(settled, net, &json!({"challenges": ["HTTP-01"]}));
}

/// A Gateway with these HTTPS listeners, and an HTTP listener; a route for each of `routes` redirects everything, at all listeners that have its names.
fn objects(gateway: &Gateway, hostnames: &[Option<&str>], routes: &[&str]) -> String {
    let ip = gateway.ip(1);
    let listener = |(i, hostname): (usize, &Option<&str>)| {
        let hostname = hostname.map(|name| format!("hostname: {name}, ")).unwrap_or_default();
        format!(
            "  - {{name: tls-{i}, port: {TLS_PORT}, protocol: HTTPS, {hostname}tls: {{options: {{sluicegate.dev/acme-issuer: pebble}}}}}}\n"
        )
    };
    let listeners: String = hostnames.iter().enumerate().map(listener).collect();
    let route = |(i, name): (usize, &&str)| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: route-{i}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [\"{name}\"]
  rules:
  - filters: [{{type: RequestRedirect, requestRedirect: {{hostname: elsewhere.example, statusCode: 301}}}}]
"
        )
    };
    let routes: String = routes.iter().enumerate().map(route).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: sluicegate
  addresses: [{{value: {ip}}}]
  listeners:
  - {{name: http, port: {HTTP_PORT}, protocol: HTTP}}
{listeners}{routes}"
    )
}

fn tls(gateway: &Gateway) -> SocketAddr {
    SocketAddr::new(gateway.ip(1), TLS_PORT)
}

/// One GET over a new TLS connection, by curl. The status; or what curl says, if it could not be had.
fn get(at: SocketAddr, name: &str, root: &Path) -> Result<String, String> {
    let (ip, port) = (at.ip(), at.port());
    let got = Command::new("curl")
        .args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "10", "--cacert"])
        .arg(root)
        .args(["--resolve", &format!("{name}:{port}:{ip}"), &format!("https://{name}:{port}/x")])
        .output()
        .expect("curl: make test-tools");
    if got.status.success() { Ok(text(&got.stdout)) } else { Err(text(&got.stderr)) }
}

/// The serial number of the certificate that is shown for a name, verified by OpenSSL.
fn serial(at: SocketAddr, name: &str, root: &Path) -> Result<String, String> {
    let got = Command::new("sh")
        .arg("-c")
        .arg("openssl s_client -connect $0 -servername $1 -verify_hostname $1 -CAfile $2 -verify_return_error </dev/null | openssl x509 -noout -serial")
        .args([&at.to_string(), name])
        .arg(root)
        .output()
        .expect("openssl: make test-tools");
    if got.status.success() { Ok(text(&got.stdout)) } else { Err(text(&got.stderr)) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// What is shown of each name for which certificates are ordered.
fn named(gateway: &Gateway, name: &str) -> Option<Value> {
    let listeners = gateway.json("listeners");
    let hosts = listeners.as_array()?.iter().flat_map(|listener| listener["hosts"].as_array().into_iter().flatten());
    let names = hosts.flat_map(|host| host["acme"].as_array().into_iter().flatten());
    names.into_iter().find(|acme| acme["name"] == name).cloned()
}

/// Waits until a certificate is issued for a name.
fn issued(gateway: &Gateway, name: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !named(gateway, name).is_some_and(|named| named["notAfter"].is_i64()) {
        assert!(Instant::now() < deadline, "no certificate for {name}: {:#}", gateway.json("faults"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn fault(gateway: &Gateway, words: &[&str]) -> bool {
    let faults = gateway.json("faults");
    let shown = |fault: &Value| words.iter().all(|word| fault.to_string().contains(word));
    faults.as_array().expect("a list").iter().any(shown)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.append(&mut files(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn names_of_listeners_and_routes_are_validated_by_handshake_and_certificates_outlive_the_gateway_and_the_ca() {
    let mut gateway = Gateway::with(&[], by_handshake);
    let at = tls(&gateway);
    // The CA does not run yet: handshakes are refused, and a fault says why.
    gateway.write("edge.yaml", &objects(&gateway, &[Some("a.example"), None], &["b.example", "c.example"]));
    eventually("a fault", || fault(&gateway, &["b.example: it has no certificate", "caFile", "Gateway default/edge"]));
    let nothing = gateway.state_dir().join("nothing.pem");
    let made = rcgen::generate_simple_self_signed(Vec::new()).expect("a certificate");
    std::fs::write(&nothing, made.cert.pem()).expect("written");
    let refused = serial(at, "a.example", &nothing).expect_err("no certificate");
    assert!(refused.contains("alert internal error"), "{refused}");
    let gateways = gateway.json("objects/gateways").to_string();
    assert!(
        gateways.contains(r#""reason":"Pending""#) && gateways.contains("no certificate is issued yet for b.example, c.example"),
        "{gateways}"
    );
    let unknown = serial(at, "d.example", &nothing).expect_err("nobody asks for it");
    assert!(unknown.contains("unrecognized name"), "{unknown}");
    let pebble = Pebble::start(&gateway, &json!({}));
    for name in ["a.example", "b.example", "c.example"] {
        issued(&gateway, name);
    }
    let root = pebble.root();
    let serials = ["a.example", "b.example", "c.example"].map(|name| serial(at, name, &root).expect(name));
    assert!(serials[0] != serials[1] && serials[1] != serials[2], "{serials:?}");
    assert_eq!(get(at, "b.example", &root), Ok("301".to_owned()));
    assert!(serial(at, "d.example", &root).expect_err("nobody asks for it").contains("unrecognized name"));
    eventually("no faults", || !fault(&gateway, &["issuer"]));
    assert!(!gateway.json("objects/gateways").to_string().contains("Pending"));
    let metrics = gateway.get("/metrics").expect("metrics");
    assert!(metrics.contains(r#"sluicegate_acme_orders_total{issuer="pebble",outcome="issued"} 3"#), "{metrics}");
    assert!(metrics.contains(r#"sluicegate_acme_certificate_not_after_seconds{issuer="pebble",name="a.example"}"#));
    // Whatever holds a key is for this user alone.
    let kept = files(&gateway.state_dir().join("acme"));
    assert_eq!(kept.len(), 2 * 4, "an account and three certificates, each with a copy: {kept:?}");
    for file in &kept {
        assert_eq!(std::fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    // The next start shows them to its first client, and needs no CA for that.
    drop(pebble);
    gateway.stop();
    gateway.start();
    assert_eq!(["a.example", "b.example", "c.example"].map(|name| serial(at, name, &root).expect(name)), serials);
    let metrics = gateway.get("/metrics").expect("metrics");
    assert!(!metrics.contains("sluicegate_acme_orders"), "nothing was ordered: {metrics}");
}

#[test]
fn a_name_is_validated_by_request_whatever_its_routes_say_and_one_that_the_ca_refuses_costs_no_other() {
    let gateway = Gateway::with(&[], by_request);
    let pebble = Pebble::start(&gateway, &json!({"domainBlocklist": ["refused.example"]}));
    gateway.write("edge.yaml", &objects(&gateway, &[None], &["a.example", "refused.example", "*.wild.example"]));
    issued(&gateway, "a.example");
    assert_eq!(get(tls(&gateway), "a.example", &pebble.root()), Ok("301".to_owned()));
    eventually("a fault", || fault(&gateway, &["refused.example: it has no certificate", "rejected-name"]));
    assert!(fault(&gateway, &["no certificate is ordered for *.wild.example"]));
    let metrics = gateway.get("/metrics").expect("metrics");
    assert!(metrics.contains(r#"sluicegate_acme_orders_total{issuer="pebble",outcome="rejected-name"}"#), "{metrics}");
    assert!(metrics.contains(r#"sluicegate_acme_failing{issuer="pebble",name="refused.example"} 1"#), "{metrics}");
    // What is no token of an order that runs goes the way of all requests.
    for token in ["", "x", "../x", "%2e%2e/x", "x?y", &"a".repeat(4000)] {
        let url = format!("http://{}:{HTTP_PORT}/.well-known/acme-challenge/{token}", gateway.ip(1));
        let got = Command::new("curl")
            .args(["--silent", "--path-as-is", "--include", "--header", "host: a.example", &url])
            .output()
            .expect("curl");
        let answer = text(&got.stdout);
        assert!(answer.starts_with("HTTP/1.1 301") || answer.starts_with("HTTP/1.1 400"), "{token}: {answer}");
    }
}

#[test]
fn a_certificate_is_renewed_while_handshakes_go_on_and_stays_when_its_ca_is_gone() {
    let gateway = Gateway::with(&[], by_handshake);
    let pebble = Pebble::start(&gateway, &json!({"certificateValidityPeriod": 6}));
    gateway.write("edge.yaml", &objects(&gateway, &[Some("a.example")], &["a.example"]));
    issued(&gateway, "a.example");
    let (root, at) = (pebble.root(), tls(&gateway));
    let mut serials = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while serials.len() < 3 {
        assert!(Instant::now() < deadline, "it is not renewed: {serials:?}");
        let shown = serial(at, "a.example", &root).expect("a handshake");
        if serials.last() != Some(&shown) {
            serials.push(shown);
        }
    }
    drop(pebble);
    eventually("a fault", || fault(&gateway, &["a.example: its certificate is not renewed", "unreachable", "warning"]));
    serial(at, "a.example", &root).expect("the certificate that is there still serves");
    eventually("another fault", || fault(&gateway, &["a.example: its certificate has run out", "error"]));
}

#[test]
fn an_account_is_bound_to_one_that_the_operator_has() {
    // The key of Pebble's example.
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let bound = |settled: &mut Settled, net: [u8; 2]| {
        let file = settled.state_dir.join("eab");
        issuer(settled, net, &json!({"externalAccountBinding": {"keyId": "kid-1", "keyFile": file}}));
    };
    let gateway = Gateway::with(&[], bound);
    let _pebble = Pebble::start(&gateway, &json!({"externalAccountBindingRequired": true, "externalAccountMACKeys": {"kid-1": KEY}}));
    gateway.write("edge.yaml", &objects(&gateway, &[Some("a.example")], &["a.example"]));
    eventually("a fault", || fault(&gateway, &["externalAccountBinding.keyFile"]));
    std::fs::write(gateway.state_dir().join("eab"), format!("{KEY}\n")).expect("written");
    issued(&gateway, "a.example");
}
