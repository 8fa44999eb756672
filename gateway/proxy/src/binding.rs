//! Binds sockets. Those of listeners that a snapshot adds are bound or taken over, those of listeners that it no longer has are closed, and those of listeners
//! whose settings have changed are set anew. What has not changed is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Error;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use sluicegate_model::persistent::Map;
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::{At, Front, Listener, Snapshot};
use sluicegate_model::stats::ProxyStats;

use crate::adopted::Adopted;
use crate::blocked;
use crate::descriptors::Descriptors;
use crate::listener::{SocketSet, Spread};
use crate::quic::{Ids, Quic};
use crate::{BindFailure, Published, Sockets};

/// For how many failures to bind a cause is looked for, of one snapshot.
const EXPLAINED: usize = 8;

/// What is bound, and what is not.
pub(crate) struct Binding {
    /// Sockets that were handed to this process and have no listener yet.
    pub(crate) adopted: Adopted,
    /// Listeners that could not be bound. They are tried again with each snapshot.
    failed: BTreeSet<At>,
    /// Those whose HTTP/3 has no socket.
    failed_quic: BTreeSet<SocketAddr>,
    /// Sockets of QUIC whose listener is gone, as long as the last connections run.
    ending: BTreeMap<SocketAddr, Weak<Quic>>,
    /// The connection IDs of this process.
    ids: Ids,
    stats: Arc<ProxyStats>,
    /// The number of descriptors of all listeners.
    listening: usize,
    workers: usize,
    descriptors: Descriptors,
}

/// The result of following a snapshot.
pub(crate) struct Bound {
    pub(crate) sockets: Sockets<TcpListener>,
    pub(crate) datagrams: Sockets<UdpSocket>,
    pub(crate) quic: Map<SocketAddr, Quic>,
    pub(crate) failures: Vec<BindFailure>,
}

impl Binding {
    pub(crate) fn new(workers: usize, descriptors: Descriptors, stats: Arc<ProxyStats>) -> Self {
        Self {
            adopted: Adopted::default(),
            failed: BTreeSet::new(),
            failed_quic: BTreeSet::new(),
            ending: BTreeMap::new(),
            ids: Ids::default(),
            stats,
            listening: 0,
            workers,
            descriptors,
        }
    }

    /// The connection IDs of this process.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The number of descriptors of all listeners.
    pub(crate) fn listening(&self) -> usize {
        self.listening
    }

    /// Sockets for the listeners of a snapshot, beginning with those of the snapshot before.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, known: &Published) -> Bound {
        let mut bound =
            Bound { sockets: known.sockets.clone(), datagrams: known.datagrams.clone(), quic: known.quic.clone(), failures: Vec::new() };
        let changes = snapshot.listeners.changes(&known.snapshot.listeners);
        let quic = changes.iter().filter(|change| change.key.0 == Protocol::Tcp);
        let quic: Vec<(SocketAddr, Option<&Arc<Listener>>)> =
            quic.map(|change| (change.key.1, change.after.filter(|listener| serves_http3(listener)))).collect();
        for (address, _) in quic.iter().filter(|(_, after)| after.is_none()) {
            self.failed_quic.remove(address);
            if let Some(gone) = bound.quic.remove(address) {
                self.listening -= gone.sockets.descriptors();
                self.ending.insert(*address, Arc::downgrade(&gone));
            }
        }
        // Descriptors of what goes are counted as free before anything new is bound.
        for (protocol, address) in changes.iter().filter(|change| change.after.is_none()).map(|change| change.key) {
            self.failed.remove(&(protocol, address));
            self.listening -= match protocol {
                Protocol::Tcp => bound.sockets.remove(&address).map_or(0, |set| set.descriptors()),
                Protocol::Udp => bound.datagrams.remove(&address).map_or(0, |set| set.descriptors()),
            };
        }
        let spread = self.spread(snapshot.listeners.len(), bound.sockets.len() + bound.datagrams.len());
        // What is new and what failed before, in the order of addresses.
        let changed = changes.iter().filter_map(|change| Some((change.key, change.after?)));
        let failed = self.failed.iter().filter_map(|at| Some((*at, snapshot.listeners.get(at)?)));
        let mut wanted: Vec<(At, &Arc<Listener>)> = changed.chain(failed).collect();
        wanted.sort_by_key(|(at, _)| *at);
        wanted.dedup_by_key(|(at, _)| *at);
        for (at, listener) in wanted {
            match self.bind(at, spread, &mut bound) {
                Ok(()) => _ = self.failed.remove(&at),
                // A socket of both families that was handed over has the address already. What arrives there is treated as IPv4's.
                Err(error) if self.adopted.covers(at.0, at.1, &error) => {}
                Err(error) => {
                    self.failed.insert(at);
                    // To look through all processes takes some milliseconds. It is done once a second while an address is not free.
                    let error = if bound.failures.len() < EXPLAINED { blocked::explained(at.0, at.1, error) } else { error };
                    let (protocol, address) = at;
                    bound.failures.push(BindFailure { protocol, address, listener: listener.name.clone(), error: error.to_string() });
                }
            }
            if let (Protocol::Tcp, Some(set)) = (at.0, bound.sockets.get(&at.1)) {
                self.stats.changes.socket_options.fetch_add(set.apply(&listener.settings), Ordering::Relaxed);
            }
        }
        let again = std::mem::take(&mut self.failed_quic);
        let mut wanted: BTreeMap<SocketAddr, &Arc<Listener>> =
            quic.into_iter().filter_map(|(address, after)| Some((address, after?))).collect();
        wanted.extend(again.into_iter().filter_map(|address| Some((address, snapshot.listeners.get(&(Protocol::Tcp, address))?))));
        for (address, listener) in wanted {
            if let Err(error) = self.bind_quic(address, snapshot, spread, &mut bound) {
                self.failed_quic.insert(address);
                let error = if bound.failures.len() < EXPLAINED { blocked::explained(Protocol::Udp, address, error) } else { error };
                let listener = format!("HTTP/3 of {}", listener.name);
                bound.failures.push(BindFailure { protocol: Protocol::Udp, address, listener, error: error.to_string() });
            }
        }
        bound
    }

    /// Keeps the sockets of a listener's HTTP/3, takes those that were handed over, or binds new ones.
    fn bind_quic(&mut self, address: SocketAddr, snapshot: &Snapshot, spread: Spread, bound: &mut Bound) -> std::io::Result<()> {
        if bound.quic.contains_key(&address) {
            return Ok(());
        }
        self.ending.retain(|_, quic| quic.strong_count() > 0);
        let quic = match self.ending.remove(&address).and_then(|quic| quic.upgrade()) {
            Some(quic) => quic,
            None => {
                if let Some(udp) = snapshot.listeners.get(&(Protocol::Udp, address)) {
                    return Err(Error::new(std::io::ErrorKind::AddrInUse, format!("{} has this port of UDP", udp.name)));
                }
                let workers = self.workers;
                let set = match self.adopted.udp.remove(&address) {
                    Some(sockets) => SocketSet::<UdpSocket>::adopt(sockets, address, workers, spread),
                    None => self.allow(spread).and_then(|()| SocketSet::udp(address, workers, spread)),
                }?;
                Arc::new(Quic::new(set, workers, self.ids, self.adopted.predecessor.clone(), self.stats.clone()))
            }
        };
        self.listening += quic.sockets.descriptors();
        bound.quic.insert(address, quic);
        Ok(())
    }

    /// Keeps the sockets of a listener, takes those that were handed over, or binds new ones.
    fn bind(&mut self, (protocol, address): At, spread: Spread, bound: &mut Bound) -> std::io::Result<()> {
        let workers = self.workers;
        match protocol {
            Protocol::Tcp if bound.sockets.contains_key(&address) => {}
            Protocol::Tcp => {
                let set = match self.adopted.tcp.remove(&address) {
                    Some(sockets) => SocketSet::<TcpListener>::adopt(sockets, workers),
                    None => self.allow(spread).and_then(|()| SocketSet::tcp(address, workers, spread)),
                }?;
                self.listening += set.descriptors();
                bound.sockets.insert(address, Arc::new(set));
            }
            Protocol::Udp if bound.datagrams.contains_key(&address) => {}
            Protocol::Udp => {
                let set = match self.adopted.udp.remove(&address) {
                    Some(sockets) => SocketSet::<UdpSocket>::adopt(sockets, address, workers, spread),
                    None => self.allow(spread).and_then(|()| SocketSet::udp(address, workers, spread)),
                }?;
                self.listening += set.descriptors();
                bound.datagrams.insert(address, Arc::new(set));
            }
        }
        Ok(())
    }

    /// Whether there are descriptors for another listener.
    fn allow(&self, spread: Spread) -> std::io::Result<()> {
        let needed = if spread == Spread::Workers { self.workers } else { 1 };
        if self.descriptors.suffice(self.listening + needed) {
            return Ok(());
        }
        let (listening, limit) = (self.listening, self.descriptors.limit());
        Err(Error::other(format!(
            "listeners have {listening} of {limit} file descriptors, and a quarter is kept for traffic (RLIMIT_NOFILE)"
        )))
    }

    /// How many sockets new listeners get. It is logged when it changes.
    fn spread(&self, listeners: usize, bound: usize) -> Spread {
        let spread = self.descriptors.spread(listeners, self.workers);
        if spread == Spread::Single && bound < listeners && self.workers > 1 {
            tracing::info!(
                listeners,
                workers = self.workers,
                descriptor_limit = self.descriptors.limit(),
                "a socket for each worker would take more than half of the file descriptors: new listeners have one that workers share"
            );
        }
        spread
    }
}

/// Whether clients may come by HTTP/3.
fn serves_http3(listener: &Listener) -> bool {
    listener.settings.http3.is_some() && matches!(listener.front, Front::Tls(_)) && listener.front.serves_http()
}
