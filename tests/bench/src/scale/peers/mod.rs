//! One change of many routes, or of many endpoints, at each proxy that is there: until it is served, what it costs, and what it does to requests. A
//! proxy that is not installed is left out.
//!
//! Each is told in its own best way: nginx and HAProxy by a reload, HAProxy also by its runtime API, Envoy by files that it watches (RDS and EDS),
//! Traefik by its file provider, Caddy by its admin API, the gateway by its folder.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod ours;
mod traefik;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::changes::{answers, latencies};
use super::world::{ENDPOINTS, Side, path, real, unreal};
use super::{Setting, process};
use crate::client::Client;
use crate::load::fixed::Load;
use crate::process::family;

const ROUTES: u32 = 5_000;
/// How many pools there are, with ten endpoints each.
const POOLS: u32 = 1_000;
const CHANGES: usize = 10;
/// Requests a second, and the number of connections for them.
const RATE: u32 = 1_000;
const CONNECTIONS: usize = 16;
/// How long a proxy may take to read its configuration.
const START: Duration = Duration::from_secs(120);
/// How long the load runs while nothing changes, and after each change, so that the aftermath counts as well.
const CALM: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_secs(1);

/// The result of one proxy and kind of change.
#[derive(Serialize)]
pub(super) struct Tried {
    pub(super) change: &'static str,
    pub(super) proxy: &'static str,
    /// The median in milliseconds until a change is served.
    pub(super) median: f64,
    pub(super) slowest: f64,
    /// The CPU milliseconds of all its processes, for each change.
    pub(super) cpu: f64,
    pub(super) failed: u64,
    /// How many requests came on kept connections that were closed.
    pub(super) again: u64,
    /// Memory in MiB, proportional: before the changes, and the highest value while they are made.
    pub(super) memory: f64,
    pub(super) most: f64,
}

/// What there are many of, one of which is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Routes,
    Endpoints,
}

/// A configuration, which each proxy writes in its own form.
struct Plan<'a> {
    folder: PathBuf,
    /// The folder with programs from PyPI.
    tools: &'a Path,
    binary: &'a Path,
    kind: Kind,
    /// The endpoints' port.
    backend: u16,
    port: u16,
}

impl Plan<'_> {
    fn listen(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The number of the route that is changed, or of the pool whose endpoint is.
    fn changed(&self) -> u32 {
        if self.kind == Kind::Routes { ROUTES / 2 } else { 1 }
    }

    fn pools(&self, side: Side) -> Vec<(String, Vec<Ipv4Addr>)> {
        match self.kind {
            Kind::Routes => [Side::A, Side::B].map(|side| (side.name().to_owned(), vec![side.address()])).into(),
            Kind::Endpoints => (0..POOLS).map(|number| (format!("pool-{number}"), self.endpoints(number, side))).collect(),
        }
    }

    /// The endpoints of a pool. The changed endpoint is the only one of its pool, so that each request shows it.
    fn endpoints(&self, number: u32, side: Side) -> Vec<Ipv4Addr> {
        match number {
            0 => real().collect(),
            n if n == self.changed() => vec![side.address()],
            _ => (0..ENDPOINTS).map(|i| unreal(number * ENDPOINTS + i)).collect(),
        }
    }

    /// The routes, each a path and the name of a pool.
    fn routes(&self, side: Side) -> Vec<(String, String)> {
        let to = |number: u32| match self.kind {
            Kind::Routes if number == self.changed() => side.name().to_owned(),
            Kind::Routes => Side::A.name().to_owned(),
            Kind::Endpoints => format!("pool-{number}"),
        };
        let count = if self.kind == Kind::Routes { ROUTES } else { POOLS };
        (0..count).map(|number| (path(number), to(number))).collect()
    }
}

/// A proxy that runs with such a configuration.
trait Proxy {
    /// Orders the change; it need not be served when this returns.
    fn change(&mut self, side: Side) -> Result<(), String>;

    fn pid(&self) -> u32;

    /// Where to send requests for what gets load and for what is changed, as an address and a path each.
    fn doors(&self, plan: &Plan<'_>) -> [(SocketAddr, String); 2] {
        [(plan.listen(), path(0)), (plan.listen(), path(plan.changed()))]
    }
}

/// Starts a proxy; none if it is not installed.
type Start = fn(&Plan<'_>) -> Result<Option<Box<dyn Proxy>>, String>;

const ALL: [(&str, Start); 7] = [
    ("sluicegate", ours::start),
    ("nginx, reload", nginx::start),
    ("haproxy, reload", haproxy::reloaded),
    ("haproxy, runtime API", haproxy::told),
    ("envoy, watched files", envoy::start),
    ("traefik, watched files", traefik::start),
    ("caddy, admin API", caddy::start),
];

pub(super) fn measure(setting: &Setting<'_>) -> Result<Vec<Tried>, String> {
    let mut all = Vec::new();
    for (kind, change) in [(Kind::Routes, "1 of 5,000 routes"), (Kind::Endpoints, "1 of 10,000 endpoints")] {
        for (number, (proxy, start)) in ALL.into_iter().enumerate() {
            let folder = setting.folder.join(format!("peer-{number}-{}", if kind == Kind::Routes { "routes" } else { "endpoints" }));
            std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
            let (tools, binary) = (setting.tools, setting.binary);
            let plan = Plan { folder, tools, binary, kind, backend: setting.backend, port: crate::peers::port()? };
            match start(&plan) {
                Ok(None) => println!("  {proxy} is not installed here, and left out"),
                Ok(Some(mut running)) => match attempt(&plan, running.as_mut()) {
                    Ok(tried) => {
                        let tried = Tried { change, proxy, ..tried };
                        println!(
                            "  {change}, {proxy}: served after {:.1} ms, {:.1} at most; {:.1} ms of CPU; {} failed, {} sent again; {:.0} MiB, {:.0} at most",
                            tried.median, tried.slowest, tried.cpu, tried.failed, tried.again, tried.memory, tried.most
                        );
                        all.push(tried);
                    }
                    Err(error) => println!("  {change}, {proxy}: {error}"),
                },
                Err(error) => println!("  {change}, {proxy}: {error}"),
            }
        }
    }
    Ok(all)
}

fn attempt(plan: &Plan<'_>, proxy: &mut dyn Proxy) -> Result<Tried, String> {
    let [(load, load_path), (probe, probe_path)] = proxy.doors(plan);
    let mut client = Client::new(probe);
    let shows = |client: &mut Client, side: Side| answers(client, &probe_path, &side.address().to_string());
    let begun = Instant::now();
    while !shows(&mut client, Side::A) {
        if begun.elapsed() > START {
            return Err("it does not serve".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = proxy.pid();
    let memory = || family(pid).map(|pids| process::memory(&pids).proportional);
    // The time of all its processes, including those that have ended.
    let cpu = || family(pid).map(|pids| process::of_family(&pids).as_secs_f64());
    let before = memory()?;
    let running = Load::start(&Setting::own()?, &[load], &load_path, RATE, CONNECTIONS)?;
    std::thread::sleep(Duration::from_secs(1));
    let calm = cpu()?;
    std::thread::sleep(CALM);
    let calm = (cpu()? - calm) / CALM.as_secs_f64();
    let (mut most, mut all, begun, used) = (before, Vec::new(), Instant::now(), cpu()?);
    for number in 0..CHANGES {
        let side = Side::of(number);
        all.extend(latencies(1, |_| proxy.change(side), |_| shows(&mut client, side))?);
        most = most.max(memory()?);
        std::thread::sleep(SETTLE);
        most = most.max(memory()?);
    }
    let used = cpu()? - used - calm * begun.elapsed().as_secs_f64();
    let loaded = running.end()?;
    all.sort_by(f64::total_cmp);
    let (median, slowest) = (all[all.len() / 2], all[all.len() - 1]);
    let cpu = (used * 1e3 / CHANGES as f64).max(0.0);
    Ok(Tried { change: "", proxy: "", median, slowest, cpu, failed: loaded.failed, again: loaded.again, memory: before, most })
}

/// The path of a program, from PyPI or of the system; none if it is not installed.
fn find(plan: &Plan<'_>, program: &str) -> Option<PathBuf> {
    crate::peers::find(plan.tools, program)
}
