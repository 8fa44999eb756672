//! One worker: watches for snapshots, holds an accept task for each address, and owns what its connections share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use ::http::HeaderValue;
use rustc_hash::FxBuildHasher;
use sluicegate_model::snapshot::{Front, Listener, Snapshot};
use sluicegate_model::stats::{ProxyStats, Reset, count};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalRuntime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use crate::decide::Decider;
use crate::http::Closings;
use crate::listener::SocketSet;
use crate::stream::Stream;
use crate::tcp::{Asked, Speak};
use crate::tls::Sessions;
use crate::upstream::Upstreams;
use crate::{Published, Serving, http, origin, tcp, tls};

/// After an accept fails for want of descriptors or memory, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often idle upstream connections are looked over.
const PRUNE_EVERY: Duration = Duration::from_secs(10);
/// How often a stopping worker looks whether its connections have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) cpu: Option<usize>,
    pub(crate) most_open: usize,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) serving: Arc<Serving>,
}

/// A snapshot as one worker holds it: requests share it by `Rc`, so that no two workers write one reference count.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    listeners: HashMap<SocketAddr, Arc<Listener>, FxBuildHasher>,
}

impl View {
    /// The listener of an address.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&Listener> {
        self.listeners.get(&address).map(Arc::as_ref)
    }
}

/// What a worker's connections share. One thread: no locks.
pub(crate) struct Shared {
    view: RefCell<Rc<View>>,
    pub(crate) decider: RefCell<Decider>,
    pub(crate) upstreams: Rc<Upstreams>,
    /// For [`tcp`]'s directions.
    pub(crate) tools: RefCell<tcp::Tools>,
    pub(crate) closings: Closings,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) stopping: Cell<bool>,
    /// The `Date` of answers, renewed each second.
    pub(crate) date: RefCell<HeaderValue>,
    /// Copies of requests under way, see [`crate::http`]'s mirror.
    pub(crate) mirrors: Cell<usize>,
    /// TLS sessions with endpoints.
    pub(crate) sessions: Sessions,
    /// TLS handshakes with clients under way.
    pub(crate) handshakes: Cell<usize>,
    open: Cell<usize>,
    /// Client connections this worker may have open.
    most_open: usize,
}

impl Shared {
    /// The newest snapshot.
    pub(crate) fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// Whether HTTP requests are still taken at an address.
    pub(crate) fn serves_http(&self, address: SocketAddr) -> bool {
        self.view.borrow().listener(address).is_some_and(|l| l.front.serves_http())
    }

    fn take(&self, snapshot: Arc<Snapshot>) {
        let listeners = snapshot.listeners.iter().map(|l| (l.address, l.clone())).collect();
        self.decider.borrow_mut().retain(&snapshot);
        self.upstreams.retain(&snapshot);
        self.sessions.retain(&snapshot);
        let view = Rc::new(View { snapshot, listeners });
        *self.view.borrow_mut() = view.clone();
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
            view: RefCell::new(Rc::new(View { snapshot: Arc::default(), listeners: HashMap::default() })),
            decider: RefCell::default(),
            upstreams: Rc::default(),
            tools: RefCell::default(),
            closings: Closings::default(),
            stats: self.stats.clone(),
            stopping: Cell::new(false),
            date: RefCell::new(date()),
            mirrors: Cell::new(0),
            sessions: Sessions::default(),
            handshakes: Cell::new(0),
            open: Cell::new(0),
            most_open: self.most_open,
        });
        let mut accepting: BTreeMap<SocketAddr, (Arc<SocketSet>, JoinHandle<()>)> = BTreeMap::new();
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let grace = loop {
            let published = self.published.borrow_and_update().clone();
            // An address is closed only when its set is gone: a listener whose front changed keeps its socket and its queue.
            let gone: Vec<SocketAddr> = accepting
                .iter()
                .filter(|(address, (set, _))| !published.sockets.get(*address).is_some_and(|s| Arc::ptr_eq(s, set)))
                .map(|(address, _)| *address)
                .collect();
            for (address, (set, task)) in gone.iter().filter_map(|address| accepting.remove_entry(address)) {
                // Waited for, so that the address is closed when the snapshot counts as served. The task yields at each accept.
                task.abort();
                let _ = task.await;
                if let Some(socket) = set.close(self.index) {
                    drain(&socket, address, &shared);
                }
            }
            shared.take(published.snapshot.clone());
            for (address, set) in &published.sockets {
                if let Some(socket) = (!accepting.contains_key(address)).then(|| set.take(self.index)).flatten() {
                    let task = spawn_local(accept(socket, *address, shared.clone()));
                    accepting.insert(*address, (set.clone(), task));
                }
            }
            self.serving.took(self.index, published.snapshot.version);
            if let Some(grace) = published.stop {
                break grace;
            }
            let changed = loop {
                tokio::select! {
                    changed = self.published.changed() => break changed,
                    _ = prune.tick() => shared.upstreams.prune(),
                    _ = second.tick() => {
                        shared.closings.second();
                        *shared.date.borrow_mut() = date();
                    }
                }
            };
            if changed.is_err() {
                break Duration::ZERO;
            }
        };
        shared.stopping.set(true);
        shared.closings.close(|_| true);
        let drained = async {
            while shared.open.get() > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(connections = shared.open.get(), "connections were still open when the grace period ended");
        }
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

async fn accept(socket: std::net::TcpListener, address: SocketAddr, shared: Rc<Shared>) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, %address, "cannot listen"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => enter(stream, peer, address, &shared),
            Err(error) => {
                count(&shared.stats.accept_errors);
                tracing::debug!(%error, %address, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes what waits in the queue of a socket that nothing accepts from any more: its close would reset it. What remains is the moment between the
/// last look and the close, in which the kernel may finish a handshake; a client that came before is served, one that comes later is refused
/// (only a successor that has the same socket could serve it).
fn drain(socket: &std::net::TcpListener, address: SocketAddr, shared: &Rc<Shared>) {
    // Fails for want of descriptors, or, as a rule, because the queue is empty.
    while let Ok((stream, peer)) = socket.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            enter(stream, peer, address, shared);
        }
    }
}

/// Counts a connection, and begins it if there is room.
fn enter(stream: TcpStream, peer: SocketAddr, address: SocketAddr, shared: &Rc<Shared>) {
    count(&shared.stats.accepted);
    if shared.open.get() >= shared.most_open {
        // Early and cheaply, while what runs goes on: without descriptors there would be no endpoint for it either.
        count(&shared.stats.refused);
        return tcp::refuse(&stream, Reset::Limit, shared);
    }
    let (open, view, shared) = (Open::new(shared), shared.view(), shared.clone());
    // A panic ends this task only; `open` is dropped in unwinding too.
    spawn_local(async move {
        connection(stream, peer, address, view, shared).await;
        drop(open);
    });
}

/// `view`: of the moment it was accepted, when its listener was there.
async fn connection(stream: TcpStream, peer: SocketAddr, address: SocketAddr, view: Rc<View>, shared: Rc<Shared>) {
    let Some(listener) = view.listener(address) else { return tcp::refuse(&stream, Reset::NoRoute, &shared) };
    let origin = match origin::admit(&stream, peer, address, &listener.settings).await {
        Ok(origin) => origin,
        Err(why) => return tcp::refuse(&stream, why, &shared),
    };
    match &listener.front {
        Front::Tcp(_) => {
            let asked = Asked { origin: &origin, listener: address, host: "", alpn: &[], speak: Speak::Tcp };
            tcp::forward(Stream::Tcp(stream), &[], &asked, view, &shared).await;
        }
        Front::Http(_) => {
            // A connection outlives snapshots: each request takes the newest.
            drop(view);
            http::serve(Stream::Tcp(stream), origin, address, None, &shared).await;
        }
        Front::Tls(_) => {
            drop(view);
            tls::serve(stream, origin, address, &shared).await;
        }
    }
}

struct Open(Rc<Shared>);

impl Open {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.open.set(shared.open.get() + 1);
        count(&shared.stats.open);
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}
