//! The data plane: one thread a worker, each with its own event loop, sockets, idle upstream connections and plugin instances.
//!
//! In the order bytes pass: [`listener`] binds; each [`worker`] [`accept`]s what [`admission`] and [`overload`] let in; [`origin`] says whose it
//! is, by [`proxy_protocol`] or not; [`tls`] ends what is TLS; a connection goes to [`tcp`] (forwarded whole) or [`http`] (request by request); datagrams go to [`udp`]; all ask
//! [`decide`] for a route and an endpoint; [`upstream`] keeps connections to endpoints. [`h1`] reads and writes HTTP/1.1 on both sides.

mod accept;
mod access;
mod admission;
mod adopted;
mod breaker;
mod decide;
#[cfg(fuzzing)]
pub mod fuzz;
mod h1;
mod http;
mod http2;
mod listener;
mod origin;
mod overload;
mod proxy_protocol;
mod stream;
mod tcp;
mod tls;
mod udp;
mod upstream;
mod worker;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sluicegate_model::route::Protocol;
use sluicegate_model::shelf::Shelf;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::stats::ProxyStats;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;

pub use access::{AccessLog, AccessLogTarget};
use admission::Admission;
use adopted::Adopted;
use listener::SocketSet;
use overload::Watcher;

pub use overload::Overload;

/// How the data plane runs.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Threads, at least 1.
    pub workers: usize,
    /// Client connections open at a time, over all workers; none: as many as three quarters of the process' descriptors allow.
    pub max_connections: Option<usize>,
    /// UDP flows at a time, over all workers; none: a quarter of the process' descriptors, and at most 65,536.
    pub max_flows: Option<usize>,
    /// None: there is none.
    pub access_log: Option<AccessLog>,
    /// When new work is refused for want of memory or descriptors.
    pub overload: Overload,
    /// Where pools of balancers leave what they know, and find what an earlier start left.
    pub shelf: Arc<Shelf>,
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

/// Sockets by address. A TCP and a UDP listener may have the same one, so each protocol has its own map.
pub(crate) type Sockets<S> = BTreeMap<SocketAddr, Arc<SocketSet<S>>>;

/// What workers watch: a snapshot and the sockets for its listeners.
#[derive(Clone, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) sockets: Sockets<TcpListener>,
    pub(crate) datagrams: Sockets<UdpSocket>,
    pub(crate) stop: Option<Stop>,
}

/// How workers stop.
#[derive(Clone, Copy)]
pub(crate) struct Stop {
    /// For what runs.
    pub(crate) grace: Duration,
    /// What waits in the queues of sockets is served here; else a successor has the same sockets.
    pub(crate) drain_queues: bool,
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

/// UDP flows that are kept without being told to.
const MOST_FLOWS: usize = 65_536;

/// Descriptors for connections and flows. The soft limit is raised to the hard one.
fn descriptors() -> usize {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok() {
            limit.current = limit.maximum;
        }
    }
    let descriptors = limit.current.unwrap_or(u64::MAX).saturating_sub(RESERVED_DESCRIPTORS).max(16);
    usize::try_from(descriptors).unwrap_or(usize::MAX)
}

/// The running data plane. Dropped without [`Proxy::shutdown`] it stops at once.
pub struct Proxy {
    published: watch::Sender<Published>,
    /// Sockets that were handed to this process and have no listener yet. Publishing is one at a time, so that no two bind the same address.
    adopted: Mutex<Adopted>,
    serving: Arc<Serving>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    access_log: Mutex<Option<access::Writer>>,
    count: usize,
    _watcher: Watcher,
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
        // Three quarters are for connections, which may need one towards an endpoint as well; one quarter for flows, which need just that one.
        let quarter = descriptors() / 4;
        let most_open = config.max_connections.unwrap_or(quarter / 2 * 3);
        let admission = Arc::new(Admission::default());
        let most_flows = config.max_flows.unwrap_or(quarter.min(MOST_FLOWS)).div_ceil(count);
        let access_log = config.access_log.as_ref().map(|log| access::Writer::start(log, stats)).transpose()?;
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            let (published, stats, serving, admission) = (receiver.clone(), stats.clone(), serving.clone(), admission.clone());
            let log = access_log.as_ref().map(|writer| writer.log(&stats));
            let shelf = config.shelf.clone();
            let worker = worker::Worker { index, cpu, most_open, most_flows, log, admission, published, stats, serving, shelf };
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
        let watcher = Watcher::start(config.overload, stats)?;
        Ok(Self {
            published,
            adopted: Mutex::default(),
            serving,
            workers: Mutex::new(workers),
            access_log: Mutex::new(access_log),
            count,
            _watcher: watcher,
        })
    }

    /// Serves a snapshot: new addresses are bound, gone ones closed, kept ones stay open. What could not be bound is returned; the rest
    /// serves. An address that failed is tried again with the next snapshot.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Vec<BindFailure> {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failures = Vec::new();
        let known = self.published.borrow().clone();
        let (mut sockets, mut datagrams) = (Sockets::new(), Sockets::new());
        for listener in &snapshot.listeners {
            let address = listener.address;
            let bound = match listener.front.protocol() {
                Protocol::Tcp => keep(&known.sockets, &mut sockets, address, || match adopted.tcp.remove(&address) {
                    Some(sockets) => SocketSet::<TcpListener>::adopt(sockets, self.count),
                    None => SocketSet::tcp(address, self.count),
                }),
                Protocol::Udp => keep(&known.datagrams, &mut datagrams, address, || match adopted.udp.remove(&address) {
                    Some(sockets) => SocketSet::<UdpSocket>::adopt(sockets, address, self.count),
                    None => SocketSet::udp(address, self.count),
                }),
            };
            if let Some(set) = sockets.get(&address) {
                set.apply(&listener.settings);
            }
            if let Err(error) = bound {
                failures.push(BindFailure { address, listener: listener.name.clone(), error: error.to_string() });
            }
        }
        self.published.send_modify(|p| {
            p.snapshot = snapshot;
            p.sockets = sockets;
            p.datagrams = datagrams;
        });
        failures
    }

    /// Takes sockets of TCP that listen already, and of UDP, each to be used when a snapshot has a listener for its address.
    pub fn adopt(&self, sockets: impl IntoIterator<Item = OwnedFd>) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets {
            if let Err(error) = adopted.add(socket) {
                tracing::warn!(%error, "a descriptor that was handed over is no socket that can be listened on");
            }
        }
    }

    /// Gives one of TCP away, for something that is no listener of a snapshot.
    pub fn give(&self, address: SocketAddr) -> Option<TcpListener> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner).tcp.remove(&address)?.pop()
    }

    /// Those for which there is no listener. With `close`, they are closed, with whatever waits in their queues.
    pub fn unused(&self, close: bool) -> Vec<SocketAddr> {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = adopted.addresses();
        if close {
            *adopted = Adopted::default();
        }
        addresses
    }

    /// A second descriptor of each socket, for a successor.
    pub fn sockets(&self) -> Vec<OwnedFd> {
        let published = self.published.borrow();
        let (tcp, udp) = (published.sockets.values().flat_map(|set| set.all()), published.datagrams.values().flat_map(|set| set.all()));
        tcp.chain(udp).collect()
    }

    /// Waits until every worker serves the snapshot `version` or a newer one. The caller sets the deadline.
    pub async fn served(&self, version: u64) {
        // The sender lives in `self`, so this cannot end early.
        let _ = self.serving.all.subscribe().wait_for(|newest| *newest >= version).await;
    }

    /// Has the access log's file opened anew, within a second: its name was given to another one.
    pub fn reopen_access_log(&self) {
        if let Some(writer) = &*self.access_log.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.reopen();
        }
    }

    /// Takes what has connected already, stops accepting, lets what runs finish for `grace`, and ends the workers. UDP sockets stay open so long:
    /// answers go out through them. Blocks until they have ended: call it where that is allowed.
    pub fn shutdown(&self, grace: Duration) {
        self.stop(Stop { grace, drain_queues: true });
    }

    /// The same where a successor accepts and receives from the same sockets: what waits in their queues is left to it.
    pub fn leave(&self, grace: Duration) {
        self.stop(Stop { grace, drain_queues: false });
    }

    fn stop(&self, stop: Stop) {
        self.published.send_modify(|p| {
            p.stop = Some(stop);
            p.sockets.clear();
        });
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
        if let Some(writer) = self.access_log.lock().unwrap_or_else(PoisonError::into_inner).take() {
            writer.end();
        }
    }
}

/// Goes on with the sockets of an address, or binds new ones.
fn keep<S>(
    known: &Sockets<S>,
    kept: &mut Sockets<S>,
    address: SocketAddr,
    bind: impl FnOnce() -> std::io::Result<SocketSet<S>>,
) -> std::io::Result<()> {
    let set = known.get(&address).cloned().map_or_else(|| bind().map(Arc::new), Ok)?;
    kept.insert(address, set);
    Ok(())
}
