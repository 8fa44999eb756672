//! Which connections and flows of UDP are taken: as many as the process may have, a listener may have, and one client may have. They are counted exactly, over
//! all workers, when they are accepted, and never on a request's path. What is beyond is refused early and cheaply, while what runs goes on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use sluicegate_model::route::Protocol;
use sluicegate_model::settings::{ConnectionLimit, client_of};
use sluicegate_model::slots::{Slot, Slots};
use sluicegate_model::stats::{ProxyStats, count};

/// How many refused connections are held for their close delay, over all workers, as each has a descriptor. Further ones are reset at once.
const MOST_HELD: u32 = 256;

/// The connections that are open, over all workers.
#[derive(Default)]
pub(crate) struct Admission {
    listeners: Mutex<HashMap<At, Arc<Slots>>>,
    clients: Mutex<Clients>,
    held: AtomicU32,
}

/// The key of a listener. A TCP and a UDP listener may have the same address.
pub(crate) type At = (Protocol, SocketAddr);

/// The number of connections by listener and client. An entry goes with the client's last connection, so there are no more than connections.
type Clients = HashMap<(At, IpAddr), u32, FxBuildHasher>;

/// Why a connection is refused: a limit, with the time for which the connection is held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(Option<Duration>);

/// A client's place at a listener, which is given back when it is dropped.
pub(crate) struct ClientPlace {
    key: (At, IpAddr),
    all: Arc<Admission>,
}

impl Admission {
    /// A place at a listener; none: it has no limit.
    pub(crate) fn listener(&self, at: At, limit: Option<ConnectionLimit>, stats: &ProxyStats) -> Result<Option<Slot>, Refused> {
        let Some(ConnectionLimit { most, close_delay }) = limit else { return Ok(None) };
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if !listeners.contains_key(&at) {
            // So there are as many as listeners that have connections, rather than as listeners that ever had.
            listeners.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        match listeners.entry(at).or_default().take(most) {
            Some(slot) => Ok(Some(slot)),
            None => {
                count(&stats.clients.over_listener);
                Err(Refused(close_delay))
            }
        }
    }

    /// A client's place at a listener; none: it has no limit.
    pub(crate) fn client(
        self: &Arc<Self>,
        at: At,
        client: IpAddr,
        limit: Option<ConnectionLimit>,
        stats: &ProxyStats,
    ) -> Result<Option<ClientPlace>, Refused> {
        let Some(ConnectionLimit { most, close_delay }) = limit else { return Ok(None) };
        let key = (at, client_of(client));
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.get(&key).copied().unwrap_or(0);
        if open >= most {
            count(&stats.clients.over_client);
            return Err(Refused(close_delay));
        }
        clients.insert(key, open + 1);
        Ok(Some(ClientPlace { key, all: self.clone() }))
    }

    /// Holds a refused connection for its delay, if there is one and not too many are held already.
    pub(crate) async fn hold(&self, Refused(delay): Refused) {
        if let Some(delay) = delay
            && self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < MOST_HELD).then(|| held + 1)).is_ok()
        {
            tokio::time::sleep(delay).await;
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut clients = self.all.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = clients.entry(self.key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const AT: At = (Protocol::Tcp, SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80));

    #[test]
    fn each_client_has_its_own_places_and_leaves_nothing_behind() {
        let (all, stats) = (Arc::new(Admission::default()), ProxyStats::default());
        let limit = Some(ConnectionLimit { most: 2, close_delay: None });
        let enter = |client: &str| all.client(AT, client.parse().unwrap(), limit, &stats);
        let first = enter("10.0.0.1").unwrap();
        let second = enter("10.0.0.1").unwrap();
        assert!(enter("10.0.0.1").is_err() && enter("::ffff:10.0.0.1").is_err(), "the same address in IPv6's notation");
        assert!(enter("10.0.0.2").is_ok());
        let (a, _b) = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8::3").is_err() && enter("2001:db8:0:1::3").is_ok(), "one host has all of a /64");
        drop(first);
        assert!(enter("10.0.0.1").is_ok());
        drop((second, a, _b));
        assert!(all.clients.lock().unwrap().is_empty());
        assert_eq!(stats.clients.over_client.load(Ordering::Relaxed), 3);
        assert!(all.client(AT, "10.0.0.1".parse().unwrap(), None, &stats).unwrap().is_none());
    }

    #[test]
    fn a_listener_without_connections_is_forgotten() {
        let (all, stats) = (Admission::default(), ProxyStats::default());
        let limit = Some(ConnectionLimit { most: 1, close_delay: None });
        let place = all.listener(AT, limit, &stats).unwrap();
        assert!(all.listener(AT, limit, &stats).is_err());
        drop(place);
        let other = (Protocol::Udp, AT.1);
        let _place = all.listener(other, limit, &stats).unwrap();
        assert_eq!(all.listeners.lock().unwrap().keys().copied().collect::<Vec<_>>(), [other]);
    }
}
