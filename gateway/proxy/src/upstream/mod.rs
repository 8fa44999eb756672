//! HTTP connections to endpoints ([`connection`]), and the idle ones among them: a stack for each endpoint, so that the warmest is used first
//! and the coldest times out.

mod connection;
mod terms;
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxBuildHasher;
use sluicegate_model::slots::Slots;
use sluicegate_model::snapshot::{ServicePort, Snapshot};

use crate::breaker::Places;
use crate::decide::Picked;
use crate::stream::Stream;
use crate::tcp::dial;
use crate::worker::Shared;

pub(crate) use connection::{Broken, Connection};
use terms::Terms;
use waiting::Queues;
pub(crate) use waiting::Waiting;

const IDLE_PER_ENDPOINT: usize = 128;

/// Connects to an endpoint. `hello`: see [`dial`]; `places`: what the connection takes up.
pub(crate) async fn open(
    service: &ServicePort,
    to: &Picked,
    hello: Option<&[u8]>,
    places: Option<Box<Places>>,
    shared: &Shared,
) -> Option<Box<Connection>> {
    let stream = Stream::Tcp(dial(service, to, hello, shared).await?).counted(places);
    Some(Box::new(Connection::new(stream, Terms::new(service))))
}

/// A connection that has been used.
pub(crate) type Idle = Box<Connection>;

/// Idle connections: a worker's, or one client's where endpoints are told of the client.
#[derive(Default)]
pub(crate) struct Upstreams {
    idle: RefCell<HashMap<SocketAddr, Vec<(Idle, Instant)>, FxBuildHasher>>,
    queues: Queues,
    /// The next number of one who waits.
    next: Cell<u64>,
}

impl Upstreams {
    /// A connection that its endpoint has not closed, as far as is known.
    pub(crate) fn check_out(&self, address: SocketAddr) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&address)?;
        while let Some((mut connection, since)) = stack.pop() {
            let terms = *connection.terms();
            if (!terms.is_strict() || terms.allow_idle(since, Instant::now())) && connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// One that cannot take another request is closed; so is one that another worker, or another endpoint's exchange, waits for.
    pub(crate) fn check_in(&self, address: SocketAddr, connection: Box<Connection>, now: Instant) {
        if !connection.is_reusable(now) {
            return;
        }
        let counted = connection.places().map(Places::is_wanted);
        if counted == Some(true) && !self.queues.wake(address) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(address).or_default();
        if stack.len() < IDLE_PER_ENDPOINT {
            stack.push((connection, now));
        }
    }

    /// Joins those who wait in this worker for a connection to the endpoint.
    pub(crate) fn wait(this: &Rc<Self>, address: SocketAddr) -> Waiting {
        Waiting::new(this, address)
    }

    /// Closes one idle connection that takes up a place of these.
    pub(crate) fn shed(&self, slots: &Arc<Slots>) {
        let mut idle = self.idle.borrow_mut();
        let counted = |(connection, _): &(Idle, Instant)| connection.places().is_some_and(|p| p.is_of(slots));
        let found = idle.values_mut().find_map(|stack| stack.iter().position(&counted).map(|at| stack.remove(at)));
        drop(idle);
        drop(found);
    }

    /// Closes the idle connections that somebody waits for, in whichever worker.
    pub(crate) fn relieve(&self) {
        let wanted = |(connection, _): &(Idle, Instant)| connection.places().is_some_and(Places::is_wanted);
        let mut idle = self.idle.borrow_mut();
        let closing: Vec<_> = idle.values_mut().flat_map(|stack| stack.extract_if(.., |c| wanted(c))).collect();
        drop(idle);
        drop(closing);
    }

    /// Closes idle connections to endpoints that are gone.
    pub(crate) fn retain(&self, snapshot: &Snapshot) {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return;
        }
        let pools = snapshot.services.iter().flat_map(|s| [&s.internal, &s.external]);
        let live: HashSet<SocketAddr, FxBuildHasher> = pools.flat_map(|p| &p.endpoints).map(|e| e.address).collect();
        idle.retain(|address, _| live.contains(address));
    }

    /// Closes connections that were idle for too long, or that their endpoints have closed.
    pub(crate) fn prune(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|(connection, since)| connection.terms().allow_idle(*since, now) && connection.is_idle());
            !stack.is_empty()
        });
    }
}
