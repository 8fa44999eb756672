//! One worker: watches for snapshots, holds an accept task for each address, and owns what its connections share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, HeaderValue};
use rustc_hash::FxBuildHasher;
use sluicegate_model::route::Protocol;
use sluicegate_model::shelf::Shelf;
use sluicegate_model::snapshot::{Listener, Snapshot};
use sluicegate_model::stats::ProxyStats;
use tokio::runtime::LocalRuntime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use crate::accept::{Reserve, accept, drain};
use crate::access::{FLUSH_EVERY, Log};
use crate::admission::Admission;
use crate::decide::Decider;
use crate::http::Closings;
use crate::listener::SocketSet;
use crate::tls::Sessions;
use crate::upstream::Upstreams;
use crate::{Published, Serving, Stop, tcp, udp};

/// So many fields the map may have room for that is kept.
const SPARE: usize = 64;
/// How often idle upstream connections are looked over.
const PRUNE_EVERY: Duration = Duration::from_secs(10);
/// How often a stopping worker looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) cpu: Option<usize>,
    /// Client connections that may be open, over all workers.
    pub(crate) most_open: usize,
    pub(crate) most_flows: usize,
    pub(crate) log: Option<Log>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) shelf: Arc<Shelf>,
}

/// A snapshot as one worker holds it: requests share it by `Rc`, so that no two workers write one reference count.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    listeners: HashMap<SocketAddr, Arc<Listener>, FxBuildHasher>,
    datagrams: HashMap<SocketAddr, Arc<Listener>, FxBuildHasher>,
}

impl View {
    /// The TCP listener of an address.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&Listener> {
        self.listeners.get(&address).map(Arc::as_ref)
    }

    /// The UDP listener of an address.
    pub(crate) fn datagrams(&self, address: SocketAddr) -> Option<&Listener> {
        self.datagrams.get(&address).map(Arc::as_ref)
    }
}

/// What a worker's connections share. One thread: no locks.
pub(crate) struct Shared {
    view: RefCell<Rc<View>>,
    /// How many there were.
    views: Cell<u64>,
    pub(crate) decider: RefCell<Decider>,
    /// This worker's number, and where its pools leave what they know.
    index: usize,
    shelf: Arc<Shelf>,
    pub(crate) upstreams: Rc<Upstreams>,
    /// For [`tcp`]'s directions.
    pub(crate) tools: RefCell<tcp::Tools>,
    pub(crate) closings: Closings,
    pub(crate) udp: udp::Udp,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) stopping: Cell<bool>,
    /// The `Date` of answers, renewed each second.
    pub(crate) date: RefCell<HeaderValue>,
    /// The access log.
    pub(crate) log: Option<Rc<Log>>,
    /// A request's map of fields that is done with.
    pub(crate) spare: RefCell<HeaderMap>,
    /// Copies of requests under way, see [`crate::http`]'s mirror.
    pub(crate) mirrors: Cell<usize>,
    /// TLS sessions with endpoints.
    pub(crate) sessions: Sessions,
    /// TLS handshakes with clients under way.
    pub(crate) handshakes: Cell<usize>,
    /// Client connections of this worker.
    pub(crate) open: Cell<usize>,
    /// Client connections that may be open, over all workers.
    pub(crate) most_open: usize,
    pub(crate) admission: Arc<Admission>,
    /// For sending clients away.
    pub(crate) reserve: Reserve,
}

impl Shared {
    /// The newest snapshot.
    pub(crate) fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// Keeps a map for another request, without what is in it.
    pub(crate) fn keep(&self, mut map: HeaderMap) {
        if map.capacity() <= SPARE {
            map.clear();
            self.spare.replace(map);
        }
    }

    /// Whether HTTP requests are still taken at an address. `known`: what was found of it before, and in which view.
    pub(crate) fn serves_http(&self, address: SocketAddr, known: &mut (u64, bool)) -> bool {
        if known.0 != self.views.get() {
            *known = (self.views.get(), self.view.borrow().listener(address).is_some_and(|l| l.front.serves_http()));
        }
        known.1
    }

    fn hand_over_log(&self) {
        if let Some(log) = &self.log {
            log.hand_over();
        }
    }

    fn take(&self, snapshot: Arc<Snapshot>) {
        let of = |protocol| snapshot.listeners.iter().filter(move |l| l.front.protocol() == protocol).map(|l| (l.address, l.clone()));
        let (listeners, datagrams) = (of(Protocol::Tcp).collect(), of(Protocol::Udp).collect());
        let last = self.view();
        let mut decider = self.decider.borrow_mut();
        decider.hand_over(&last.snapshot, &snapshot, &self.shelf, self.index);
        decider.retain(&snapshot);
        drop(decider);
        self.upstreams.retain(&snapshot);
        self.sessions.retain(&snapshot);
        let view = Rc::new(View { snapshot, listeners, datagrams });
        *self.view.borrow_mut() = view.clone();
        self.views.set(self.views.get() + 1);
        self.closings.close(|address| !view.listener(address).is_some_and(|l| l.front.serves_http()));
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
        let shared = Rc::new(Shared {
            views: Cell::new(0),
            view: RefCell::new(Rc::new(View { snapshot: Arc::default(), listeners: HashMap::default(), datagrams: HashMap::default() })),
            decider: RefCell::default(),
            index: self.index,
            shelf: self.shelf.clone(),
            upstreams: Rc::default(),
            tools: RefCell::default(),
            closings: Closings::default(),
            udp: udp::Udp::new(self.most_flows),
            stats: self.stats.clone(),
            stopping: Cell::new(false),
            date: RefCell::new(date()),
            log: self.log.take().map(Rc::new),
            spare: RefCell::default(),
            mirrors: Cell::new(0),
            sessions: Sessions::default(),
            handshakes: Cell::new(0),
            open: Cell::new(0),
            most_open: self.most_open,
            admission: self.admission.clone(),
            reserve: Reserve::default(),
        });
        shared.reserve.fill();
        let mut accepting: BTreeMap<SocketAddr, (Arc<SocketSet<std::net::TcpListener>>, Vec<JoinHandle<()>>)> = BTreeMap::new();
        let mut datagrams = udp::Listeners::default();
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        let stop = loop {
            let published = self.published.borrow_and_update().clone();
            // An address is closed only when its set is gone: a listener whose front changed keeps its socket and its queue.
            let gone: Vec<SocketAddr> = accepting
                .iter()
                .filter(|(address, (set, _))| !published.sockets.get(*address).is_some_and(|s| Arc::ptr_eq(s, set)))
                .map(|(address, _)| *address)
                .collect();
            for (address, (set, tasks)) in gone.iter().filter_map(|address| accepting.remove_entry(address)) {
                for task in tasks {
                    // Waited for, so that the address is closed when the snapshot counts as served. The task yields at each accept.
                    task.abort();
                    let _ = task.await;
                }
                for socket in set.close(self.index) {
                    if published.stop.is_none_or(|stop| stop.drain_queues) {
                        drain(&socket, address, &shared);
                    }
                }
            }
            shared.take(published.snapshot.clone());
            for (address, set) in &published.sockets {
                if !accepting.contains_key(address) {
                    let tasks = set.take(self.index).into_iter().map(|socket| spawn_local(accept(socket, *address, shared.clone())));
                    accepting.insert(*address, (set.clone(), tasks.collect()));
                }
            }
            datagrams.sync(&published.datagrams, self.index, &shared).await;
            self.serving.took(self.index, published.snapshot.version);
            if let Some(stop) = published.stop {
                break stop;
            }
            let changed = loop {
                tokio::select! {
                    changed = self.published.changed() => break changed,
                    _ = flush.tick(), if shared.log.is_some() => shared.hand_over_log(),
                    _ = prune.tick() => shared.upstreams.prune(),
                    _ = second.tick() => {
                        shared.udp.expire();
                        shared.closings.second(&shared.stats.clients);
                        shared.upstreams.relieve();
                        shared.decider.borrow_mut().put_aside(&shared.view().snapshot, &shared.shelf, shared.index);
                        *shared.date.borrow_mut() = date();
                    }
                }
            };
            if changed.is_err() {
                break Stop { grace: Duration::ZERO, drain_queues: false };
            }
        };
        if !stop.drain_queues {
            datagrams.leave().await;
        }
        shared.stopping.set(true);
        shared.closings.drain();
        let drained = async {
            loop {
                let waiting = shared.udp.is_waiting();
                if !waiting && !stop.drain_queues {
                    datagrams.close(self.index).await;
                }
                if !waiting && shared.open.get() == 0 {
                    break;
                }
                shared.hand_over_log();
                tokio::select! {
                    () = tokio::time::sleep(DRAIN_LOOK) => {}
                    _ = second.tick() => {
                        shared.closings.second(&shared.stats.clients);
                        shared.udp.expire();
                        *shared.date.borrow_mut() = date();
                    }
                }
            }
        };
        if tokio::time::timeout(stop.grace, drained).await.is_err() {
            tracing::warn!(
                connections = shared.open.get(),
                flows = shared.udp.flows(),
                "connections were still open, or answers awaited, when the grace period ended"
            );
        }
        shared.decider.borrow_mut().put_all_aside(&shared.view().snapshot, &shared.shelf, shared.index);
    }
}

fn date() -> HeaderValue {
    let now = httpdate::fmt_http_date(SystemTime::now());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(now)).unwrap_or_else(|_| HeaderValue::from_static(""))
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
