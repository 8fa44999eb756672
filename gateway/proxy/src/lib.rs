//! The data plane: one thread a worker, each with its own event loop, sockets, idle upstream connections and plugin instances.
//!
//! In the order bytes pass: [`listener`] binds; [`worker`] accepts; a connection goes to [`tcp`] (forwarded whole) or [`http`] (request by
//! request); both ask [`decide`] for a route and an endpoint; [`upstream`] keeps connections to endpoints.

mod decide;
mod http;
mod listener;
mod tcp;
mod upstream;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::stats::ProxyStats;
use tokio::sync::watch;

use listener::SocketSet;

/// How the data plane runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads, at least 1.
    pub workers: usize,
}

/// An address that could not be bound.
#[derive(Debug)]
pub struct BindFailure {
    /// Where.
    pub address: SocketAddr,
    /// What for.
    pub listener: String,
    /// Why.
    pub error: std::io::Error,
}

/// What workers watch: a snapshot and the sockets for its listeners.
#[derive(Clone, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) sockets: BTreeMap<SocketAddr, Arc<SocketSet>>,
    pub(crate) stopping: bool,
}

/// The running data plane.
pub struct Proxy {
    published: watch::Sender<Published>,
    served: Arc<Vec<AtomicU64>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    count: usize,
    grace: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts the workers; they listen on nothing yet.
    pub fn start(config: &Config, stats: &Arc<ProxyStats>) -> std::io::Result<Self> {
        let count = config.workers.max(1);
        let (published, receiver) = watch::channel(Published::default());
        let served: Arc<Vec<AtomicU64>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
        let grace = Arc::new(AtomicU64::new(0));
        let mut workers = Vec::new();
        for index in 0..count {
            let worker =
                worker::Worker { index, published: receiver.clone(), stats: stats.clone(), served: served.clone(), grace: grace.clone() };
            workers.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || worker.run())?);
        }
        Ok(Self { published, served, workers: Mutex::new(workers), count, grace })
    }

    /// Serves a snapshot: new addresses are bound, gone ones closed, and what could not be bound is returned; the rest serves.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Vec<BindFailure> {
        let mut failures = Vec::new();
        let known = self.published.borrow().sockets.clone();
        let mut sockets = BTreeMap::new();
        for listener in &snapshot.listeners {
            let address = listener.address;
            match known.get(&address).cloned().map_or_else(|| SocketSet::bind(address, self.count).map(Arc::new), Ok) {
                Ok(set) => drop(sockets.insert(address, set)),
                Err(error) => failures.push(BindFailure { address, listener: listener.name.clone(), error }),
            }
        }
        self.published.send_replace(Published { snapshot, sockets, stopping: false });
        failures
    }

    /// The newest snapshot version that every worker serves.
    pub fn served(&self) -> u64 {
        self.served.iter().map(|v| v.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Stops accepting, lets what runs finish for `grace`, and ends the workers. Blocks.
    pub fn shutdown(&self, grace: Duration) {
        self.grace.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        self.published.send_modify(|p| {
            p.stopping = true;
            p.sockets.clear();
        });
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}
