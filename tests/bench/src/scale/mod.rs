//! The table "Scale": what large configurations cost, and what changes of them do, measured from outside of the built binary.
//!
//! [`world`] lays configurations down, [`gateway`] runs the binary with them, [`changes`] measures changes, [`process`] reads the kernel's counts; the load is
//! at a fixed rate ([`crate::load::fixed`]). [`cluster`] has the objects come from the API server of the tests. [`peers`] tries one change of a route and of an endpoint
//! at other proxies. [`report`] is the table.
//!
//! All starts have compiled code in the cache, and one worker. A change is a file that is renamed into place; it is served when a request shows
//! it. What a change costs is measured without requests, as CPU time of the process less what it uses when nothing changes.

mod backend;
mod changes;
mod cluster;
mod gateway;
mod peers;
mod process;
mod report;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use changes::{Measured, answers, latencies, listens, measure as changed, percentile};
use gateway::Gateway;
use report::Row;
pub(crate) use report::Scale;
use world::{Form, Routes, Services, Side};

use crate::client::Client;
use crate::load::fixed::{Load, Loaded};
use crate::peers::port;

/// The names of the rows of the gateway alone, of those where its objects come from an API server, and of those with other proxies.
pub(crate) const NAMES: [&str; 3] = ["Scale, the gateway", "Scale, in a cluster", "Scale, other proxies"];
/// How many changes have their cost measured.
const COUNTED: usize = 40;
/// How long the load runs while nothing changes.
const CALM: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 64;
/// Requests a second, and the lowest rate that is tried if the machine does not manage that many.
const RATE: u32 = 20_000;
const LEAST_RATE: u32 = 1_250;
/// The highest p99 in milliseconds while nothing changes: if it is higher, the machine is not fit for that rate.
const FIT: f64 = 200.0;

/// The size of what is measured.
#[derive(clap::Args)]
pub(crate) struct Sizes {
    /// Services, each with ten endpoints, and routes, of the table "Scale"
    #[arg(long, default_value_t = 10_000)]
    scale: u32,
    /// Changes under load of the table "Scale"
    #[arg(long, default_value_t = 1_000)]
    changes: usize,
}

struct Setting<'a> {
    binary: &'a Path,
    folder: PathBuf,
    backend: u16,
    /// The folder with programs from PyPI.
    tools: &'a Path,
    sizes: &'a Sizes,
}

/// Measures the tables of `NAMES` that are wanted; none if none is.
pub(crate) fn measure(binary: &Path, tools: &Path, sizes: &Sizes, wanted: [bool; 3]) -> Result<Option<Scale>, String> {
    if wanted == [false; 3] {
        return Ok(None);
    }
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let backend = port()?;
    let _backend = backend::start(folder.path(), backend)?;
    let setting = Setting { binary, folder: folder.path().to_owned(), backend, tools, sizes };
    let mut scale = Scale::default();
    if wanted[0] {
        println!("{}:", NAMES[0]);
        setting.alone(&mut scale)?;
    }
    if wanted[1] {
        println!("{}:", NAMES[1]);
        cluster::measure(&setting, &mut scale)?;
    }
    if wanted[2] {
        println!("{}:", NAMES[2]);
        scale.peers = peers::measure(&setting)?;
    }
    Ok(Some(scale))
}

/// The figures of a start: CPU seconds, MiB (proportional), and milliseconds of CPU for one changed endpoint, one changed policy, and one Service
/// more or less.
#[derive(Clone, Copy)]
struct Growth {
    count: u32,
    start: f64,
    memory: f64,
    endpoint: f64,
    policy: f64,
    service: f64,
}

impl Setting<'_> {
    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn own() -> Result<PathBuf, String> {
        std::env::current_exe().map_err(|e| e.to_string())
    }

    fn alone(&self, scale: &mut Scale) -> Result<(), String> {
        // This start fills the cache of compiled code.
        drop(self.services("first", 10)?);
        let (small, large) = ((self.sizes.scale / 10).max(2), self.sizes.scale);
        let before = self.growth(small)?;
        let (services, gateway) = self.services("services", large)?;
        self.large(&services, &gateway, before, scale)?;
        self.loaded(&services, scale)?;
        drop(gateway);
        self.check(scale)?;
        self.routes(Form::HttpRoutes, scale)?;
        self.routes(Form::Policy, scale)
    }

    fn services(&self, name: &str, count: u32) -> Result<(Services, Gateway), String> {
        println!("  {count} Services ...");
        let services = Services::lay_down(self.folder.join(name), count, self.backend)?;
        let gateway = Gateway::start(self.binary, &services.folder, &self.state())?;
        Ok((services, gateway))
    }

    /// The figures of a smaller configuration, for comparison.
    fn growth(&self, count: u32) -> Result<Growth, String> {
        let (services, gateway) = self.services("fewer", count)?;
        self.grown(count, &services, &gateway)
    }

    fn grown(&self, count: u32, services: &Services, gateway: &Gateway) -> Result<Growth, String> {
        let start = gateway.start.control + gateway.start.workers;
        let memory = gateway.memory().proportional;
        let endpoint = Self::endpoint(services, gateway)?.cost.all();
        let policy = Self::policy(services, gateway)?.cost.all();
        let service = Self::service(services, gateway)?.cost.all();
        Ok(Growth { count, start, memory, endpoint, policy, service })
    }

    /// Changes one endpoint repeatedly.
    fn endpoint(services: &Services, gateway: &Gateway) -> Result<Measured, String> {
        let mut client = Client::new(Services::changed());
        let body = |number: usize| Side::of(number).address().to_string();
        changed(gateway, COUNTED, |n| services.endpoint(Side::of(n)), |n| answers(&mut client, "/", &body(n)))
    }

    /// Changes one policy repeatedly.
    fn policy(services: &Services, gateway: &Gateway) -> Result<Measured, String> {
        let mut client = Client::new(Services::changed());
        let mut limited = |wanted: bool| client.get("/").is_ok_and(|answer| (answer.status == 429) == wanted);
        changed(gateway, COUNTED, |n| services.policy(n.is_multiple_of(2)), |n| limited(n.is_multiple_of(2)))
    }

    /// Adds and removes one Service repeatedly.
    fn service(services: &Services, gateway: &Gateway) -> Result<Measured, String> {
        let further = |number: usize| if number.is_multiple_of(2) { services.add() } else { services.remove() };
        changed(gateway, COUNTED, further, |number| listens(services.further()) == number.is_multiple_of(2))
    }

    /// Starts with many Services, and makes changes while nothing else is done.
    fn large(&self, services: &Services, gateway: &Gateway, before: Growth, scale: &mut Scale) -> Result<(), String> {
        let (count, memory) = (self.sizes.scale, gateway.memory());
        let start = gateway.start.control + gateway.start.workers;
        scale.row(Row::of(format!("{count} Services, {} endpoints: all served", count * world::ENDPOINTS), start, "s of CPU").goal(12.0));
        scale.row(Row::of("the same, by the clock", gateway.took.as_secs_f64(), "s"));
        scale.row(Row::of("memory, proportional (PSS), one worker", memory.proportional, "MiB").goal(350.0));
        scale.row(Row::of("memory, resident (RSS)", memory.resident, "MiB"));
        let Measured { served, cost: endpoint } = Self::endpoint(services, gateway)?;
        scale.row(Row::of("an endpoint changed until it is served, p99", percentile(&served, 99), "ms"));
        scale.row(Row::of("an endpoint changed: control", endpoint.control, "ms of CPU").goal(5.0));
        scale.row(Row::of("an endpoint changed: the worker", endpoint.worker, "ms of CPU").goal(0.5));
        let Measured { served, cost: policy } = Self::policy(services, gateway)?;
        scale.row(Row::of("a policy changed", policy.all(), "ms of CPU").goal(20.0));
        scale.row(Row::of("a policy changed until it counts, p99", percentile(&served, 99), "ms"));
        let Measured { served, cost: service } = Self::service(services, gateway)?;
        scale.row(Row::of("a Service added or removed", service.all(), "ms of CPU").goal(10.0));
        scale.row(Row::of("a Service added or removed until it is or is not served, p99", percentile(&served, 99), "ms"));
        let after =
            Growth { count, start, memory: memory.proportional, endpoint: endpoint.all(), policy: policy.all(), service: service.all() };
        for (what, of) in [
            ("CPU of the start", (|growth: Growth| growth.start) as fn(Growth) -> f64),
            ("memory", |growth| growth.memory),
            ("CPU of a changed endpoint", |growth| growth.endpoint),
            ("CPU of a changed policy", |growth| growth.policy),
            ("CPU of a Service added or removed", |growth| growth.service),
        ] {
            let ratio = of(after) / of(before).max(f64::EPSILON);
            let name = format!("{what}: {} Services to {}, {:.1} to {:.1}", before.count, after.count, of(before), of(after));
            scale.row(Row::of(name, ratio, "times"));
        }
        Ok(())
    }

    /// Changes an endpoint while requests come, half of them for the Service that is changed.
    fn loaded(&self, services: &Services, scale: &mut Scale) -> Result<(), String> {
        services.endpoint(Side::A)?;
        let addresses = [Services::loaded(), Services::changed()];
        let own = Self::own()?;
        let start = |rate| Load::start(&own, &addresses, "/", rate, CONNECTIONS);
        let mut rate = RATE;
        let calm: Loaded = loop {
            let load = start(rate)?;
            std::thread::sleep(CALM);
            let calm = load.end()?;
            println!("  {rate} requests a second asked for: {:.0} answered, {} failed, p99 {:.2} ms", calm.rate, calm.failed, calm.p99);
            if rate / 2 < LEAST_RATE || calm.rate > 0.95 * f64::from(rate) && calm.p99 < FIT {
                break calm;
            }
            rate /= 2;
        };
        let load = start(rate)?;
        let mut client = Client::new(Services::changed());
        let body = |number: usize| Side::of(number).address().to_string();
        let served =
            latencies(self.sizes.changes, |number| services.endpoint(Side::of(number)), |number| answers(&mut client, "/", &body(number)))?;
        let during = load.end()?;
        let asked = if rate < RATE { format!(" (this machine is not fit for {RATE})") } else { String::new() };
        scale.row(Row::of(format!("under load, of{asked}"), during.rate, "requests a second").goal(f64::from(RATE)).more());
        let name = format!("{} changed endpoints until each is served, p99", served.len());
        scale.row(Row::of(name, percentile(&served, 99), "ms").goal(30.0));
        scale.row(Row::of("the same, median", percentile(&served, 50), "ms"));
        scale.row(Row::of(format!("requests failed, of {}", during.done + during.failed), during.failed as f64, "").goal(0.0));
        scale.row(Row::of("a request's p99 meanwhile", during.p99, "ms").goal(2.0 * calm.p99));
        scale.row(Row::of("a request's p99 while nothing changes", calm.p99, "ms"));
        Ok(())
    }

    fn check(&self, scale: &mut Scale) -> Result<(), String> {
        let count = self.sizes.scale / 10 * 8;
        println!("  check of {count} Services ...");
        let services = Services::lay_down(self.folder.join("checked"), count, self.backend)?;
        let used = gateway::check(self.binary, &services.folder, &self.state(), &self.folder.join("check.log"))?;
        scale.row(Row::of(format!("check of {count} Services"), used, "s of CPU").goal(2.0));
        Ok(())
    }

    fn routes(&self, form: Form, scale: &mut Scale) -> Result<(), String> {
        let count = self.sizes.scale;
        let (what, one, folder) = match form {
            Form::HttpRoutes => (format!("{count} HTTPRoutes on one Gateway"), "an HTTPRoute of these", "http-route"),
            Form::Policy => (format!("{count} rules of one policy"), "a rule of these", "rule"),
        };
        println!("  {what} ...");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port()?));
        let few = Routes::lay_down(self.folder.join(folder), form, 1, at, self.backend)?;
        // The first start compiles, and the memory which that takes is not given back.
        drop(Gateway::start(self.binary, &few.folder, &self.state())?);
        let gateway = Gateway::start(self.binary, &few.folder, &self.state())?;
        let without = gateway.memory().proportional;
        drop(gateway);
        let routes = Routes::lay_down(self.folder.join(format!("{folder}s")), form, count, at, self.backend)?;
        let gateway = Gateway::start(self.binary, &routes.folder, &self.state())?;
        let mut client = Client::new(at);
        let path = routes.changed();
        let body = |number: usize| Side::of(number).address().to_string();
        let route = |number: usize| routes.route(Side::of(number));
        // A router compiles its rules at the first request that needs them.
        latencies(2, route, |number| answers(&mut client, &path, &body(number)))?;
        scale.row(Row::of(format!("{what}: more memory than of one"), gateway.memory().proportional - without, "MiB").goal(100.0));
        let start = gateway.start.control + gateway.start.workers;
        scale.row(Row::of("the same: all served", start, "s of CPU"));
        let Measured { served, cost } = changed(&gateway, COUNTED / 4, route, |number| answers(&mut client, &path, &body(number)))?;
        scale.row(Row::of(format!("{one} changed"), cost.all(), "ms of CPU").goal(20.0));
        scale.row(Row::of(format!("{one} changed until it is served, the slowest"), percentile(&served, 100), "ms"));
        Ok(())
    }
}
