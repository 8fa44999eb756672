//! UDP: datagrams, flow by flow.
//!
//! In the order they pass: a listener's task receives a batch ([`socket`]); [`forward`] sorts it by flow, finds each flow in the [`table`] or
//! begins one, and sends its datagrams on; a [`flow`]'s own task carries the answers back. Nothing waits on the way and nothing is kept: what
//! the kernel has no room for is dropped and counted, as a router would.
//!
//! Each worker has its own socket for each address, in one SO_REUSEPORT group. The kernel chooses by a hash of both addresses and ports, so a
//! flow stays with its worker as long as the group stays as it is, which it does while the listener does. A successor is handed the sockets
//! themselves: until it serves both receive from them, then it alone, while answers to what was asked before still go out by the old gateway.
//! Its flows begin anew, and come to the same endpoint only if the balancer hashes or `sessionAffinity: ClientIP` says so.

mod flow;
mod forward;
mod socket;
mod table;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::persistent::Change;
use sluicegate_model::stats::count;
use tokio::task::{JoinHandle, spawn_local, yield_now};

use self::flow::{Flow, Key};
use self::socket::{Batch, Kind};
use self::table::Table;
use crate::core::Core;
use crate::listener::SocketSet;
use crate::watched::Watched;

/// How many batches are received from one socket before others have their turn.
const BATCHES: usize = 4;
/// How long to wait after a receive has failed for a reason of the machine's, as trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an answer is awaited when the gateway stops, counted from the request. Many flows expect no answer at all.
const ANSWER_TIME: Duration = Duration::from_secs(5);

type Flows = Table<Key, Flow>;

/// What a worker has for UDP.
pub(crate) struct Udp {
    core: Rc<Core>,
    table: RefCell<Flows>,
    batch: RefCell<Batch>,
}

impl Udp {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self { core, table: RefCell::default(), batch: RefCell::default() }
    }

    /// Limits the number of flows from now on. Those beyond it go when their time comes.
    pub(crate) fn limit(&self, most_flows: usize) {
        self.table.borrow_mut().limit(most_flows);
    }

    /// Forgets idle flows.
    pub(crate) fn expire(&self) {
        let expired = self.table.borrow_mut().expire(Instant::now());
        drop(expired);
    }

    /// Whether an answer may still come.
    pub(crate) fn is_waiting(&self) -> bool {
        let (table, now) = (self.table.borrow(), Instant::now());
        let waits = |flow: &Flow| flow.upstream().asked.get().is_some_and(|at| now.saturating_duration_since(at) < ANSWER_TIME);
        table.values().any(waits)
    }

    /// The number of flows.
    pub(crate) fn flows(&self) -> usize {
        self.table.borrow().len()
    }
}

/// A listener's socket, as one worker has it.
struct Listening {
    address: SocketAddr,
    socket: Watched<UdpSocket>,
    kind: Kind,
}

/// One address, as one worker has it. There are several sockets if a predecessor with more workers has handed them over.
struct Open {
    set: Arc<SocketSet<UdpSocket>>,
    /// Answers go out by these, even when nothing is received any more.
    sockets: Vec<Rc<Listening>>,
    receiving: Vec<JoinHandle<()>>,
}

impl Open {
    fn new(set: &Arc<SocketSet<UdpSocket>>, address: SocketAddr, worker: usize, shared: &Rc<Udp>) -> Self {
        let kind = |socket: &Arc<UdpSocket>| Kind::of(socket, address);
        let open = |(kind, socket)| match socket::watched(socket) {
            Ok(socket) => Some(Rc::new(Listening { address, socket, kind })),
            Err(error) => {
                tracing::error!(%error, %address, "cannot listen");
                None
            }
        };
        let sockets: Vec<Rc<Listening>> = set.take(worker).into_iter().map(|socket| (kind(&socket), socket)).filter_map(open).collect();
        let receiving = sockets.iter().map(|listening| spawn_local(receive(listening.clone(), shared.clone()))).collect();
        Self { set: set.clone(), sockets, receiving }
    }

    /// Stops receiving. No datagram is lost, as a task ends where it waits for one.
    async fn silence(&mut self) {
        for task in std::mem::take(&mut self.receiving) {
            task.abort();
            let _ = task.await;
        }
    }

    async fn close(mut self, worker: usize) {
        self.silence().await;
        drop((self.set.close(worker), self.sockets));
    }
}

/// The UDP listeners of one worker.
#[derive(Default)]
pub(crate) struct Listeners(BTreeMap<SocketAddr, Open>);

impl Listeners {
    /// Listens where sockets are new, and no longer where they are gone. A listener that is gone takes its flows with it, as nobody else may answer from its address.
    pub(crate) async fn sync(&mut self, changes: &[Change<'_, SocketAddr, SocketSet<UdpSocket>>], worker: usize, shared: &Rc<Udp>) {
        for address in changes.iter().filter(|change| change.before.is_some()).map(|change| change.key) {
            let flows = shared.table.borrow_mut().extract_by_key(|key| key.listener == address);
            drop(flows);
            if let Some(open) = self.0.remove(&address) {
                // It is waited for, so that the address is closed when the snapshot counts as served.
                open.close(worker).await;
            }
        }
        for (address, set) in changes.iter().filter_map(|change| Some((change.key, change.after?))) {
            self.0.insert(address, Open::new(set, address, worker, shared));
        }
    }

    /// Leaves what comes from now on to a successor, which has the same sockets. Answers still go out.
    pub(crate) async fn leave(&mut self) {
        for open in self.0.values_mut() {
            open.silence().await;
        }
    }

    /// Closes all of them. No answer is awaited any more, and a successor that gives up an address must not find it held.
    pub(crate) async fn close(&mut self, worker: usize) {
        for open in std::mem::take(&mut self.0).into_values() {
            open.close(worker).await;
        }
    }
}

async fn receive(listening: Rc<Listening>, shared: Rc<Udp>) {
    while socket::arrival(&listening.socket).await.is_ok() {
        let mut outcome = Ok(true);
        for _ in 0..BATCHES {
            let mut batch = shared.batch.borrow_mut();
            outcome = batch.receive(&listening.socket, listening.kind);
            if outcome.is_ok() {
                forward::forward(&listening, &mut batch, &shared);
            }
            if !matches!(outcome, Ok(true)) {
                break;
            }
        }
        match outcome {
            Ok(true) => yield_now().await,
            Ok(false) => {}
            Err(error) if socket::is_would_block(&error) => {}
            Err(error) => {
                count(&shared.core.stats.accept_errors);
                tracing::debug!(%error, address = %listening.address, "receive failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
