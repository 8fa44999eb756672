//! What is measured: a way through the proxies, and the load on it.

use std::net::SocketAddr;

use crate::load::{Load, h2load, udp, wrk};
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
    kind: Kind,
}

enum Kind {
    /// wrk with a path, and whether each request has a connection of its own.
    Wrk(&'static str, bool),
    H2load,
    Udp,
}

/// What every row asks for that is about small answers: 100 bytes, by the last of ten rules.
const SMALL: &str = "/service-9/items";

/// The same, by the last of this many routes.
const ROUTES: [(&str, u16, &str); 3] =
    [("routes: 1", 1, "/service-0/items"), ("routes: 100", 100, "/service-99/items"), ("routes: 5,000", 5_000, "/service-4999/items")];

const fn routes(i: usize) -> Scenario {
    let (name, routes, path) = ROUTES[i];
    row(name, Door::Routes(routes), "nginx", 1.10, Kind::Wrk(path, false))
}

/// The rows whose CPU time for each request may differ by at most a tenth.
pub(crate) const FEW_AND_MANY_ROUTES: [&str; 2] = [ROUTES[1].0, ROUTES[2].0];

const fn row(name: &'static str, door: Door, reference: &'static str, goal: f64, kind: Kind) -> Scenario {
    Scenario { name, unit: "request", door, reference, goal, kind }
}

pub(crate) const ALL: [Scenario; 13] = [
    row("HTTP, 100 bytes", Door::Http, "nginx", 1.10, Kind::Wrk(SMALL, false)),
    row("HTTP, 10 KB", Door::Http, "nginx", 1.10, Kind::Wrk("/service-9/10k", false)),
    row("HTTP, 1 MB", Door::Http, "nginx", 1.10, Kind::Wrk("/service-9/1m", false)),
    routes(0),
    routes(1),
    routes(2),
    row("HTTPS, 100 bytes", Door::Https, "nginx", 1.10, Kind::Wrk(SMALL, false)),
    Scenario { unit: "handshake", ..row("HTTPS, a full handshake each", Door::Https, "nginx", 1.10, Kind::Wrk(SMALL, true)) },
    row("HTTP/2, 100 bytes", Door::H2, "nginx", 1.10, Kind::H2load),
    row("L4, 100 bytes", Door::L4, "haproxy", 1.20, Kind::Wrk(SMALL, false)),
    row("L4, 1 MB", Door::L4, "haproxy", 1.20, Kind::Wrk("/service-9/1m", false)),
    Scenario { unit: "connection", ..row("L4, a connection each", Door::L4, "haproxy", 1.20, Kind::Wrk(SMALL, true)) },
    Scenario { unit: "datagram and its echo", ..row("UDP, 100 bytes", Door::Udp, "nginx", 1.10, Kind::Udp) },
];

/// How many streams a connection of HTTP/2 has.
const STREAMS: usize = 8;

impl Scenario {
    /// Puts the load on one proxy.
    pub(crate) fn load(&self, peer: &Peer, connections: usize, seconds: u64) -> Result<Load, String> {
        let address = peer.doors.get(&self.door).ok_or_else(|| format!("{} has no door for {}", peer.name, self.name))?;
        let load = self.send(*address, connections, seconds)?;
        // UDP may lose datagrams, so a few are tolerated; a lost request is a failure.
        let tolerated = if matches!(self.kind, Kind::Udp) { load.done / 1000 } else { 0 };
        if load.failures > tolerated {
            return Err(format!("{}, {}: {} of {} failed", self.name, peer.name, load.failures, load.done + load.failures));
        }
        Ok(load)
    }

    fn send(&self, address: SocketAddr, connections: usize, seconds: u64) -> Result<Load, String> {
        let scheme = if self.door == Door::Https { "https" } else { "http" };
        match self.kind {
            Kind::Wrk(path, fresh) => wrk::load(&format!("{scheme}://{address}{path}"), connections, seconds, fresh),
            Kind::H2load => h2load::load(&format!("{scheme}://{address}{SMALL}"), (connections / STREAMS).max(1), STREAMS, seconds),
            Kind::Udp => udp::load(address, connections, seconds),
        }
    }
}
