//! One worker: watches for snapshots, holds an accept task for each address, and owns what its connections share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use sluicegate_model::requests::Requests;
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::state_store::StateStore;
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::telemetry::Tracer;
use sluicegate_model::tls::Acme;
use tokio::runtime::LocalRuntime;
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::accept::Clients;
use crate::accepting::Accepting;
use crate::access::{FLUSH_EVERY, Log};
use crate::core::admission::Admission;
use crate::core::delta::{Delta, Leaving, Mets};
use crate::core::{Core, View};
use crate::endpoint::Endpoints;
use crate::http::{Exchanges, Http};
use crate::overload::{Release, Returning};
use crate::tcp::Tcp;
use crate::tls::Tls;
use crate::udp::{self, Udp};
use crate::{Published, Serving, Stop};
use crate::{incoming, quic};

/// How often idle upstream connections are looked over.
const PRUNE_EVERY: Duration = Duration::from_secs(10);
/// How often a stopping worker looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) cpu: Option<usize>,
    pub(crate) release: Release,
    pub(crate) log: Option<Log>,
    pub(crate) tracer: Option<Arc<Tracer>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) state_store: Arc<StateStore>,
    /// Whether endpoints see clients' addresses: see [`crate::Config::keep_clients`].
    pub(crate) keep_clients: Option<Arc<[IpNet]>>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) acme: Arc<Acme>,
}

/// What the connections of each protocol share. It belongs to one thread, so there are no locks.
struct Shared {
    core: Rc<Core>,
    endpoints: Rc<Endpoints>,
    exchanges: Rc<Exchanges>,
    http: Rc<Http>,
    udp: Rc<Udp>,
    clients: Rc<Clients>,
    /// Endpoints that have gone lately.
    leaving: RefCell<Leaving>,
    /// The number of this worker, and where its pools' states are kept.
    index: usize,
    state_store: Arc<StateStore>,
}

impl Shared {
    fn new(worker: &mut Worker) -> Self {
        let log = worker.log.take().map(Rc::new);
        let core = Core::new(
            worker.stats.clone(),
            log,
            worker.tracer.take(),
            worker.admission.clone(),
            worker.keep_clients.clone(),
            worker.requests.clone(),
            worker.acme.clone(),
        );
        let endpoints = Rc::new(Endpoints::new(core.clone()));
        let exchanges = Rc::new(Exchanges::new(endpoints.clone()));
        let http = Rc::new(Http::new(exchanges.clone()));
        let tcp = Rc::new(Tcp::new(endpoints.clone()));
        let tls = Rc::new(Tls::new(http.clone(), tcp.clone()));
        let (udp, clients) = (Rc::new(Udp::new(core.clone())), Rc::new(Clients::new(tls)));
        let leaving = RefCell::default();
        Self { core, endpoints, exchanges, http, udp, clients, leaving, index: worker.index, state_store: worker.state_store.clone() }
    }

    /// Serves a snapshot from now on. It costs by what the snapshot changes.
    fn take(&self, snapshot: Arc<Snapshot>) {
        let view = View::new(snapshot);
        let last = self.core.view();
        let delta = Delta::between(&last.snapshot, &view.snapshot);
        let changes = &self.core.stats.changes;
        changes.services.fetch_add(delta.services.len() as u64, Ordering::Relaxed);
        changes.listeners.fetch_add(delta.listeners.len() as u64, Ordering::Relaxed);
        let mut decider = self.core.decider.borrow_mut();
        decider.hand_over(&delta, &self.state_store, self.index);
        decider.retain(&last, &delta);
        drop(decider);
        let gone = delta.endpoints_gone();
        self.leaving.borrow_mut().note(&delta, &gone);
        self.forget(&gone);
        self.core.show(view.clone());
        let closed = delta.closed_to_http();
        if !closed.is_empty() {
            self.http.open.close(|address| closed.contains(&address));
        }
    }

    /// Closes idle connections to endpoints that are gone, and forgets sessions with them.
    fn forget(&self, gone: &Mets) {
        if !gone.is_empty() {
            self.exchanges.upstreams.forget(gone);
            self.endpoints.sessions.forget(gone);
        }
    }

    /// Closes upstream connections that were idle for too long, and those whose endpoint has gone while they were in use.
    fn prune(&self) {
        self.exchanges.upstreams.prune();
        let gone = self.leaving.borrow_mut().turn();
        self.forget(&gone);
    }

    /// Does what is to be done for plugins once a second.
    fn look_after_plugins(&self) {
        let mut decider = self.core.decider.borrow_mut();
        decider.settle();
        decider.put_aside(&self.state_store, self.index);
    }

    /// Does what is to be done once a second, whether the worker stops or not.
    fn second(&self) {
        self.udp.expire();
        self.http.open.second(&self.core.stats.clients);
        self.core.renew_date();
    }
}

impl Worker {
    pub(crate) fn run(self, runtime: &LocalRuntime) {
        if let Some(cpu) = self.cpu {
            pin(cpu);
        }
        runtime.block_on(self.serve());
    }

    async fn serve(mut self) {
        let shared = Shared::new(&mut self);
        shared.clients.reserve.fill();
        let mut accepting = Accepting::default();
        let mut known = Published::default();
        let mut datagrams = udp::Listeners::default();
        let clients = shared.clients.clone();
        let take = move |endpoint, address| spawn_local(incoming::take(endpoint, address, clients.clone()));
        let mut quic = quic::Listeners::new(self.index, Rc::new(take));
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut returning = Returning::new(self.release);
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        // Whether this worker takes for all what a successor sends on.
        let mut takes = false;
        let stop = loop {
            let published = self.published.borrow_and_update().clone();
            let changes = published.sockets.changes(&known.sockets);
            let drains = published.stop.is_none_or(|stop| stop.drain_queues);
            accepting.close(&changes, self.index, drains, &shared.clients).await;
            shared.clients.most_open.set(published.room.connections);
            shared.udp.limit(published.room.flows.div_ceil(self.serving.workers.len()));
            shared.take(published.snapshot.clone());
            accepting.open(&changes, self.index, &shared.clients);
            datagrams.sync(&published.datagrams.changes(&known.datagrams), self.index, &shared.udp).await;
            quic.sync(&published.quic.changes(&known.quic));
            if let Some(successor) = published.successor.as_ref().filter(|_| self.index == 0) {
                // It is the same one, or another successor after one that failed.
                if !known.successor.as_ref().is_some_and(|known| Arc::ptr_eq(known, successor)) {
                    takes = true;
                    spawn_local(quic::take(successor.clone(), published.quic.clone()));
                }
            }
            self.serving.took(self.index, published.snapshot.version);
            if let Some(stop) = published.stop {
                break stop;
            }
            known = published;
            let changed = loop {
                tokio::select! {
                    changed = self.published.changed() => break changed,
                    _ = flush.tick(), if shared.core.log.is_some() => shared.core.hand_over_log(),
                    _ = prune.tick() => shared.prune(),
                    _ = second.tick() => {
                        shared.second();
                        quic.second();
                        shared.exchanges.upstreams.relieve();
                        returning.second(shared.clients.open.get(), &shared.core.stats);
                        shared.look_after_plugins();
                    }
                }
            };
            if changed.is_err() {
                break Stop { grace: Duration::ZERO, drain_queues: false };
            }
        };
        if !stop.drain_queues {
            datagrams.leave().await;
            quic.leave();
        }
        shared.core.stopping.set(true);
        shared.http.open.drain();
        let drained = async {
            loop {
                let waiting = shared.udp.is_waiting();
                if !waiting && !stop.drain_queues {
                    datagrams.close(self.index).await;
                }
                // Others' connections get nothing without the worker that takes it for them.
                let awaited = takes && shared.core.stats.open.load(Ordering::Relaxed) > 0;
                if !waiting && !awaited && shared.clients.open.get() == 0 {
                    break;
                }
                shared.core.hand_over_log();
                tokio::select! {
                    () = tokio::time::sleep(DRAIN_LOOK) => {}
                    _ = second.tick() => shared.second(),
                }
            }
        };
        if tokio::time::timeout(stop.grace, drained).await.is_err() {
            tracing::warn!(
                connections = shared.clients.open.get(),
                flows = shared.udp.flows(),
                "connections were still open, or answers awaited, when the grace period ended"
            );
        }
        quic.close().await;
        shared.core.decider.borrow_mut().put_all_aside(&shared.state_store, shared.index);
    }
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    if cpu < rustix::thread::CpuSet::MAX_CPU {
        set.set(cpu);
    }
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(%error, cpu, "a worker could not be bound to its CPU; it runs on any");
    }
}
