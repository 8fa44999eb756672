//! HTTP connections to endpoints ([`connection`]), and the idle ones among them: a stack for each endpoint, so that the warmest is used first
//! and the coldest times out.

mod connection;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
#[cfg(doc)]
use sluicegate_model::snapshot::EndpointTls;
use sluicegate_model::snapshot::{ServicePort, Snapshot};

use crate::decide::Picked;
use crate::tcp::{Speak, dial};
use crate::worker::Shared;

pub(crate) use connection::{Broken, Connection};

const IDLE_PER_ENDPOINT: usize = 128;
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Connects to an endpoint. `hello`: see [`dial`].
pub(crate) async fn open(service: &ServicePort, to: &Picked, hello: Option<&[u8]>, shared: &Shared) -> Option<Box<Connection>> {
    Some(Box::new(Connection::new(dial(service, to, hello, Speak::Http, shared).await?, service.tls.id())))
}

/// An endpoint, and the rules of TLS it was met by ([`EndpointTls::id`]): a connection met by others is not used.
type Key = (SocketAddr, u64);

/// Idle connections: a worker's, or one client's where endpoints are told of the client.
#[derive(Default)]
pub(crate) struct Upstreams(RefCell<HashMap<Key, Vec<(Box<Connection>, Instant)>, FxBuildHasher>>);

impl Upstreams {
    /// A connection that its endpoint has not closed, as far as is known.
    pub(crate) fn check_out(&self, service: &ServicePort, address: SocketAddr) -> Option<Box<Connection>> {
        let mut idle = self.0.borrow_mut();
        let stack = idle.get_mut(&(address, service.tls.id()))?;
        while let Some((mut connection, _)) = stack.pop() {
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// One that cannot take another request is closed.
    pub(crate) fn check_in(&self, address: SocketAddr, connection: Box<Connection>, now: Instant) {
        if !connection.is_reusable() {
            return;
        }
        let mut idle = self.0.borrow_mut();
        let stack = idle.entry((address, connection.tls())).or_default();
        if stack.len() < IDLE_PER_ENDPOINT {
            stack.push((connection, now));
        }
    }

    /// Closes idle connections to endpoints that are gone.
    pub(crate) fn retain(&self, snapshot: &Snapshot) {
        let mut idle = self.0.borrow_mut();
        if idle.is_empty() {
            return;
        }
        let pools = snapshot.services.iter().flat_map(|s| [(s.tls.id(), &s.internal), (s.tls.id(), &s.external)]);
        let live: HashSet<Key, FxBuildHasher> = pools.flat_map(|(tls, p)| p.endpoints.iter().map(move |e| (e.address, tls))).collect();
        idle.retain(|key, _| live.contains(key));
    }

    /// Closes connections that were idle for too long, or that their endpoints have closed.
    pub(crate) fn prune(&self) {
        self.0.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|(connection, since)| since.elapsed() < IDLE_TIME && connection.is_idle());
            !stack.is_empty()
        });
    }
}
