//! TLS from objects to handshakes: certificates of Secrets, renewed and broken, and endpoints verified by a BackendTLSPolicy.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sluicegate_tests::{Gateway, PATIENCE, eventually};

/// A certificate authority, and the certificates that it issues.
struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

struct Issued {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        Self { pem: made.pem(), der: made.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let made = CertificateParams::new(vec![name.to_owned()]).expect("parameters").signed_by(&key, &self.issuer).expect("a certificate");
        Issued { pem: made.pem(), der: made.der().clone(), key }
    }
}

impl Issued {
    fn secret(&self, name: &str) -> String {
        let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let (chain, key) = (indented(&self.pem), indented(&self.key.serialize_pem()));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{chain}  tls.key: |\n{key}"
        )
    }
}

/// Sends one GET; returns the server's certificate and its answer.
fn get(at: SocketAddr, name: &str, ca: &Authority) -> std::io::Result<(CertificateDer<'static>, String)> {
    get_as(at, name, ca, None)
}

/// Sends one GET with a client certificate.
fn get_as(at: SocketAddr, name: &str, ca: &Authority, shows: Option<&Issued>) -> std::io::Result<(CertificateDer<'static>, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let config = match shows {
        None => config.with_no_client_auth(),
        Some(issued) => {
            let key = PrivatePkcs8KeyDer::from(issued.key.serialize_der());
            config.with_client_auth_cert(vec![issued.der.clone()], key.into()).map_err(std::io::Error::other)?
        }
    };
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let host = name.to_str().into_owned();
    let client = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(client, stream);
    stream.write_all(format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let shown = stream.conn.peer_certificates().and_then(|chain| chain.first()).expect("a certificate");
    Ok((shown.clone().into_owned(), answer))
}

/// An HTTPS backend on port 443 that answers with the server name it was asked for, and the request's head.
fn https(ip: IpAddr, issued: &Issued) {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(issued.key.serialize_der());
    let config = Arc::new(config.with_single_cert(vec![issued.der.clone()], key.into()).expect("a certificate"));
    let listener = TcpListener::bind((ip, 443)).expect("port 443 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(std::io::Error::other)?, stream);
                let mut head = Vec::new();
                loop {
                    let mut byte = [0];
                    if stream.read(&mut byte)? == 0 {
                        return Ok(());
                    }
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let body = format!("sni {}\n{}", stream.conn.server_name().unwrap_or("-"), String::from_utf8_lossy(&head));
                        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
                        head.clear();
                    }
                }
            });
        }
    });
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: nginx}
  ports: [{name: web, port: 443, targetPort: 443, appProtocol: https}]
";

fn policies(ip: IpAddr) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: sluicegate
  addresses: [{{value: {ip}}}]
  listeners:
  - {{name: a, port: 8443, protocol: HTTPS, hostname: a.example, tls: {{certificateRefs: [{{name: cert}}]}}}}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  router: {{plugin: rules, config: {{rules: [{{backendRefs: [{{name: web, port: 443}}]}}]}}}}
  tls: {{minVersion: \"1.3\"}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: web}}
spec:
  targetRefs: [{{group: \"\", kind: Service, name: web}}]
  validation: {{hostname: b.example, caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: authorities}}]}}
"
    )
}

fn authorities(ca: &Authority) -> String {
    let pem: String = ca.pem.lines().map(|line| format!("    {line}\n")).collect();
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: authorities}}\ndata:\n  ca.crt: |\n{pem}")
}

#[test]
fn certificates_come_from_secrets_are_renewed_and_never_lost() {
    let (ca, other) = (Authority::new(), Authority::new());
    let (first, second) = (ca.issue("a.example"), ca.issue("a.example"));
    let gateway = Gateway::new(&[("svc.yaml", SERVICE), ("cert.yaml", &first.secret("cert")), ("ca.yaml", &authorities(&ca))]);
    https(gateway.ip(2), &ca.issue("b.example"));
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    gateway.write("policies.yaml", &policies(gateway.ip(1)));
    let at = SocketAddr::new(gateway.ip(1), 8443);
    eventually("HTTPS from end to end", || get(at, "a.example", &ca).is_ok_and(|(_, answer)| answer.starts_with("HTTP/1.1 200")));
    let (shown, answer) = get(at, "a.example", &ca).expect("an answer");
    assert_eq!(shown, first.der);
    assert!(answer.contains("\nsni b.example\n") || answer.contains("sni b.example\n"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
    assert!(get(at, "b.example", &ca).is_err(), "no listener has that name");

    gateway.write("cert.yaml", &second.secret("cert"));
    eventually("the renewed certificate", || get(at, "a.example", &ca).is_ok_and(|(shown, _)| shown == second.der));
    // A certificate whose key is lost is a fault, and the last good one goes on serving.
    gateway.write("cert.yaml", &second.secret("cert").replace("PRIVATE KEY", "LOST KEY"));
    eventually("the fault", || gateway.json("faults").to_string().contains("Secret default/cert"));
    let faults = gateway.json("faults").to_string();
    assert!(faults.contains("tls.key") && !faults.contains("BEGIN"), "{faults}");
    assert_eq!(get(at, "a.example", &ca).expect("an answer").0, second.der);
    let listeners = gateway.json("listeners");
    let listener = listeners.as_array().expect("a list").iter().find(|l| l["protocol"] == "TLS").expect("the listener");
    assert_eq!(
        (&listener["hosts"][0]["tls"], &listener["hosts"][0]["certificates"][0]["secret"]),
        (&"HTTPS".into(), &"default/cert".into())
    );
    assert!(gateway.get("/metrics").expect("metrics").contains("sluicegate_tls_handshakes_total "));

    // This authority did not sign the endpoint's certificate, so nothing is sent there.
    gateway.write("ca.yaml", &authorities(&other));
    eventually("the endpoint is refused", || get(at, "a.example", &ca).is_ok_and(|(_, answer)| answer.starts_with("HTTP/1.1 502")));
    gateway.write("ca.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: authorities}\ndata: {ca.crt: nonsense}\n");
    eventually("broken rules", || get(at, "a.example", &ca).is_ok_and(|(_, answer)| answer.contains("endpoint-tls")));
}

#[test]
fn a_service_port_ends_tls_by_its_policy() {
    let ca = Authority::new();
    let gateway = Gateway::new(&[("svc.yaml", sluicegate_tests::SERVICE), ("cert.yaml", &ca.issue("a.example").secret("cert"))]);
    sluicegate_tests::http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let policy = "apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: p}\nspec: {targetRefs: [{kind: Service, name: nginx-svc}], tls: {certificateRefs: [{name: cert}]}}\n";
    gateway.write("policy.yaml", policy);
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let at = gateway.node_port();
    // The port has no appProtocol and is forwarded by connection, so the head arrives as it was sent.
    eventually("TLS at L4", || get_once(at, &ca).is_ok_and(|answer| answer.contains("GET /x HTTP/1.1\r\nhost: a.example\r\n")));
    assert!(!get_once(at, &ca).expect("an answer").contains("x-forwarded"));
}

#[test]
fn a_router_knows_who_a_client_is_by_its_verified_certificate_alone() {
    let (ca, people, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let service = sluicegate_tests::SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::new(&[
        ("svc.yaml", &service),
        ("cert.yaml", &ca.issue("a.example").secret("cert")),
        ("people.yaml", &authorities(&people)),
    ]);
    sluicegate_tests::http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let policy = r#"
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: p}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  tls:
    certificateRefs: [{name: cert}]
    alpnProtocols: [http/1.1]
    clientValidation: {optional: true, caCertificateRefs: [{kind: ConfigMap, name: authorities}]}
  router:
    plugin: rules
    config:
      rules:
      - matches: [{headers: [{name: X-Forwarded-Client-Cert, type: RegularExpression, value: ".*DNS=alice.*"}]}]
        backendRefs: [{name: nginx-svc, port: 8080}]
      - filters: [{type: DirectResponse, directResponse: {statusCode: 403, body: "who are you?"}}]
"#;
    gateway.write("policy.yaml", policy);
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let at = gateway.node_port();
    let (alice, bob, mallory) = (people.issue("alice"), people.issue("bob"), strangers.issue("alice"));
    let status = |shows| get_as(at, "a.example", &ca, shows).map(|(_, answer)| answer[9..12].to_owned());
    eventually("who is known is let in", || status(Some(&alice)).is_ok_and(|status| status == "200"));
    assert_eq!(status(Some(&bob)).expect("an answer"), "403");
    assert_eq!(status(None).expect("an answer"), "403");
    assert!(status(Some(&mallory)).is_err(), "what a stranger signed ends the handshake");
    gateway.write("policy.yaml", &policy.replace("optional: true", "optional: false"));
    eventually("a certificate is required", || status(None).is_err());
    assert_eq!(status(Some(&alice)).expect("an answer"), "200");
}

/// Sends one GET like [`get`], to a server that keeps the connection.
fn get_once(at: SocketAddr, ca: &Authority) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots).with_no_client_auth();
    let client =
        ClientConnection::new(Arc::new(config), ServerName::try_from("a.example").expect("a name")).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(client, stream);
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n")?;
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") || answer.matches("\r\n\r\n").count() < 2 {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            break;
        }
        answer.push(char::from(byte[0]));
    }
    Ok(answer)
}

#[test]
fn what_is_passed_through_is_routed_by_the_rules_plugin() {
    let ca = Authority::new();
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    https(gateway.ip(2), &ca.issue("a.example"));
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let policies = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: sluicegate
  addresses: [{{value: {}}}]
  listeners: [{{name: a, port: 8443, protocol: TLS, hostname: \"*.example\", tls: {{mode: Passthrough}}}}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  router: {{plugin: rules, config: {{rules: [{{hostnames: [a.example], backendRefs: [{{name: web, port: 443}}]}}]}}}}
",
        gateway.ip(1)
    );
    gateway.write("policies.yaml", &policies);
    let at = SocketAddr::new(gateway.ip(1), 8443);
    // With `appProtocol: https` and nothing that says how to verify the endpoint, TLS is passed through, and verifying is up to the client.
    eventually("from end to end", || get_once(at, &ca).is_ok_and(|answer| answer.contains("sni a.example\n") || answer.contains("200 OK")));
    assert!(!get_once(at, &ca).expect("an answer").contains("x-forwarded"), "nobody looked into it");
    assert!(get(at, "b.example", &ca).is_err(), "no rule takes it");
}
