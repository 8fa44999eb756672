//! The data plane. Each worker is one thread with its own event loop, sockets, idle upstream connections and plugin instances.
//!
//! In the order bytes pass: [`listener`] binds; each [`worker`] [`accept`]s what [`crate::core::admission`] and [`overload`] let in; [`origin`] says whose it
//! is, by [`proxy_protocol`] or not; [`tls`] ends what is TLS ([`incoming`] and [`quic`], what is HTTP/3); a connection goes to [`tcp`] (forwarded whole) or [`http`] (request by request); datagrams go to [`udp`]; all ask
//! [`crate::core::decider`] for a route and an endpoint, and reach it by [`endpoint`]. [`h1`] reads and writes HTTP/1.1 on both sides.

mod accept;
mod accepting;
mod access;
mod adopted;
mod alert;
mod binding;
mod blocked;
mod core;
mod descriptors;
mod endpoint;
#[cfg(fuzzing)]
pub mod fuzz;
mod h1;
mod http;
mod http2;
mod http3;
mod incoming;
mod listener;
mod origin;
mod overload;
mod proxy_protocol;
mod quic;
mod sampled;
mod stream;
mod tcp;
mod tls;
mod udp;
mod watched;
mod worker;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use sluicegate_model::persistent::Map;
use sluicegate_model::requests::Requests;
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::state_store::StateStore;
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::telemetry::Tracer;
use sluicegate_model::tls::Acme;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;

use self::core::admission::Admission;
pub use self::http::{Arrived, Asked, Outcome, Preview, preview};
pub use access::{AccessLog, AccessLogTarget, ExportedLog};
use adopted::Adopted;
use binding::Binding;
pub use blocked::{Blocked, try_listen};
use descriptors::{Descriptors, Room};
pub use endpoint::source::may_keep_clients;
use listener::SocketSet;
use overload::Watcher;
use quic::Quic;

pub use overload::{Overload, Release, is_short};

/// How the data plane runs.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The number of workers, at least 1.
    pub workers: usize,
    /// How many client connections may be open at a time, over all workers; none: three quarters of the descriptors that listeners leave.
    pub max_connections: Option<usize>,
    /// How many UDP flows there may be at a time, over all workers; none: a quarter of the descriptors that listeners leave, and at most 65,536.
    pub max_flows: Option<usize>,
    /// Where the access log goes; none: there is no log.
    pub access_log: Option<AccessLog>,
    /// What is exported of the access log; none: nothing.
    pub exported_log: Option<ExportedLog>,
    /// Which exchanges are traced, and where their spans go; none: none are.
    pub tracer: Option<Arc<Tracer>>,
    /// When new work is refused for want of memory or descriptors.
    pub overload: Overload,
    /// Returns free memory to the system.
    pub release: Release,
    /// Where pools of balancers leave what they know, and find what an earlier start left.
    pub state_store: Arc<StateStore>,
    /// Whether endpoints of Services with `externalTrafficPolicy: Local` see the client's address, where bytes or datagrams are forwarded; none: they see this
    /// gateway's. In the networks that are named are clients of which they do not.
    pub keep_clients: Option<Arc<[IpNet]>>,
    /// Who samples requests.
    pub requests: Arc<Requests>,
    /// Where the challenges of ACME's orders are answered from.
    pub acme: Arc<Acme>,
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {listener}: {error}")]
pub struct BindFailure {
    /// The protocol.
    pub protocol: Protocol,
    /// The address.
    pub address: SocketAddr,
    /// The listener's name.
    pub listener: String,
    /// Why it could not be bound, in the operating system's words.
    pub error: String,
}

/// Sockets by address. A TCP and a UDP listener may have the same address, so each protocol has its own map.
pub(crate) type Sockets<S> = Map<SocketAddr, SocketSet<S>>;

/// What workers watch: a snapshot and the sockets for its listeners.
#[derive(Clone, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) sockets: Sockets<TcpListener>,
    pub(crate) datagrams: Sockets<UdpSocket>,
    pub(crate) quic: Map<SocketAddr, Quic>,
    /// Packets of QUIC that a successor sends on.
    pub(crate) successor: Option<Arc<UnixDatagram>>,
    pub(crate) room: Room,
    pub(crate) stop: Option<Stop>,
}

/// How workers stop.
#[derive(Clone, Copy)]
pub(crate) struct Stop {
    /// How long running work may go on.
    pub(crate) grace: Duration,
    /// Whether what waits in the queues of sockets is served here. Else a successor has the same sockets.
    pub(crate) drain_queues: bool,
}

/// The snapshot that each worker serves.
pub(crate) struct Serving {
    workers: Vec<AtomicU64>,
    all: watch::Sender<u64>,
    stats: Arc<ProxyStats>,
}

impl Serving {
    /// A worker has taken a snapshot. The stores are sequentially consistent, so the last worker to take it sees those of all others.
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

/// The running data plane. If it is dropped without [`Proxy::shutdown`], it stops at once.
pub struct Proxy {
    published: watch::Sender<Published>,
    /// Is locked while a snapshot is published, so that no two bind the same address.
    binding: Mutex<Binding>,
    serving: Arc<Serving>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    access_log: Mutex<Option<access::Writer>>,
    descriptors: Descriptors,
    /// The largest numbers of connections and of flows, if they are configured.
    limits: (Option<usize>, Option<usize>),
    stats: Arc<ProxyStats>,
    _watcher: Watcher,
}

impl Proxy {
    /// Starts the workers; they listen on nothing yet. Errors: a thread or an event loop could not be made.
    pub fn start(config: &Config, stats: &Arc<ProxyStats>) -> std::io::Result<Self> {
        Self::start_pinned(config, &[], stats)
    }

    /// Starts the workers, each bound to a CPU of `cpus`, which begins anew if it is too short; empty: the kernel chooses.
    pub fn start_pinned(config: &Config, cpus: &[usize], stats: &Arc<ProxyStats>) -> std::io::Result<Self> {
        let count = config.workers.max(1);
        stats.own_answers.name(sluicegate_decide::answer::LABELS);
        let (published, receiver) = watch::channel(Published::default());
        let serving = Arc::new(Serving {
            workers: (0..count).map(|_| AtomicU64::new(0)).collect(),
            all: watch::Sender::new(0),
            stats: stats.clone(),
        });
        let descriptors = Descriptors::raised();
        let admission = Arc::new(Admission::default());
        let access_log = config.access_log.as_ref().map(|log| access::Writer::start(log, stats)).transpose()?;
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            let (published, stats, serving, admission) = (receiver.clone(), stats.clone(), serving.clone(), admission.clone());
            let log = access::Log::new(access_log.as_ref().map(access::Writer::lines), config.exported_log.clone());
            let (state_store, tracer) = (config.state_store.clone(), config.tracer.clone());
            let (keep_clients, requests) = (config.keep_clients.clone(), config.requests.clone());
            let worker = worker::Worker {
                index,
                cpu,
                release: config.release,
                log,
                tracer,
                admission,
                published,
                stats,
                serving,
                state_store,
                keep_clients,
                requests,
                acme: config.acme.clone(),
            };
            // The event loop belongs to its thread, and its error is returned from here.
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
        let watcher = Watcher::start(config.overload, config.release, stats)?;
        Ok(Self {
            published,
            binding: Mutex::new(Binding::new(count, descriptors, stats.clone())),
            serving,
            workers: Mutex::new(workers),
            access_log: Mutex::new(access_log),
            descriptors,
            limits: (config.max_connections, config.max_flows),
            stats: stats.clone(),
            _watcher: watcher,
        })
    }

    fn room(&self, listening: usize) -> Room {
        let room = self.descriptors.room(listening);
        Room { connections: self.limits.0.unwrap_or(room.connections), flows: self.limits.1.unwrap_or(room.flows) }
    }

    /// Serves a snapshot: new addresses are bound, gone ones closed, kept ones stay open. What could not be bound is returned; the rest is served. An address
    /// that failed is tried again with the next snapshot. It costs by what changes.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Vec<BindFailure> {
        let mut binding = self.binding();
        let known = self.published.borrow().clone();
        let bound = binding.follow(&snapshot, &known);
        self.stats.overload.listening.store(binding.listening() as u64, Ordering::Relaxed);
        let room = self.room(binding.listening());
        self.published.send_modify(|p| {
            p.snapshot = snapshot;
            p.sockets = bound.sockets;
            p.datagrams = bound.datagrams;
            p.quic = bound.quic;
            p.room = room;
        });
        bound.failures
    }

    fn binding(&self) -> MutexGuard<'_, Binding> {
        self.binding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes sockets of TCP that listen already, and of UDP. Each is used when a snapshot has a listener for its address.
    pub fn adopt(&self, sockets: impl IntoIterator<Item = OwnedFd>) {
        let mut binding = self.binding();
        for socket in sockets {
            if let Err(error) = binding.adopted.add(socket) {
                tracing::warn!(%error, "a descriptor that was handed over is no socket that can be listened on");
            }
        }
    }

    /// Gives away a TCP socket that was handed over, for something that is not a listener of a snapshot.
    pub fn give(&self, address: SocketAddr) -> Option<TcpListener> {
        self.binding().adopted.tcp.remove(&address)?.pop()
    }

    /// A TCP socket that was handed over, or a new one, for something that is not a listener of a snapshot.
    pub fn listen(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        self.give(address).map_or_else(|| listener::listen(address, listener::Use::Alone), Ok)
    }

    /// The addresses of sockets that were handed over and have no listener. With `close`, the sockets are closed, with what waits in their queues.
    pub fn unused(&self, close: bool) -> Vec<SocketAddr> {
        let mut binding = self.binding();
        let addresses = binding.adopted.addresses();
        if close {
            binding.adopted = Adopted::default();
        }
        addresses
    }

    /// All sockets, for a successor. They have no second descriptors, as there may be thousands. With connections of QUIC comes a socket through which it sends on
    /// what arrives for them.
    pub fn sockets(&self) -> Vec<AnySocket> {
        let link = self.link();
        let published = self.published.borrow();
        let tcp = published.sockets.values().flat_map(|set| set.all()).map(|socket| socket as AnySocket);
        let udp = published.datagrams.values().flat_map(|set| set.all()).map(|socket| socket as AnySocket);
        let quic = published.quic.values().flat_map(|quic| quic.sockets.all()).map(|socket| socket as AnySocket);
        tcp.chain(udp).chain(quic).chain(link).collect()
    }

    fn link(&self) -> Option<AnySocket> {
        if self.published.borrow().quic.is_empty() {
            return None;
        }
        let made = quic::pair(self.binding().ids());
        let (ours, theirs) = made.inspect_err(|error| tracing::warn!(%error, "a successor cannot send on packets of QUIC")).ok()?;
        self.published.send_modify(|p| p.successor = Some(Arc::new(ours)));
        Some(Arc::new(theirs))
    }

    /// Waits until every worker serves the snapshot `version`, or a newer one. The caller sets the deadline.
    pub async fn served(&self, version: u64) {
        // The sender is in `self`, so this cannot end early.
        let _ = self.serving.all.subscribe().wait_for(|newest| *newest >= version).await;
    }

    /// Has the file of the access log opened anew, within a second, as it was renamed.
    pub fn reopen_access_log(&self) {
        if let Some(writer) = &*self.access_log.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.reopen();
        }
    }

    /// Takes what has connected already, stops accepting, lets what runs finish for `grace`, and ends the workers. UDP sockets stay open meanwhile, as answers go
    /// out through them. It blocks until the workers have ended.
    pub fn shutdown(&self, grace: Duration) {
        self.stop(Stop { grace, drain_queues: true });
    }

    /// Stops while a successor accepts and receives from the same sockets: what waits in their queues is left to it.
    pub fn leave(&self, grace: Duration) {
        self.stop(Stop { grace, drain_queues: false });
    }

    fn stop(&self, stop: Stop) {
        self.published.send_modify(|p| {
            p.stop = Some(stop);
            p.sockets = Sockets::default();
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

/// A socket of any kind, which stays open as long as somebody has it.
pub type AnySocket = Arc<dyn AsFd + Send + Sync>;
