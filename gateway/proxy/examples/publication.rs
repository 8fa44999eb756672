//! What one changed endpoint costs: CPU time of a publication and of a worker that takes it, and what a listener holds.
//!
//! `cargo run --release -p sluicegate-proxy --example publication -- [service ports] [endpoints of each] [listeners]`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for its reader")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::ServiceRef;
use sluicegate_model::snapshot::{Front, Listener, ServiceIndex, ServicePort, ServiceSide, Side, Snapshot, Target};
use sluicegate_model::stats::ProxyStats;
use sluicegate_proxy::{Config, Proxy};

const CHANGES: u64 = 1_000;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse::<u32>().unwrap());
    let mut number = |default| numbers.next().unwrap_or(default);
    let (services, endpoints, listeners) = (number(10_000), number(10), number(2_000));
    let stats = Arc::new(ProxyStats::default());
    let proxy = Proxy::start(&Config { workers: 1, ..Config::default() }, &stats).unwrap();
    let wait = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let publish = |snapshot: &Snapshot| {
        let failures = proxy.publish(Arc::new(snapshot.clone()));
        assert!(failures.is_empty(), "{}", failures[0]);
        wait.block_on(proxy.served(snapshot.version));
    };

    let all = (0..services).map(|n| Arc::new(service(n, &addresses(n, endpoints))));
    let mut snapshot = Snapshot::of(1, [], all);
    let before = (worker(), resident());
    publish(&snapshot);
    println!("the first {services} service ports: {:?} of the worker's CPU, {} KiB", worker() - before.0, resident() - before.1);

    let before = (worker(), resident());
    for n in 0..listeners {
        let listener = listener(n);
        snapshot.listeners.insert(listener.at(), listener);
    }
    snapshot.version += 1;
    publish(&snapshot);
    let each = |of: usize| of * 1024 / listeners.max(1) as usize;
    println!("{listeners} listeners: {:?} of the worker's CPU, {} bytes each", worker() - before.0, each(resident() - before.1));

    let (mut publishing, begun) = (Duration::ZERO, worker());
    for change in 0..CHANGES {
        let index = change as ServiceIndex * 7 % services as usize;
        let last = snapshot.services.get(&index).unwrap();
        let pool = pool(last.internal.id, &addresses(index as u32 + change as u32 + 1, endpoints));
        snapshot.services.insert(index, Arc::new(ServicePort { internal: pool.clone(), external: pool, ..ServicePort::clone(last) }));
        snapshot.version += 1;
        let next = Arc::new(snapshot.clone());
        let at = own();
        let failures = proxy.publish(next);
        publishing += own() - at;
        assert!(failures.is_empty());
        wait.block_on(proxy.served(snapshot.version));
    }
    println!(
        "one changed endpoint: {:?} to publish, {:?} of the worker's CPU",
        publishing / CHANGES as u32,
        (worker() - begun) / CHANGES as u32
    );
    proxy.shutdown(Duration::from_secs(1));
}

fn addresses(n: u32, endpoints: u32) -> Vec<SocketAddr> {
    (0..endpoints).map(|i| (Ipv4Addr::from(0x0a00_0000 + n * endpoints + i), 8080).into()).collect()
}

fn pool(id: u64, addresses: &[SocketAddr]) -> Arc<Pool> {
    let all: Vec<Endpoint> = addresses.iter().map(|a| Endpoint::new(*a)).collect();
    Arc::new(Pool::select(id, &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50))
}

fn service(n: u32, addresses: &[SocketAddr]) -> ServicePort {
    ServicePort::of(ServiceRef { namespace: "default".into(), name: format!("s{n}"), port: 80 }, pool(unique(), addresses))
}

fn listener(n: u32) -> Arc<Listener> {
    let address = SocketAddr::from((Ipv4Addr::from(0x7f58_0000 + n), 8_080));
    let front = Front::Tcp(Target::Service(ServiceSide { service: n as ServiceIndex, side: Side::Internal }));
    Arc::new(Listener { address, name: format!("listener {n}"), front, settings: Arc::default(), limiter: None })
}

/// CPU time of the worker.
fn worker() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let worker = tasks.into_iter().find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0"));
    nanoseconds(&worker.unwrap().join("schedstat"))
}

/// CPU time of this thread.
fn own() -> Duration {
    nanoseconds("/proc/thread-self/schedstat".as_ref())
}

fn nanoseconds(path: &std::path::Path) -> Duration {
    let text = std::fs::read_to_string(path).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// In KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
