//! TCPRoute and UDPRoute.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sluicegate_tests::{connect, eventually};

use super::world::{World, gateway, grant, route_of};

/// A route of a kind in namespace `infra`, created in that minute.
pub(super) fn route(kind: &str, name: &str, minute: u8, parents: &str, backends: &str) -> String {
    let created = format!("metadata: {{name: {name}, creationTimestamp: '2026-01-01T00:{minute:02}:00Z', ");
    let made = route_of("infra", name, parents, &format!("  rules: [{{backendRefs: [{backends}]}}]"));
    made.replace("HTTPRoute", kind).replace(&format!("metadata: {{name: {name}, "), &created)
}

fn tcp(name: &str, minute: u8, parents: &str, backends: &str) -> String {
    route("TCPRoute", name, minute, parents, backends)
}

fn udp(name: &str, minute: u8, parents: &str, backends: &str) -> String {
    route("UDPRoute", name, minute, parents, backends)
}

const LISTENERS: &str = "  - {name: l1, port: 9301, protocol: TCP}
  - {name: l2, port: 9302, protocol: TCP}
  - {name: l3, port: 9303, protocol: TCP}";

/// The name of the backend that answers a connection; none if it is refused or reset.
fn asked(at: SocketAddr) -> Option<String> {
    connect(at).ok().map(|(name, _)| name).filter(|name| !name.is_empty())
}

fn leads_to(world: &World, port: u16, name: Option<&str>) {
    let at = SocketAddr::new(world.address(4), port);
    eventually(&format!("{port} leads to {name:?}"), || asked(at).as_deref() == name);
}

/// The route is taken, and refers to what it may not or what is not there.
fn unresolved(world: &World, plural: &str, name: &str, reason: &'static str) {
    world.route(plural, name, "Accepted", ("True", "Accepted"));
    world.route(plural, name, "ResolvedRefs", ("False", reason));
}

#[test]
fn TCPRouteParentRefAttachAll() {
    let listeners = format!("{LISTENERS}\n  - {{name: l4, port: 9304, protocol: TCP}}");
    let world = World::new(&(gateway("g", 4, &listeners) + &tcp("r", 0, "{name: g}", "{name: t1, port: 9000}")));
    for port in 9301..=9304 {
        leads_to(&world, port, Some("t1"));
    }
    world.accepted("tcproutes", "r");
    world.attached("g", &[1, 1, 1, 1]);
}

#[test]
fn TCPRouteParentRefPortAndSectionName() {
    let routes = tcp("by-port", 0, "{name: g, port: 9301}", "{name: t1, port: 9000}")
        + &tcp("by-name", 0, "{name: g, sectionName: l2}", "{name: t2, port: 9000}")
        + &tcp("by-both", 0, "{name: g, sectionName: l3, port: 9303}", "{name: t3, port: 9000}");
    let world = World::new(&(gateway("g", 4, LISTENERS) + &routes));
    for (port, name) in [(9301, "t1"), (9302, "t2"), (9303, "t3")] {
        leads_to(&world, port, Some(name));
    }
    world.attached("g", &[1, 1, 1]);
}

#[test]
fn TCPRouteMultipleRoutesAttachment() {
    let parent = "{name: g, sectionName: l1}";
    let routes = tcp("a-younger", 2, parent, "{name: t2, port: 9000}") + &tcp("older", 1, parent, "{name: t1, port: 9000}");
    let world = World::new(&(gateway("g", 4, LISTENERS) + &routes));
    leads_to(&world, 9301, Some("t1"));
    for name in ["a-younger", "older"] {
        world.route("tcproutes", name, "Accepted", ("True", "Accepted"));
    }
    world.attached("g", &[2, 0, 0]);
    let at = SocketAddr::new(world.address(4), 9301);
    assert!((0..100).all(|_| asked(at).as_deref() == Some("t1")));
}

const WEIGHTED: fn(u16) -> String =
    |port| format!("{{name: t1, port: {port}, weight: 70}}, {{name: t2, port: {port}, weight: 30}}, {{name: t3, port: {port}, weight: 0}}");

/// Checks the shares of 500 draws at 70 to 30; six standard deviations are 61.
fn weighted(names: &[String]) {
    let share = |name: &str| names.iter().filter(|answered| *answered == name).count();
    assert_eq!(share("t1") + share("t2"), 500);
    assert!((289..=411).contains(&share("t1")), "{}", share("t1"));
}

#[test]
fn TCPRouteWeightedRouting() {
    let world = World::new(&(gateway("g", 4, LISTENERS) + &tcp("r", 0, "{name: g, sectionName: l1}", &WEIGHTED(9000))));
    leads_to(&world, 9301, Some("t1"));
    let at = SocketAddr::new(world.address(4), 9301);
    weighted(&(0..500).map(|_| asked(at).expect("an answer")).collect::<Vec<_>>());
}

#[test]
fn TCPRouteReferenceGrant() {
    let world = World::new(&(gateway("g", 4, LISTENERS) + &tcp("r", 0, "{name: g}", "{name: tw, namespace: web, port: 9000}")));
    world.apply("grant", &grant("web", "").replace("HTTPRoute", "TCPRoute"));
    leads_to(&world, 9301, Some("tw"));
    world.accepted("tcproutes", "r");
    world.delete("grant");
    unresolved(&world, "tcproutes", "r", "RefNotPermitted");
    leads_to(&world, 9301, None);
}

#[test]
fn TCPRouteInvalidBackendRefNonexistent() {
    let world = World::new(&(gateway("g", 4, LISTENERS) + &tcp("r", 0, "{name: g}", "{name: nonexistent, port: 9000}")));
    unresolved(&world, "tcproutes", "r", "BackendNotFound");
    leads_to(&world, 9301, None);
}

#[test]
fn TCPRouteInvalidCrossNamespaceBackendRef() {
    let world = World::new(&(gateway("g", 4, LISTENERS) + &tcp("r", 0, "{name: g}", "{name: tw, namespace: web, port: 9000}")));
    unresolved(&world, "tcproutes", "r", "RefNotPermitted");
    leads_to(&world, 9301, None);
}

#[test]
fn TCPRouteInvalidNonTCPListener() {
    let world = World::new(&tcp("r", 0, "{name: same-namespace, sectionName: http}", "{name: t1, port: 9000}"));
    world.route("tcproutes", "r", "Accepted", ("False", "NotAllowedByListeners"));
    world.attached("same-namespace", &[0]);
}

const UDP_LISTENERS: &str = "  - {name: l1, port: 5301, protocol: UDP}
  - {name: l2, port: 5302, protocol: UDP}
  - {name: l3, port: 5303, protocol: UDP}";

/// The name of the backend that answers a datagram from a new socket; none if there is no answer in time.
fn datagram(at: SocketAddr, patience: Duration) -> Option<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(patience)).expect("set");
    socket.connect(at).expect("connected");
    socket.send(b"hello").ok()?;
    let mut content = [0; 64];
    let length = socket.recv(&mut content).ok()?;
    Some(String::from_utf8_lossy(&content[..length]).into_owned())
}

fn answered_by(world: &World, port: u16, name: &str) {
    let at = SocketAddr::new(world.address(4), port);
    eventually(&format!("{port} leads to {name}"), || datagram(at, Duration::from_millis(200)).as_deref() == Some(name));
}

#[test]
fn UDPRoute() {
    let world =
        World::new(&(gateway("g", 4, "  - {name: udp, port: 5300, protocol: UDP}") + &udp("r", 0, "{name: g}", "{name: t1, port: 5300}")));
    answered_by(&world, 5300, "t1");
    world.accepted("udproutes", "r");
}

#[test]
fn UDPRouteParentRefAttachAllListeners() {
    let world = World::new(&(gateway("g", 4, UDP_LISTENERS) + &udp("r", 0, "{name: g}", "{name: t1, port: 5300}")));
    for (listener, port) in (5301..=5303).enumerate() {
        answered_by(&world, port, "t1");
        assert_eq!(world.kinds("g", listener), ["UDPRoute"]);
    }
    world.attached("g", &[1, 1, 1]);
}

#[test]
fn UDPRouteParentRefPortAndSectionName() {
    let routes = udp("by-port", 0, "{name: g, port: 5301}", "{name: t1, port: 5300}")
        + &udp("by-name", 0, "{name: g, sectionName: l2}", "{name: t2, port: 5300}")
        + &udp("by-both", 0, "{name: g, sectionName: l3, port: 5303}", "{name: t3, port: 5300}");
    let world = World::new(&(gateway("g", 4, UDP_LISTENERS) + &routes));
    for (port, name) in [(5301, "t1"), (5302, "t2"), (5303, "t3")] {
        answered_by(&world, port, name);
    }
    world.attached("g", &[1, 1, 1]);
}

#[test]
fn UDPRouteMultipleRoutesAttachment() {
    let parent = "{name: g, sectionName: l1}";
    let routes = udp("a-younger", 2, parent, "{name: t2, port: 5300}") + &udp("older", 1, parent, "{name: t1, port: 5300}");
    let world = World::new(&(gateway("g", 4, UDP_LISTENERS) + &routes));
    answered_by(&world, 5301, "t1");
    for name in ["a-younger", "older"] {
        world.route("udproutes", name, "Accepted", ("True", "Accepted"));
    }
    world.attached("g", &[2, 0, 0]);
    let at = SocketAddr::new(world.address(4), 5301);
    assert!((0..20).all(|_| datagram(at, sluicegate_tests::PATIENCE).as_deref() == Some("t1")));
}

#[test]
fn UDPRouteWeightedRouting() {
    let world = World::new(&(gateway("g", 4, UDP_LISTENERS) + &udp("r", 0, "{name: g, sectionName: l1}", &WEIGHTED(5300))));
    answered_by(&world, 5301, "t1");
    let at = SocketAddr::new(world.address(4), 5301);
    weighted(&(0..500).map(|_| datagram(at, sluicegate_tests::PATIENCE).expect("an answer")).collect::<Vec<_>>());
}

#[test]
fn UDPRouteReferenceGrant() {
    let world = World::new(&(gateway("g", 4, UDP_LISTENERS) + &udp("r", 0, "{name: g}", "{name: tw, namespace: web, port: 5300}")));
    world.apply("grant", &grant("web", "").replace("HTTPRoute", "UDPRoute"));
    answered_by(&world, 5301, "tw");
    world.accepted("udproutes", "r");
    world.delete("grant");
    unresolved(&world, "udproutes", "r", "RefNotPermitted");
    let at = SocketAddr::new(world.address(4), 5301);
    eventually("datagrams are dropped", || datagram(at, Duration::from_millis(200)).is_none());
}

#[test]
fn UDPRouteInvalidBackendRefNonexistent() {
    let world = World::new(&(gateway("g", 4, UDP_LISTENERS) + &udp("r", 0, "{name: g}", "{name: nonexistent, port: 5300}")));
    unresolved(&world, "udproutes", "r", "BackendNotFound");
}

/// The Service is not there either: whether it may be referred to comes first.
#[test]
fn UDPRouteInvalidCrossNamespaceBackendRef() {
    let world =
        World::new(&(gateway("g", 4, UDP_LISTENERS) + &udp("r", 0, "{name: g}", "{name: nonexistent, namespace: web, port: 5300}")));
    unresolved(&world, "udproutes", "r", "RefNotPermitted");
}

#[test]
fn UDPRouteNotAllowedByListeners() {
    let listener = "  - {name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}";
    let world = World::new(&(gateway("g", 4, listener) + &udp("r", 0, "{name: g, sectionName: tls}", "{name: t1, port: 5300}")));
    world.route("udproutes", "r", "Accepted", ("False", "NotAllowedByListeners"));
    world.attached("g", &[0]);
}
