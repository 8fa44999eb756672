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
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::stats::count;
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, spawn_local, yield_now};

use self::flow::{Flow, Key};
use self::socket::{Batch, Headers};
use self::table::Table;
use crate::Sockets;
use crate::listener::SocketSet;
use crate::worker::Shared;

pub(crate) use self::socket::{listen, prepare};

/// Batches received from one socket before others have their turn.
const BATCHES: usize = 4;
/// After a receive fails for a reason of the machine's, trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);
/// What was asked longer ago than this is not waited for when the gateway stops: many flows expect no answer at all.
const ANSWER_TIME: Duration = Duration::from_secs(5);

type Flows = Table<Key, Flow>;

/// What a worker knows of UDP.
pub(crate) struct Udp {
    table: RefCell<Flows>,
    batch: RefCell<Batch>,
}

impl Udp {
    pub(crate) fn new(most_flows: usize) -> Self {
        Self { table: RefCell::new(Table::new(most_flows)), batch: RefCell::new(Batch::new()) }
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

    /// How many flows there are.
    pub(crate) fn flows(&self) -> usize {
        self.table.borrow().len()
    }
}

/// A listener's socket, as one worker has it.
struct Listening {
    address: SocketAddr,
    socket: UdpSocket,
    headers: RefCell<Headers>,
}

/// One address, as one worker has it: several sockets where a predecessor with more workers has handed them over.
struct Open {
    set: Arc<SocketSet<std::net::UdpSocket>>,
    /// Answers go out by them, also when nothing is received any more.
    sockets: Vec<Rc<Listening>>,
    receiving: Vec<JoinHandle<()>>,
}

impl Open {
    fn new(set: &Arc<SocketSet<std::net::UdpSocket>>, address: SocketAddr, worker: usize, shared: &Rc<Shared>) -> Self {
        let open = |socket| match UdpSocket::from_std(socket) {
            Ok(socket) => Some(Rc::new(Listening { address, socket, headers: RefCell::new(socket::headers()) })),
            Err(error) => {
                tracing::error!(%error, %address, "cannot listen");
                None
            }
        };
        let sockets: Vec<Rc<Listening>> = set.take(worker).into_iter().filter_map(open).collect();
        let receiving = sockets.iter().map(|listening| spawn_local(receive(listening.clone(), shared.clone()))).collect();
        Self { set: set.clone(), sockets, receiving }
    }

    /// Receives no more. No datagram is lost: a task ends where it waits for one.
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
    /// Listens where `sockets` says and nowhere else. A listener that is gone takes its flows with it: nobody else may answer from its address.
    pub(crate) async fn sync(&mut self, sockets: &Sockets<std::net::UdpSocket>, worker: usize, shared: &Rc<Shared>) {
        let stays = |address: &SocketAddr, set: &Arc<_>| sockets.get(address).is_some_and(|s| Arc::ptr_eq(s, set));
        let gone: Vec<SocketAddr> =
            self.0.iter().filter(|(address, open)| !stays(address, &open.set)).map(|(address, _)| *address).collect();
        for address in gone {
            let flows = shared.udp.table.borrow_mut().extract_by_key(|key| key.listener == address);
            drop(flows);
            if let Some(open) = self.0.remove(&address) {
                // Waited for, so that the address is closed when the snapshot counts as served.
                open.close(worker).await;
            }
        }
        for (address, set) in sockets {
            self.0.entry(*address).or_insert_with(|| Open::new(set, *address, worker, shared));
        }
    }

    /// Leaves what comes from now on to a successor, which has the same sockets. Answers still go out.
    pub(crate) async fn leave(&mut self) {
        for open in self.0.values_mut() {
            open.silence().await;
        }
    }

    /// Closes them all: no answer is awaited any more, and a successor that gives an address up is not to find it held.
    pub(crate) async fn close(&mut self, worker: usize) {
        for open in std::mem::take(&mut self.0).into_values() {
            open.close(worker).await;
        }
    }
}

async fn receive(listening: Rc<Listening>, shared: Rc<Shared>) {
    while socket::arrival(&listening.socket).await.is_ok() {
        let mut outcome = Ok(true);
        for _ in 0..BATCHES {
            let mut batch = shared.udp.batch.borrow_mut();
            outcome = batch.receive(&listening.socket, &mut listening.headers.borrow_mut());
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
                count(&shared.stats.accept_errors);
                tracing::debug!(%error, address = %listening.address, "receive failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
