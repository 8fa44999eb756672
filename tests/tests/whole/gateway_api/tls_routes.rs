//! TLSRoute: connections by their server name, passed through or with TLS ended by the gateway.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sluicegate_tests::eventually;

use super::l4::route;
use super::secure::Identity;
use super::world::{World, gateway, grant, service};

/// A backend at port 443 that ends TLS and sends its name and the server name that it was asked for.
fn serve(ip: IpAddr, identity: &Identity, name: &'static str) {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
    let config = Arc::new(config.with_single_cert(vec![identity.der.clone()], key.into()).expect("a certificate"));
    let listener = TcpListener::bind((ip, 443)).expect("port 443 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(std::io::Error::other)?, stream);
                stream.conn.complete_io(&mut stream.sock)?;
                let line = format!("{name} {}\n", stream.conn.server_name().unwrap_or("-"));
                stream.write_all(line.as_bytes())?;
                stream.read(&mut [0]).map(drop)
            });
        }
    });
}

/// A world with two such backends, `s1` and `s2`.
fn world(manifests: &str) -> (World, Identity) {
    let identity = Identity::new(&["abc.example.com", "other.example.com", "a.b.example.com", "x.com", "tls.example.com", "abc.other.org"]);
    let world = World::new(manifests);
    let mut services = identity.secret("infra", "certificate");
    for (name, last) in [("s1", 60), ("s2", 61)] {
        serve(world.gateway.ip(last), &identity, name);
        services.push_str(&service("infra", name, world.gateway.ip(last), "{name: tls, port: 443, targetPort: 443}"));
    }
    world.apply("services", &services);
    (world, identity)
}

/// The line that a server name leads to; none if the handshake fails.
fn asked(identity: &Identity, at: SocketAddr, name: &str) -> Option<String> {
    let mut line = String::new();
    BufReader::new(identity.connect(at, name).ok()?).read_line(&mut line).ok()?;
    Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
}

/// Whether the handshake ends with the connection, without an alert: where TLS is passed through, nobody speaks it.
fn is_cut_off(identity: &Identity, at: SocketAddr, name: &str) -> bool {
    let read = identity.connect(at, name).and_then(|mut stream| stream.read(&mut [0]));
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof))
}

fn leads_to(world: &World, identity: &Identity, (i, port): (u8, u16), name: &str, wanted: Option<&str>) {
    let at = SocketAddr::new(world.address(i), port);
    if wanted.is_none() {
        return eventually(&format!("{name} at {at} leads nowhere"), || is_cut_off(identity, at, name));
    }
    let wanted = wanted.map(|backend| if backend.starts_with('s') { format!("{backend} {name}") } else { backend.to_owned() });
    eventually(&format!("{name} at {at} leads to {wanted:?}"), || asked(identity, at, name) == wanted);
}

fn passthrough(name: &str, i: u8, host: &str) -> String {
    let host = if host.is_empty() { String::new() } else { format!(", hostname: '{host}'") };
    gateway(name, i, &format!("  - {{name: tls, port: 443, protocol: TLS{host}, tls: {{mode: Passthrough}}}}"))
}

fn tls(name: &str, parent: &str, hosts: &str, backend: &str) -> String {
    route("TLSRoute", name, 0, parent, backend).replace("  rules:", &format!("  hostnames: [{hosts}]\n  rules:"))
}

const S1: &str = "{name: s1, port: 443}";
const S2: &str = "{name: s2, port: 443}";

#[test]
fn TLSRouteSimpleSameNamespace() {
    let (world, identity) = world(&(passthrough("g", 4, "*.example.com") + &tls("r", "{name: g}", "abc.example.com", S1)));
    leads_to(&world, &identity, (4, 443), "abc.example.com", Some("s1"));
    world.accepted("tlsroutes", "r");
    world.attached("g", &[1]);
}

#[test]
fn TLSRouteHostnameIntersection() {
    let gateways = passthrough("exact", 4, "abc.example.com")
        + &passthrough("more", 5, "*.example.com")
        + &passthrough("less", 6, "*.com")
        + &passthrough("empty", 7, "");
    let routes = tls("r1", "{name: exact}", "'*.example.com'", S1)
        + &tls("r2", "{name: more}", "abc.example.com", S1)
        + &tls("r3", "{name: more}", "'*.com'", S2)
        + &tls("r4", "{name: less}", "abc.example.com", S1)
        + &tls("r5", "{name: less}", "'*.example.com'", S2)
        + &tls("r6", "{name: empty}", "abc.example.com", S1)
        + &tls("r7", "{name: empty}", "'*.com'", S2);
    let (world, identity) = world(&(gateways + &routes));
    for (i, name, wanted) in [
        (4, "abc.example.com", Some("s1")),
        (4, "other.example.com", None),
        (5, "abc.example.com", Some("s1")),
        (5, "other.example.com", Some("s2")),
        (5, "x.com", None),
        (6, "abc.example.com", Some("s1")),
        (6, "other.example.com", Some("s2")),
        (6, "x.com", None),
        (7, "abc.example.com", Some("s1")),
        (7, "x.com", Some("s2")),
        (7, "abc.other.org", None),
    ] {
        leads_to(&world, &identity, (i, 443), name, wanted);
    }
}

#[test]
fn TLSRouteInvalidNoMatchingListenerHostname() {
    let gateways = passthrough("exact", 4, "abc.example.com") + &passthrough("wildcard", 5, "*.example.com");
    let routes = tls("r1", "{name: exact}", "abc.other.org", S1) + &tls("r2", "{name: wildcard}", "'*.other.org', example.com", S1);
    let (world, _) = world(&(gateways + &routes));
    for (route, gateway) in [("r1", "exact"), ("r2", "wildcard")] {
        world.route("tlsroutes", route, "Accepted", ("False", "NoMatchingListenerHostname"));
        world.attached(gateway, &[0]);
    }
}

#[test]
fn TLSRouteInvalidNoMatchingListener() {
    let https = "  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: certificate}]}}";
    let gateways =
        gateway("http", 4, "  - {name: http, port: 80, protocol: HTTP}") + &gateway("https", 5, https) + &passthrough("tls", 6, "");
    let routes = tls("r1", "{name: http}", "abc.example.com", S1)
        + &tls("r2", "{name: https}", "abc.example.com", S1)
        + &tls("r3", "{name: tls, sectionName: none}", "abc.example.com", S1);
    let (world, _) = world(&(gateways + &routes));
    for (route, gateway, reason) in
        [("r1", "http", "NotAllowedByListeners"), ("r2", "https", "NotAllowedByListeners"), ("r3", "tls", "NoMatchingParent")]
    {
        world.route("tlsroutes", route, "Accepted", ("False", reason));
        world.attached(gateway, &[0]);
    }
}

fn unresolved(backend: &str, reason: &'static str) -> (World, Identity) {
    let (world, identity) = world(&(passthrough("g", 4, "") + &tls("r", "{name: g}", "abc.example.com", backend)));
    world.route("tlsroutes", "r", "Accepted", ("True", "Accepted"));
    world.route("tlsroutes", "r", "ResolvedRefs", ("False", reason));
    leads_to(&world, &identity, (4, 443), "abc.example.com", None);
    (world, identity)
}

#[test]
fn TLSRouteInvalidBackendRefNonexistent() {
    unresolved("{name: nonexistent, port: 443}", "BackendNotFound");
}

#[test]
fn TLSRouteInvalidBackendRefUnknownKind() {
    unresolved("{group: unknownkind.example.com, kind: NonExistent, name: x, port: 443}", "InvalidKind");
}

#[test]
fn TLSRouteInvalidReferenceGrant() {
    let (world, identity) = unresolved("{name: s1, namespace: web, port: 443}", "RefNotPermitted");
    let right = grant("web", ", name: s1").replace("HTTPRoute", "TLSRoute");
    for (i, (from, to)) in [
        ("namespace: web}", "namespace: app}"),
        ("group: gateway.networking.k8s.io, kind", "group: other.example, kind"),
        ("kind: TLSRoute", "kind: HTTPRoute"),
        ("namespace: infra}", "namespace: web}"),
        ("group: \"\"", "group: other.example"),
        ("kind: Service", "kind: Secret"),
        ("name: s1}]", "name: other}]"),
    ]
    .into_iter()
    .enumerate()
    {
        let wrong = right.replace(from, to);
        assert_ne!(wrong, right);
        // Once the Gateway that comes with it is there, it has been read.
        let marker = format!("marker{i}");
        world.apply("grant", &format!("{wrong}---\n{}", passthrough(&marker, 5, "")));
        world.of_gateway(&marker, "Programmed", ("True", "Programmed"));
        world.route("tlsroutes", "r", "ResolvedRefs", ("False", "RefNotPermitted"));
        leads_to(&world, &identity, (4, 443), "abc.example.com", None);
    }
}

#[test]
fn TLSRouteListenerPassthroughSupportedKinds() {
    let listener =
        "  - {name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: TLSRoute}]}}";
    let (world, _) = world(&gateway("g", 4, listener));
    world.of_listener("g", 0, "ResolvedRefs", ("False", "InvalidRouteKinds"));
    assert_eq!(world.kinds("g", 0), ["TLSRoute"]);
}

const TERMINATE: &str = "  - {name: ended, port: 8443, protocol: TLS, hostname: tls.example.com, tls: {mode: Terminate, certificateRefs: [{name: certificate}]}}";

#[test]
fn TLSRouteListenerTerminateSupportedKinds() {
    let (world, _) = world(&gateway("g", 4, TERMINATE));
    world.of_listener("g", 0, "Accepted", ("True", "Accepted"));
    assert_eq!(world.kinds("g", 0), ["TLSRoute"]);
}

#[test]
fn TLSRouteTerminateSimpleSameNamespace() {
    let (world, identity) = world(&(gateway("g", 4, TERMINATE) + &tls("r", "{name: g}", "tls.example.com", "{name: t1, port: 9000}")));
    leads_to(&world, &identity, (4, 8443), "tls.example.com", Some("t1"));
    world.accepted("tlsroutes", "r");
}

#[test]
fn TLSRouteMixedTerminationSameNamespace() {
    let listeners =
        format!("{TERMINATE}\n  - {{name: through, port: 8443, protocol: TLS, hostname: abc.example.com, tls: {{mode: Passthrough}}}}");
    let routes = tls("r1", "{name: g, sectionName: ended}", "tls.example.com", "{name: t1, port: 9000}")
        + &tls("r2", "{name: g, sectionName: through}", "abc.example.com", S1);
    let (world, identity) = world(&(gateway("g", 4, &listeners) + &routes));
    leads_to(&world, &identity, (4, 8443), "tls.example.com", Some("t1"));
    leads_to(&world, &identity, (4, 8443), "abc.example.com", Some("s1"));
    world.attached("g", &[1, 1]);
}
