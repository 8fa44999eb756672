//! The exchanges of this worker that wait for a connection to an endpoint which another exchange leaves.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;

use rustc_hash::FxBuildHasher;

use super::Upstreams;

/// Those who wait, by endpoint, in the order in which they came.
#[derive(Default)]
pub(super) struct Queues(RefCell<HashMap<SocketAddr, BTreeMap<u64, Waker>, FxBuildHasher>>);

impl Queues {
    /// Wakes the one that has waited longest. Returns false if nobody waits.
    pub(super) fn wake(&self, address: SocketAddr) -> bool {
        let mut queues = self.0.borrow_mut();
        let Some(queue) = queues.get_mut(&address) else { return false };
        let first = queue.pop_first();
        if queue.is_empty() {
            queues.remove(&address);
        }
        if let Some((_, waker)) = first {
            waker.wake();
        }
        true
    }
}

/// An exchange that waits, until this is dropped.
pub(crate) struct Waiting {
    upstreams: Rc<Upstreams>,
    address: SocketAddr,
    id: u64,
}

impl Waiting {
    pub(super) fn new(upstreams: &Rc<Upstreams>, address: SocketAddr) -> Self {
        let id = upstreams.next.get();
        upstreams.next.set(id + 1);
        Self { upstreams: upstreams.clone(), address, id }
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.upstreams.queues.0.borrow_mut().entry(self.address).or_default().insert(self.id, waker.clone());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut queues = self.upstreams.queues.0.borrow_mut();
        let waits = queues.get_mut(&self.address).is_some_and(|queue| queue.remove(&self.id).is_some());
        if queues.get(&self.address).is_some_and(BTreeMap::is_empty) {
            queues.remove(&self.address);
        }
        drop(queues);
        // It was woken for a connection that it may not have taken, so the next in turn has a look.
        if !waits {
            self.upstreams.queues.wake(self.address);
        }
    }
}
