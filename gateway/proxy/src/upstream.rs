//! HTTP/1.1 connections to endpoints, and the idle ones among them: a stack for each, so that the warmest is used first and the coldest
//! times out.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustc_hash::FxBuildHasher;
use sluicegate_model::snapshot::{ServicePort, Snapshot};

use crate::decide::Picked;
use crate::http::RequestBody;
use crate::tcp::dial;
use crate::worker::Shared;

const IDLE_PER_ENDPOINT: usize = 128;
const IDLE_TIME: Duration = Duration::from_secs(60);
/// A response's head must fit.
const MAX_BUFFER: usize = 64 << 10;

/// A connection to an endpoint.
pub(crate) type Connection = SendRequest<RequestBody>;

/// Connects to an endpoint.
pub(crate) async fn open(service: &ServicePort, to: &Picked, shared: &Shared) -> Option<Connection> {
    let stream = dial(service, to, shared).await?;
    let (connection, driver) = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await.ok()?;
    tokio::task::spawn_local(async move {
        // Its error reaches the exchange through the response.
        let _ = driver.await;
    });
    Some(connection)
}

/// A worker's idle connections.
#[derive(Default)]
pub(crate) struct Upstreams(RefCell<HashMap<SocketAddr, Vec<(Connection, Instant)>, FxBuildHasher>>);

impl Upstreams {
    /// A connection that is open and ready.
    pub(crate) fn check_out(&self, address: SocketAddr) -> Option<Connection> {
        let mut idle = self.0.borrow_mut();
        let stack = idle.get_mut(&address)?;
        // One that is neither ready nor closed still takes in the rest of a request whose answer came early: it stays.
        for at in (0..stack.len()).rev() {
            if stack[at].0.is_closed() {
                stack.remove(at);
            } else if stack[at].0.is_ready() {
                return Some(stack.remove(at).0);
            }
        }
        None
    }

    pub(crate) fn check_in(&self, address: SocketAddr, connection: Connection, now: Instant) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.0.borrow_mut();
        let stack = idle.entry(address).or_default();
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
        let pools = snapshot.services.iter().flat_map(|s| [&s.internal, &s.external]);
        let live: HashSet<SocketAddr, FxBuildHasher> = pools.flat_map(|p| &p.endpoints).map(|e| e.address).collect();
        idle.retain(|address, _| live.contains(address));
    }

    /// Closes connections that were idle for too long.
    pub(crate) fn prune(&self) {
        self.0.borrow_mut().retain(|_, stack| {
            stack.retain(|(connection, since)| !connection.is_closed() && since.elapsed() < IDLE_TIME);
            !stack.is_empty()
        });
    }
}
