//! What is measured: a way through the proxies, and the load on it.

use std::net::SocketAddr;
use std::path::Path;

use crate::load::{Load, fixed, h2load, udp, websocket, wrk};
use crate::peers::{Door, Peer};

/// One row of the report for each proxy.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The unit that the CPU time is given for.
    pub(crate) unit: &'static str,
    pub(crate) door: Door,
    /// The proxy that the others are compared with.
    pub(crate) reference: &'static str,
    /// The highest ratio of Sluicegate's CPU time to the reference's that is wanted.
    pub(crate) goal: f64,
    /// How many connections there are, if not as many as elsewhere.
    connections: Option<usize>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// wrk with a path.
    Wrk(&'static str),
    /// The same with a connection for each request.
    Fresh(&'static str),
    /// The same with the fields of a browser.
    Browser(&'static str),
    /// So many requests a second, whatever the proxy does.
    Rate(u32),
    H2load,
    Grpc,
    WebSocket,
    Udp,
}

/// What every row asks for that is about small answers: 100 bytes, by the last of ten rules.
const SMALL: &str = "/service-9/items";
/// The unary call that is measured, by the same rules.
const CALL: &str = "/service-9/Echo";

/// What a browser sends besides `Host`.
const BROWSER: [&str; 9] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cookie: session=7f3c2a9e5b1d48c6a0f4e2d1c3b5a798; theme=dark",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
];

/// The same, by the last of this many routes.
const ROUTES: [(&str, u16, &str); 3] =
    [("routes: 1", 1, "/service-0/items"), ("routes: 100", 100, "/service-99/items"), ("routes: 5,000", 5_000, "/service-4999/items")];

const fn routes(i: usize) -> Scenario {
    let (name, routes, path) = ROUTES[i];
    row(name, Door::Routes(routes), "nginx", 1.10, Kind::Wrk(path))
}

/// The rows whose CPU time for each request may differ by at most a tenth.
pub(crate) const FEW_AND_MANY_ROUTES: [&str; 2] = [ROUTES[1].0, ROUTES[2].0];

const fn row(name: &'static str, door: Door, reference: &'static str, goal: f64, kind: Kind) -> Scenario {
    Scenario { name, unit: "request", door, reference, goal, connections: None, kind }
}

/// A row of HTTP/1.1 beside nginx.
const fn http(name: &'static str, kind: Kind) -> Scenario {
    row(name, Door::Http, "nginx", 0.85, kind)
}

pub(crate) const ALL: [Scenario; 24] = [
    http("HTTP, 100 bytes", Kind::Wrk(SMALL)),
    http("HTTP, 100 bytes, a browser's fields", Kind::Browser(SMALL)),
    http("HTTP, 10 KB", Kind::Wrk("/service-9/10k")),
    http("HTTP, 1 MB", Kind::Wrk("/service-9/1m")),
    Scenario { connections: Some(1), ..http("HTTP, 100 bytes, 1 connection", Kind::Wrk(SMALL)) },
    Scenario { connections: Some(8), ..http("HTTP, 100 bytes, 8 connections", Kind::Wrk(SMALL)) },
    Scenario { connections: Some(512), ..http("HTTP, 100 bytes, 512 connections", Kind::Wrk(SMALL)) },
    http("HTTP, 10,000 a second", Kind::Rate(10_000)),
    http("HTTP, 30,000 a second", Kind::Rate(30_000)),
    Scenario { goal: 0.95, ..http("HTTP, a connection each", Kind::Fresh(SMALL)) },
    row("HTTP, 100 bytes, with a JSON access log", Door::Logged, "sluicegate", 1.06, Kind::Wrk(SMALL)),
    routes(0),
    routes(1),
    routes(2),
    row("HTTPS, 100 bytes", Door::Https, "nginx", 0.85, Kind::Wrk(SMALL)),
    Scenario { unit: "handshake", ..row("HTTPS, a full handshake each", Door::Https, "nginx", 0.75, Kind::Fresh(SMALL)) },
    row("HTTP/2, 100 bytes", Door::H2, "nginx", 0.65, Kind::H2load),
    Scenario { unit: "call", ..row("gRPC, unary", Door::Grpc, "envoy", 0.50, Kind::Grpc) },
    Scenario { unit: "message and its echo", ..row("WebSocket, 100 bytes", Door::WebSocket, "nginx", 1.00, Kind::WebSocket) },
    row("L4, 100 bytes", Door::L4, "haproxy", 1.20, Kind::Wrk(SMALL)),
    row("L4, 10 KB", Door::L4, "haproxy", 1.20, Kind::Wrk("/service-9/10k")),
    row("L4, 1 MB", Door::L4, "haproxy", 1.20, Kind::Wrk("/service-9/1m")),
    Scenario { unit: "connection", ..row("L4, a connection each", Door::L4, "haproxy", 0.95, Kind::Fresh(SMALL)) },
    Scenario { unit: "datagram and its echo", ..row("UDP, 100 bytes", Door::Udp, "nginx", 1.10, Kind::Udp) },
];

/// How many streams a connection of HTTP/2 has.
const STREAMS: usize = 8;

impl Scenario {
    /// Puts the load on one proxy. `call`: the file with a gRPC call's message.
    pub(crate) fn load(&self, peer: &Peer, call: &Path, connections: usize, seconds: u64) -> Result<Load, String> {
        let address = peer.doors.get(&self.door).ok_or_else(|| format!("{} has no door for {}", peer.name, self.name))?;
        let load = self.send(*address, call, self.connections.unwrap_or(connections), seconds)?;
        // UDP may lose datagrams, so a few are tolerated; a lost request is a failure.
        let tolerated = if matches!(self.kind, Kind::Udp) { load.done / 1000 } else { 0 };
        if load.failures > tolerated {
            return Err(format!("{}, {}: {} of {} failed", self.name, peer.name, load.failures, load.done + load.failures));
        }
        Ok(load)
    }

    fn send(&self, address: SocketAddr, call: &Path, connections: usize, seconds: u64) -> Result<Load, String> {
        let scheme = if self.door == Door::Https { "https" } else { "http" };
        let wrk =
            |path: &str, fresh, fields: &[&str]| wrk::load(&format!("{scheme}://{address}{path}"), connections, seconds, fresh, fields);
        let h2load = |path: &str, call| {
            let connections = (connections / STREAMS).max(1);
            h2load::load(&format!("{scheme}://{address}{path}"), connections, STREAMS, seconds, call)
        };
        match self.kind {
            Kind::Wrk(path) => wrk(path, false, &[]),
            Kind::Fresh(path) => wrk(path, true, &[]),
            Kind::Browser(path) => wrk(path, false, &BROWSER),
            Kind::Rate(rate) => fixed::load(address, SMALL, rate, connections, seconds),
            Kind::H2load => h2load(SMALL, None),
            Kind::Grpc => h2load(CALL, Some(call)),
            Kind::WebSocket => websocket::load(address, connections, seconds),
            Kind::Udp => udp::load(address, connections, seconds),
        }
    }
}
