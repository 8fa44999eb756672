//! Idle HTTP/1.1 connections to endpoints, a stack for each, so that the warmest is used first and the coldest times out.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rustc_hash::FxBuildHasher;
use sluicegate_model::snapshot::Snapshot;

const IDLE_PER_ENDPOINT: usize = 128;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// A worker's idle connections.
#[derive(Default)]
pub(crate) struct Upstreams(RefCell<HashMap<SocketAddr, Vec<(SendRequest<Incoming>, Instant)>, FxBuildHasher>>);

impl Upstreams {
    /// A connection that is open and ready.
    pub(crate) fn check_out(&self, address: SocketAddr) -> Option<SendRequest<Incoming>> {
        let mut idle = self.0.borrow_mut();
        let stack = idle.get_mut(&address)?;
        while let Some((connection, since)) = stack.pop() {
            if connection.is_ready() && since.elapsed() < IDLE_TIME {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn check_in(&self, address: SocketAddr, connection: SendRequest<Incoming>) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.0.borrow_mut();
        let stack = idle.entry(address).or_default();
        if stack.len() < IDLE_PER_ENDPOINT {
            stack.push((connection, Instant::now()));
        }
    }

    /// Closes idle connections to endpoints that are gone, and those idle for too long.
    pub(crate) fn retain(&self, snapshot: &Snapshot) {
        let live: HashSet<SocketAddr> =
            snapshot.services.iter().flat_map(|s| s.internal.endpoints.iter().chain(&s.external.endpoints)).map(|e| e.address).collect();
        self.0.borrow_mut().retain(|address, stack| {
            stack.retain(|(_, since)| since.elapsed() < IDLE_TIME);
            live.contains(address) && !stack.is_empty()
        });
    }
}
