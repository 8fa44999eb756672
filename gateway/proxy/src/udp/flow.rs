//! One flow: a client's address and port at a listener, the endpoint that it goes to, and the way back.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use sluicegate_decide::ladder::NoPick;
use sluicegate_decide::way;
use sluicegate_model::health::Outcome;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::slots::Slot;
use sluicegate_model::snapshot::{Listener, ServiceIndex, ServicePort, Side};
use sluicegate_model::stats::{ServiceStats, UdpDrop, count};
use tokio::task::{JoinHandle, spawn_local, yield_now};

use super::Udp;
use super::forward::still_flows;
use super::socket::{self, Batch, Way};
use super::{BATCHES, Listening};
use crate::access::Entry;
use crate::core::admission::ClientPlace;
use crate::core::decider::Picked;
use crate::endpoint::{Busy, TRIES};
use crate::watched::Watched;

/// After so many errors, and nothing else, a socket is given up.
const ERRORS: u32 = 16;
/// How long an endpoint that a flow has left may still answer what it was sent.
const LINGER: Duration = Duration::from_secs(2);

/// The key of a flow. A listener on all addresses has a flow for each address that a client sends to, as the answers must come from that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) listener: SocketAddr,
    pub(super) client: SocketAddr,
    /// The address that the client sends to, of those that the listener has; none if it has only one.
    pub(super) local: Option<IpAddr>,
}

/// A flow, as the worker's table has it.
pub(super) struct Flow {
    /// The listener that led it to its service, as it was then.
    pub(super) listener: Arc<Listener>,
    pub(super) index: ServiceIndex,
    pub(super) service: Arc<ServicePort>,
    pub(super) side: Side,
    /// The version of the snapshot in which the endpoint was last seen to serve.
    pub(super) version: u64,
    leg: Leg,
    _places: Places,
    /// The line in the access log, which is written when the flow is forgotten.
    entry: Option<Box<Entry>>,
}

/// The places of a flow at its listener, where they are limited: among all, and among those of its client.
pub(super) type Places = (Option<Slot>, Option<ClientPlace>);

impl Flow {
    pub(super) fn new(
        listener: Arc<Listener>,
        (index, service): (ServiceIndex, Arc<ServicePort>),
        side: Side,
        version: u64,
        leg: Leg,
        places: Places,
        mut entry: Option<Box<Entry>>,
    ) -> Self {
        count(&service.stats.udp.flows);
        count(&service.stats.udp.open);
        if let Some(entry) = &mut entry {
            entry.routed(&service.id, None);
            (entry.attempts, entry.endpoint) = (1, Some(leg.upstream.address()));
        }
        Self { listener, index, service, side, version, leg, _places: places, entry }
    }

    /// Notes that so many bytes went to the endpoint.
    pub(super) fn sent(&mut self, bytes: u64) {
        if let Some(entry) = &mut self.entry {
            entry.bytes_in += bytes;
        }
    }

    /// Notes that the flow has to make room for another one.
    pub(super) fn evicted(mut self) {
        count(&self.service.stats.udp.evicted);
        if let Some(entry) = &mut self.entry {
            entry.reason = Some("evicted");
        }
    }

    /// Adds up what the endpoint has answered.
    fn settle(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.bytes_out += self.leg.upstream.bytes_out.take();
        }
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.leg.upstream
    }

    /// Goes on to another endpoint. The one before may still answer for a while, unless it is dead, or descriptors are short.
    pub(super) fn go_on(&mut self, leg: Leg, may_linger: bool) {
        count(&self.service.stats.udp.moved);
        self.settle();
        if let Some(entry) = &mut self.entry {
            (entry.attempts, entry.endpoint) = (entry.attempts + 1, Some(leg.upstream.address()));
        }
        let left = std::mem::replace(&mut self.leg, leg);
        if may_linger && !left.upstream.refused.get() {
            spawn_local(async move {
                tokio::time::sleep(LINGER).await;
                drop(left);
            });
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.settle();
        self.service.stats.udp.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way of a flow to one endpoint, and the task that carries answers back.
pub(super) struct Leg {
    upstream: Rc<Upstream>,
    answers: JoinHandle<()>,
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// The way to one endpoint.
pub(super) struct Upstream {
    socket: Watched<UdpSocket>,
    picked: Picked,
    settings: Arc<BackendSettings>,
    _busy: Busy,
    begun: Instant,
    /// How many bytes of answers have gone to the client.
    bytes_out: Cell<u64>,
    /// When the client has last sent something that was not answered yet.
    pub(super) asked: Cell<Option<Instant>>,
    /// Whether the endpoint has answered.
    pub(super) answered: Cell<bool>,
    /// Whether the endpoint is unreachable. Then the next datagram goes to another one.
    pub(super) refused: Cell<bool>,
}

impl Upstream {
    pub(super) fn address(&self) -> SocketAddr {
        self.picked.address
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Notes that the endpoint is unreachable: the kernel knows it by ICMP (port, host or network unreachable).
    pub(super) fn refuse(&self, stats: &ServiceStats, shared: &Udp) {
        count(&stats.connect_failures);
        shared.core.decider.borrow_mut().observe(&self.settings, stats, &self.picked, Outcome::Unreachable, self.begun.elapsed());
        self.refused.set(true);
    }
}

/// Picks an endpoint that is not among `tried`, and opens a socket to it. Nothing is sent, so it is not known yet whether the endpoint listens.
pub(super) fn connect(
    service: &ServicePort,
    side: Side,
    key: Key,
    listening: &Rc<Listening>,
    shared: &Rc<Udp>,
    mut tried: Vec<SocketAddr>,
) -> Result<Leg, UdpDrop> {
    // As for TCP, the client's address is all that can be hashed.
    let hash = way::hash(service, key.client.ip());
    loop {
        let picked = shared.core.decider.borrow_mut().pick(service, side, key.client.ip(), hash, &tried);
        let picked = picked.map_err(|why| if why == NoPick::NoLocal { UdpDrop::NoLocalEndpoint } else { UdpDrop::NoEndpoint })?;
        let begun = Instant::now();
        match socket::connect(picked.address, shared.core.source(service, side, key.client.ip())) {
            Ok(socket) => {
                let (asked, answered, refused) = (Cell::new(None), Cell::new(false), Cell::new(false));
                let (_busy, settings, bytes_out) = (Busy::new(&picked), service.settings.clone(), Cell::new(0));
                let upstream = Rc::new(Upstream { _busy, settings, socket, picked, begun, bytes_out, asked, answered, refused });
                let (listening, stats) = (Rc::downgrade(listening), service.stats.clone());
                let answers = spawn_local(answers(upstream.clone(), key, listening, stats, shared.clone()));
                return Ok(Leg { upstream, answers });
            }
            Err(error) if is_shortage(&error) => return Err(UdpDrop::NoSocket),
            // There is no route to it.
            Err(_) => {
                count(&service.stats.connect_failures);
                let took = begun.elapsed();
                shared.core.decider.borrow_mut().observe(&service.settings, &service.stats, &picked, Outcome::Unreachable, took);
                tried.push(picked.address);
                if tried.len() >= TRIES.min(service.pool(side).endpoints.len()) {
                    return Err(UdpDrop::Refused);
                }
            }
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// Carries an endpoint's datagrams back to the client, until the flow or its listener ends.
async fn answers(upstream: Rc<Upstream>, key: Key, listening: Weak<Listening>, stats: Arc<ServiceStats>, shared: Rc<Udp>) {
    let mut errors = 0;
    while errors < ERRORS && socket::arrival(&upstream.socket).await.is_ok() {
        let mut more = true;
        for _ in 0..BATCHES {
            let mut batch = shared.batch.borrow_mut();
            more = match batch.receive_connected(&upstream.socket) {
                Ok(more) => more,
                Err(error) if socket::is_would_block(&error) => false,
                Err(_) => {
                    errors += 1;
                    upstream.refuse(&stats, &shared);
                    continue;
                }
            };
            if !batch.datagrams.is_empty() {
                errors = 0;
                let Some(listening) = listening.upgrade() else { return };
                if !still_flows(&listening, key, &shared) {
                    return;
                }
                answer(&upstream, key, &listening, &stats, &mut batch);
                drop(batch);
                answered(&upstream, &stats, &shared);
            }
            if !more {
                break;
            }
        }
        if more {
            yield_now().await;
        }
    }
}

fn answer(upstream: &Upstream, key: Key, listening: &Listening, stats: &ServiceStats, batch: &mut Batch) {
    let way = Some(Way { to: key.client, from: key.local });
    let datagrams = std::mem::take(&mut batch.datagrams);
    let sent = batch.send(listening.socket.as_raw_fd(), way, &datagrams, &stats.udp, UdpDrop::ClientSlow);
    stats.udp.sent_out(sent.datagrams, sent.bytes);
    upstream.bytes_out.set(upstream.bytes_out.get() + sent.bytes as u64);
    stats.udp.count_drop(UdpDrop::Failed, sent.unreachable.len());
    batch.datagrams = datagrams;
    upstream.asked.set(None);
}

fn answered(upstream: &Upstream, stats: &ServiceStats, shared: &Udp) {
    if !upstream.answered.replace(true) {
        let took = upstream.begun.elapsed();
        shared.core.decider.borrow_mut().observe(&upstream.settings, stats, &upstream.picked, Outcome::Served, took);
    }
}
