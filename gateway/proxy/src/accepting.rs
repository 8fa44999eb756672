//! The tasks that accept connections: a worker has one for each socket. They begin and end with what changes.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use rustc_hash::FxBuildHasher;
use sluicegate_model::persistent::Change;
use smallvec::SmallVec;
use tokio::task::{JoinHandle, spawn_local};

use crate::accept::{Clients, accept, drain};
use crate::listener::SocketSet;

/// What differs between the sockets that a worker has and those that it is to have.
type Changes<'a> = [Change<'a, SocketAddr, SocketSet<TcpListener>>];

/// A worker's tasks, by address.
#[derive(Default)]
pub(crate) struct Accepting(HashMap<SocketAddr, SmallVec<[JoinHandle<()>; 1]>, FxBuildHasher>);

impl Accepting {
    /// Closes the sockets that are gone. A listener whose front has changed keeps its socket and its queue. `drains`: what waits in the queues is taken first.
    pub(crate) async fn close(&mut self, changes: &Changes<'_>, worker: usize, drains: bool, shared: &Rc<Clients>) {
        for (address, set) in changes.iter().filter_map(|change| Some((change.key, change.before?))) {
            for task in self.0.remove(&address).into_iter().flatten() {
                // The end is waited for, so that the address is closed when the snapshot counts as served. The task yields at each accept.
                task.abort();
                let _ = task.await;
            }
            for socket in set.close(worker) {
                if drains {
                    drain(&socket, address, shared);
                }
            }
        }
    }

    /// Accepts from the sockets that are new.
    pub(crate) fn open(&mut self, changes: &Changes<'_>, worker: usize, shared: &Rc<Clients>) {
        for (address, set) in changes.iter().filter_map(|change| Some((change.key, change.after?))) {
            let tasks = set.take(worker).into_iter().map(|socket| spawn_local(accept(socket, address, shared.clone())));
            self.0.insert(address, tasks.collect());
        }
    }
}
