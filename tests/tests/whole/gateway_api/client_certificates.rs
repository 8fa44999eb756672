//! Clients' certificates, and requests for another listener than the connection's.

use std::net::SocketAddr;

use sluicegate_tests::eventually;

use super::secure::Identity;
use super::world::{Answer, World, gateway, get, route_of};

const NAMES: [&str; 7] = [
    "fifth-example.wildcard.org",
    "example.org",
    "second-example.org",
    "third-example.wildcard.org",
    "fourth-example.wildcard.org",
    "unknown-example.org",
    "first-example.org",
];

/// A Gateway with HTTPS listeners of these names, ports and host names, and `tls.frontend`.
fn validating(name: &str, i: u8, frontend: &str, listeners: &[(&str, u16, &str)]) -> String {
    let listener = |(name, port, host): &(&str, u16, &str)| {
        let host = if host.is_empty() { String::new() } else { format!(", hostname: {host}") };
        format!("  - {{name: {name}, port: {port}, protocol: HTTPS{host}, tls: {{certificateRefs: [{{name: certificate}}]}}}}\n")
    };
    let listeners: String = listeners.iter().map(listener).collect();
    gateway(name, i, listeners.trim_end()).replace("  listeners:", &format!("  tls: {{frontend: {frontend}}}\n  listeners:"))
}

/// What is validated by the certificate of this ConfigMap.
fn validation(name: &str, more: &str) -> String {
    format!("{{validation: {{caCertificateRefs: [{{kind: ConfigMap, group: \"\", name: {name}}}]{more}}}}}")
}

fn routes(gateway: &str) -> String {
    let to = |host: &str, name: &str| format!("  hostnames: [{host}]\n  rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]");
    let parent = format!("{{name: {gateway}}}");
    route_of("infra", "r1", &parent, &to("example.org", "ib1")) + &route_of("infra", "r2", &parent, &to("second-example.org", "ib2"))
}

struct Clients {
    server: Identity,
    right: Identity,
    other: Identity,
}

impl Clients {
    fn new() -> Self {
        Self { server: Identity::new(&NAMES), right: Identity::new(&["client"]), other: Identity::new(&["other"]) }
    }

    fn manifests(&self) -> String {
        self.server.secret("infra", "certificate") + &self.right.authority("infra", "ca") + &self.other.authority("infra", "other-ca")
    }

    fn ask(&self, world: &World, port: u16, host: &str, shows: Option<&Identity>) -> std::io::Result<Answer> {
        self.server.ask_as(SocketAddr::new(world.address(4), port), host, &get("/").host(host), shows)
    }

    fn expect(&self, world: &World, port: u16, host: &str, shows: Option<&Identity>, backend: &str) {
        let asked = || self.ask(world, port, host, shows).is_ok_and(|answer| answer.status == 200 && answer.backend == backend);
        eventually(&format!("{backend} answers at {port}"), asked);
    }
}

#[test]
fn GatewayFrontendClientCertificateValidation() {
    let clients = Clients::new();
    let frontend = format!("{{default: {}, perPort: [{{port: 8443, tls: {}}}]}}", validation("ca", ""), validation("other-ca", ""));
    let listeners = [("https", 443, ""), ("https-with-hostname", 8443, "second-example.org")];
    let world = World::new(&(clients.manifests() + &validating("g", 4, &frontend, &listeners) + &routes("g")));
    clients.expect(&world, 443, "example.org", Some(&clients.right), "ib1");
    clients.expect(&world, 8443, "second-example.org", Some(&clients.other), "ib2");
    for (port, host, wrong) in [(443, "example.org", &clients.other), (8443, "second-example.org", &clients.right)] {
        assert!(clients.ask(&world, port, host, Some(wrong)).is_err(), "{port}");
        assert!(clients.ask(&world, port, host, None).is_err(), "{port}");
    }
    world.accepted("httproutes", "r1");
}

#[test]
fn GatewayFrontendClientCertificateValidationInsecureFallback() {
    let clients = Clients::new();
    let fallback = ", mode: AllowInsecureFallback";
    let frontend =
        format!("{{default: {}, perPort: [{{port: 8443, tls: {}}}]}}", validation("ca", fallback), validation("other-ca", fallback));
    let listeners = [("https", 443, ""), ("https-with-hostname", 8443, "second-example.org")];
    let world = World::new(&(clients.manifests() + &validating("g", 4, &frontend, &listeners) + &routes("g")));
    world.of_gateway("g", "InsecureFrontendValidationMode", ("True", "ConfigurationChanged"));
    for (port, host, backend) in [(443, "example.org", "ib1"), (8443, "second-example.org", "ib2")] {
        for shows in [Some(&clients.right), Some(&clients.other), None] {
            clients.expect(&world, port, host, shows, backend);
        }
    }
}

#[test]
fn GatewayFrontendInvalidDefaultClientCertificateValidation() {
    let clients = Clients::new();
    let frontend = format!("{{default: {}, perPort: [{{port: 80, tls: {}}}]}}", validation("missing", ""), validation("ca", ""));
    let made = validating("g", 4, &frontend, &[("https", 443, "")]);
    let made = made.replace("  listeners:\n", "  listeners:\n  - {name: http, port: 80, protocol: HTTP}\n");
    let world = World::new(&(clients.manifests() + &made + &routes("g")));
    world.expect(4, &get("/").host("example.org"), "ib1");
    world.of_listener("g", 0, "Programmed", ("True", "Programmed"));
    world.of_listener("g", 1, "ResolvedRefs", ("False", "InvalidCACertificateRef"));
    world.of_listener("g", 1, "Accepted", ("False", "NoValidCACertificate"));
    world.of_listener("g", 1, "Programmed", ("False", "Invalid"));
    assert!(clients.ask(&world, 443, "example.org", Some(&clients.right)).is_err());
}

#[test]
fn GatewayInvalidFrontendClientCertificateValidation() {
    let clients = Clients::new();
    let frontend = format!(
        "{{default: {}, perPort: [{{port: 7443, tls: {}}}, {{port: 8443, tls: {}}}, {{port: 6443, tls: {}}}]}}",
        validation("ca", ""),
        validation("missing", ""),
        validation("ib2", "").replace("kind: ConfigMap", "kind: Service"),
        validation("web-cm, namespace: web", "")
    );
    let listeners = [
        ("https", 443, ""),
        ("unresolved", 7443, "first-example.org"),
        ("kind", 8443, "second-example.org"),
        ("grant", 6443, "fourth-example.wildcard.org"),
    ];
    let manifests =
        clients.manifests() + &clients.right.authority("web", "web-cm") + &validating("g", 4, &frontend, &listeners) + &routes("g");
    let world = World::new(&manifests);
    for (kind, reason) in [("Accepted", "Accepted"), ("Programmed", "Programmed"), ("ResolvedRefs", "ResolvedRefs")] {
        world.of_listener("g", 0, kind, ("True", reason));
    }
    for (listener, reason) in [(1, "InvalidCACertificateRef"), (2, "InvalidCACertificateKind"), (3, "RefNotPermitted")] {
        world.of_listener("g", listener, "ResolvedRefs", ("False", reason));
        world.of_listener("g", listener, "Accepted", ("False", "NoValidCACertificate"));
        world.of_listener("g", listener, "Programmed", ("False", "Invalid"));
    }
    clients.expect(&world, 443, "example.org", Some(&clients.right), "ib1");
}

/// The suite asks by HTTP/2, whose connections browsers share between host names; what decides is the same for HTTP/1.1.
#[test]
fn HTTPRouteHTTPSListenerDetectMisdirectedRequests() {
    let identity = Identity::new(&NAMES);
    let listener = |name: &str, host: &str| {
        let host = if host.is_empty() { String::new() } else { format!(", hostname: '{host}'") };
        format!("  - {{name: {name}, port: 443, protocol: HTTPS{host}, tls: {{certificateRefs: [{{name: certificate}}]}}}}\n")
    };
    let listeners = [
        listener("https", ""),
        listener("named", "second-example.org"),
        listener("wildcard", "*.wildcard.org"),
        listener("under-wildcard", "fourth-example.wildcard.org"),
    ]
    .concat();
    let to = |hosts: &str, backend: &str| {
        format!("{hosts}  rules: [{{matches: [{{path: {{value: /detect}}}}], backendRefs: [{{name: {backend}, port: 8080}}]}}]")
    };
    let route = |name: &str, listener: &str, hosts: &str, backend: &str| {
        route_of("infra", name, &format!("{{name: secure, sectionName: {listener}}}"), &to(hosts, backend))
    };
    let routes = route("r1", "https", "  hostnames: [example.org]\n", "ib1")
        + &route("r2", "named", "", "ib2")
        + &route("r3", "wildcard", "", "ib3")
        + &route("r4", "under-wildcard", "", "ib1");
    let world = World::new(&(identity.secret("infra", "certificate") + &gateway("secure", 4, listeners.trim_end()) + &routes));
    let at = SocketAddr::new(world.address(4), 443);
    for (server_name, host, status) in [
        ("example.org", "example.org", 200),
        ("second-example.org", "second-example.org", 200),
        ("third-example.wildcard.org", "third-example.wildcard.org", 200),
        ("fourth-example.wildcard.org", "fourth-example.wildcard.org", 200),
        ("example.org", "second-example.org", 421),
        ("second-example.org", "example.org", 421),
        ("third-example.wildcard.org", "fourth-example.wildcard.org", 421),
        ("fourth-example.wildcard.org", "third-example.wildcard.org", 421),
        ("third-example.wildcard.org", "fifth-example.wildcard.org", 200),
        ("unknown-example.org", "unknown-example.org", 404),
        ("unknown-example.org", "example.org", 200),
        ("second-example.org", "unknown-example.org", 421),
    ] {
        let asked = || identity.ask(at, server_name, &get("/detect").host(host)).ok().map(|answer| answer.status);
        eventually(&format!("{server_name} {host}: {status}"), || asked() == Some(status));
    }
}
