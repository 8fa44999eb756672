//! The data plane: one thread a worker, each with its own event loop, sockets, idle upstream connections and plugin instances.
//!
//! In the order bytes pass: [`listener`] binds; [`worker`] accepts; [`origin`] lets in, by [`proxy_protocol`] or not; [`tls`] ends what is TLS; a connection goes to [`tcp`] (forwarded whole) or [`http`] (request by
//! request); both ask [`decide`] for a route and an endpoint; [`upstream`] keeps connections to endpoints. [`h1`] reads and writes HTTP/1.1 on both sides.

mod decide;
#[cfg(fuzzing)]
pub mod fuzz;
mod h1;
mod http;
mod listener;
mod origin;
mod proxy_protocol;
mod stream;
mod tcp;
mod tls;
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
use tokio::runtime::LocalOptions;
use tokio::sync::watch;

use listener::SocketSet;

/// How the data plane runs.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Threads, at least 1.
    pub workers: usize,
    /// Client connections open at a time, over all workers; none: half of the descriptors the process may have.
    pub max_connections: Option<usize>,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {listener}: {error}")]
pub struct BindFailure {
    /// Where.
    pub address: SocketAddr,
    /// What for: the listener's name.
    pub listener: String,
    /// Why, in the operating system's words.
    pub error: String,
}

/// What workers watch: a snapshot and the sockets for its listeners.
#[derive(Clone, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) sockets: BTreeMap<SocketAddr, Arc<SocketSet>>,
    pub(crate) stop: Option<Duration>,
}

/// Which snapshot each worker serves.
pub(crate) struct Serving {
    workers: Vec<AtomicU64>,
    all: watch::Sender<u64>,
    stats: Arc<ProxyStats>,
}

impl Serving {
    /// A worker has taken a snapshot. The last one to take it sees all others' stores: sequential consistency.
    pub(crate) fn took(&self, worker: usize, version: u64) {
        self.workers[worker].store(version, Ordering::SeqCst);
        let all = self.workers.iter().map(|v| v.load(Ordering::SeqCst)).min().unwrap_or(0);
        self.stats.serving.fetch_max(all, Ordering::Relaxed);
        self.all.send_if_modified(|newest| {
            let newer = all > *newest;
            *newest = all.max(*newest);
            newer
        });
    }
}

/// Descriptors kept for listeners, files and the admin API.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Client connections each worker may have open: each may need a descriptor towards an endpoint as well. The soft limit is raised to the hard one.
fn most_open(workers: usize) -> usize {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok() {
            limit.current = limit.maximum;
        }
    }
    let descriptors = limit.current.unwrap_or(u64::MAX).saturating_sub(RESERVED_DESCRIPTORS).max(16);
    usize::try_from(descriptors / 2).unwrap_or(usize::MAX).div_ceil(workers)
}

/// The running data plane. Dropped without [`Proxy::shutdown`] it stops at once.
pub struct Proxy {
    published: watch::Sender<Published>,
    /// Publishing is one at a time, so that no two bind the same address.
    publishing: Mutex<()>,
    serving: Arc<Serving>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    count: usize,
}

impl Proxy {
    /// Starts the workers; they listen on nothing yet. Errors: a thread or an event loop could not be made.
    pub fn start(config: &Config, stats: &Arc<ProxyStats>) -> std::io::Result<Self> {
        Self::start_pinned(config, &[], stats)
    }

    /// The same with each worker bound to a CPU of `cpus`, which is reused from its start when it is shorter; empty: the kernel chooses.
    pub fn start_pinned(config: &Config, cpus: &[usize], stats: &Arc<ProxyStats>) -> std::io::Result<Self> {
        let count = config.workers.max(1);
        stats.own_answers.name(http::WORDS);
        let (published, receiver) = watch::channel(Published::default());
        let serving = Arc::new(Serving {
            workers: (0..count).map(|_| AtomicU64::new(0)).collect(),
            all: watch::Sender::new(0),
            stats: stats.clone(),
        });
        let most_open = config.max_connections.map_or_else(|| most_open(count), |most| most.div_ceil(count));
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            let worker =
                worker::Worker { index, cpu, most_open, published: receiver.clone(), stats: stats.clone(), serving: serving.clone() };
            // The event loop belongs to its thread; its error is returned from here.
            let (made, outcome) = std::sync::mpsc::channel();
            let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    let _ = made.send(Ok(()));
                    worker.run(&runtime);
                }
                Err(error) => drop(made.send(Err(error))),
            };
            workers.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
            outcome.recv().unwrap_or_else(|_| Err(std::io::Error::other("a worker ended at its start")))?;
        }
        Ok(Self { published, publishing: Mutex::default(), serving, workers: Mutex::new(workers), count })
    }

    /// Serves a snapshot: new addresses are bound, gone ones closed, kept ones stay open. What could not be bound is returned; the rest
    /// serves. An address that failed is tried again with the next snapshot.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Vec<BindFailure> {
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failures = Vec::new();
        let known = self.published.borrow().sockets.clone();
        let mut sockets = BTreeMap::new();
        for listener in &snapshot.listeners {
            let address = listener.address;
            match known.get(&address).cloned().map_or_else(|| SocketSet::bind(address, self.count).map(Arc::new), Ok) {
                Ok(set) => {
                    set.apply(&listener.settings);
                    sockets.insert(address, set);
                }
                Err(error) => failures.push(BindFailure { address, listener: listener.name.clone(), error: error.to_string() }),
            }
        }
        self.published.send_modify(|p| {
            p.snapshot = snapshot;
            p.sockets = sockets;
        });
        failures
    }

    /// Waits until every worker serves the snapshot `version` or a newer one. The caller sets the deadline.
    pub async fn served(&self, version: u64) {
        // The sender lives in `self`, so this cannot end early.
        let _ = self.serving.all.subscribe().wait_for(|newest| *newest >= version).await;
    }

    /// Stops accepting, lets what runs finish for `grace`, and ends the workers. Blocks until they have ended: call it where that is allowed.
    pub fn shutdown(&self, grace: Duration) {
        self.published.send_modify(|p| {
            p.stop = Some(grace);
            p.sockets.clear();
        });
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}
