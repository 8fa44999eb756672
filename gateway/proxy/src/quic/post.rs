//! Packets on their way to the worker that has their connection. Each worker has a bounded queue for each address; what it has no room for is dropped and
//! counted, as by a full socket, and sent again by its sender.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::udp::EcnCodepoint;
use sluicegate_model::stats::{ProxyStats, count};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::id::{self, Ids};
use super::succession::Predecessor;
use crate::listener::SocketSet;

/// How many packets wait for one worker at one address.
const QUEUE: usize = 512;

/// A packet as it was received.
pub(super) struct Packet {
    pub(super) from: SocketAddr,
    /// The address that it was sent to, if the socket has several.
    pub(super) to: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) bytes: Box<[u8]>,
}

/// What all workers have in common of one address: its sockets, and the queues between them.
pub(crate) struct Quic {
    pub(crate) sockets: SocketSet<UdpSocket>,
    pub(super) post: Arc<Post>,
    queues: Box<[Mutex<Option<Receiver<Packet>>>]>,
}

impl Quic {
    pub(crate) fn new(
        sockets: SocketSet<UdpSocket>,
        workers: usize,
        ids: Ids,
        predecessor: Option<Arc<Predecessor>>,
        stats: Arc<ProxyStats>,
    ) -> Self {
        let (workers, queues) = (0..workers)
            .map(|_| {
                let (sender, receiver) = channel(QUEUE);
                (sender, Mutex::new(Some(receiver)))
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Self { sockets, post: Arc::new(Post { ids, workers: workers.into(), predecessor, stats }), queues: queues.into() }
    }

    /// The packets that others hand over to a worker, which asks once.
    pub(super) fn queue(&self, worker: usize) -> Option<Receiver<Packet>> {
        self.queues.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells whose a packet is, and hands it over.
pub(crate) struct Post {
    pub(super) ids: Ids,
    workers: Box<[Sender<Packet>]>,
    predecessor: Option<Arc<Predecessor>>,
    stats: Arc<ProxyStats>,
}

impl Post {
    /// The worker to which a packet belongs, if it is another one than `worker`.
    pub(super) fn other(&self, packet: &[u8], worker: u16) -> Option<u16> {
        self.ids.worker(id::destination(packet)?).filter(|of| *of != worker && usize::from(*of) < self.workers.len())
    }

    /// Sends a packet on to the process that had the sockets before, if it has the packet's connection. Returns whether that was done.
    pub(super) fn passes(
        &self,
        listener: SocketAddr,
        packet: &[u8],
        from: SocketAddr,
        to: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
    ) -> bool {
        let Some(sent) = self.predecessor.as_ref().and_then(|predecessor| predecessor.pass(listener, packet, from, to, ecn)) else {
            return false;
        };
        count(if sent { &self.stats.http3.handed_over } else { &self.stats.http3.handover_dropped });
        true
    }

    /// Hands a packet over, or drops it.
    pub(super) fn hand_over(&self, packet: Packet, to: u16) {
        let sent = self.workers.get(usize::from(to)).is_some_and(|queue| queue.try_send(packet).is_ok());
        count(if sent { &self.stats.http3.handed_over } else { &self.stats.http3.handover_dropped });
    }
}
