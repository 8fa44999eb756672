//! One worker: watches for snapshots, holds an accept task for each address, and owns what its connections share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluicegate_model::snapshot::{Front, Listener, Snapshot};
use sluicegate_model::stats::{ProxyStats, count};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::decide::Decider;
use crate::listener::SocketSet;
use crate::upstream::Upstreams;
use crate::{Published, http, tcp};

/// After an accept fails for want of descriptors or memory, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) served: Arc<Vec<AtomicU64>>,
    pub(crate) grace: Arc<AtomicU64>,
}

/// What a worker's connections share. One thread: no locks.
pub(crate) struct Shared {
    pub(crate) snapshot: RefCell<Arc<Snapshot>>,
    listeners: RefCell<BTreeMap<SocketAddr, Arc<Listener>>>,
    pub(crate) decider: RefCell<Decider>,
    pub(crate) upstreams: Upstreams,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) stopping: Cell<bool>,
    open: Cell<usize>,
}

impl Shared {
    /// The listener of an address, as the newest snapshot has it.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<Arc<Listener>> {
        self.listeners.borrow().get(&address).cloned()
    }
}

impl Worker {
    pub(crate) fn run(self) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => LocalSet::new().block_on(&runtime, self.serve()),
            Err(error) => tracing::error!(%error, worker = self.index, "a worker could not start"),
        }
    }

    async fn serve(mut self) {
        let shared = Rc::new(Shared {
            snapshot: RefCell::default(),
            listeners: RefCell::default(),
            decider: RefCell::default(),
            upstreams: Upstreams::default(),
            stats: self.stats.clone(),
            stopping: Cell::new(false),
            open: Cell::new(0),
        });
        let mut accepting: BTreeMap<SocketAddr, (Arc<SocketSet>, AbortHandle)> = BTreeMap::new();
        loop {
            let published = self.published.borrow_and_update().clone();
            let listeners = published.snapshot.listeners.iter().map(|l| (l.address, l.clone())).collect();
            *shared.listeners.borrow_mut() = listeners;
            shared.decider.borrow_mut().retain(&published.snapshot);
            shared.upstreams.retain(&published.snapshot);
            *shared.snapshot.borrow_mut() = published.snapshot.clone();
            accepting.retain(|address, (set, task)| {
                let keep = published.sockets.get(address).is_some_and(|s| Arc::ptr_eq(s, set));
                if !keep {
                    task.abort();
                }
                keep
            });
            for (address, set) in &published.sockets {
                if let Some(socket) = (!accepting.contains_key(address)).then(|| set.take(self.index)).flatten() {
                    let task = spawn_local(accept(socket, *address, shared.clone())).abort_handle();
                    accepting.insert(*address, (set.clone(), task));
                }
            }
            self.served[self.index].store(published.snapshot.version, Ordering::Release);
            if published.snapshot.version > 0 {
                let all = self.served.iter().map(|v| v.load(Ordering::Acquire)).min().unwrap_or(0);
                self.stats.serving.fetch_max(all, Ordering::Relaxed);
            }
            if published.stopping || self.published.changed().await.is_err() {
                break;
            }
        }
        shared.stopping.set(true);
        let grace = Duration::from_millis(self.grace.load(Ordering::Acquire));
        let drained = async {
            while shared.open.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(connections = shared.open.get(), "connections were still open when the grace period ended");
        }
    }
}

async fn accept(socket: std::net::TcpListener, address: SocketAddr, shared: Rc<Shared>) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, %address, "cannot listen"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                count(&shared.stats.accepted);
                let open = Open::new(&shared);
                let shared = shared.clone();
                spawn_local(async move {
                    connection(stream, client, address, &shared).await;
                    drop(open);
                });
            }
            Err(error) => {
                count(&shared.stats.accept_errors);
                tracing::debug!(%error, %address, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, client: SocketAddr, address: SocketAddr, shared: &Rc<Shared>) {
    // Only fails on a socket that is already gone; the next read says so.
    let _ = stream.set_nodelay(true);
    let Some(listener) = shared.listener(address) else { return };
    match &listener.front {
        Front::Tcp(target) => tcp::forward(stream, client, target, shared).await,
        Front::Http(_) => http::serve(stream, client, address, shared.clone()).await,
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
