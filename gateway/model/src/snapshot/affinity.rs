//! The table of `sessionAffinity: ClientIP`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `sessionAffinity: ClientIP`, one table for each service port, shared by all workers and kept over snapshots. It is the one lock on a
/// request's path, taken only for services that ask for affinity, and never across an await.
#[derive(Debug)]
pub struct Affinity {
    /// How long a client stays bound. Each new connection or flow begins the time anew.
    pub timeout: Duration,
    clients: Mutex<HashMap<IpAddr, (SocketAddr, Instant)>>,
}

/// How many clients one table remembers. When it is full, those whose time is over are dropped, then any.
pub const AFFINITY_CLIENTS: usize = 65_536;

impl Affinity {
    /// An empty table.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, clients: Mutex::default() }
    }

    /// The endpoint that `client` is bound to, if its time is not over. The time begins anew.
    pub fn lookup(&self, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (endpoint, seen) = clients.get_mut(&client)?;
        if now.duration_since(*seen) > self.timeout {
            clients.remove(&client);
            return None;
        }
        *seen = now;
        Some(*endpoint)
    }

    /// Binds `client` to `endpoint`.
    pub fn bind(&self, client: IpAddr, endpoint: SocketAddr, now: Instant) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= AFFINITY_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, (_, seen)| now.duration_since(*seen) <= self.timeout);
            if clients.len() >= AFFINITY_CLIENTS
                && let Some(any) = clients.keys().next().copied()
            {
                clients.remove(&any);
            }
        }
        clients.insert(client, (endpoint, now));
    }
}
