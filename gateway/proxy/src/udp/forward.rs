//! From a listener to endpoints: a batch of datagrams is sorted by flow, and each flow's datagrams are sent by one system call.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use sluicegate_model::requests::{Early, RequestLine};
use sluicegate_model::route::Protocol;
use sluicegate_model::settings::contains;
use sluicegate_model::snapshot::{Front, Listener, ServiceIndex, ServicePort, Side, Target};
use sluicegate_model::stats::UdpDrop;

use super::Udp;
use super::flow::{Flow, Key, Leg, Places, connect};
use super::socket::{Batch, Datagram};
use super::{Flows, Listening};
use crate::access::Entry;
use crate::core::View;
use crate::endpoint::{TRIES, lead};
use crate::overload;
use crate::sampled::Sampled;

/// What the datagrams of one batch have in common.
struct Forwarder<'a> {
    listening: &'a Rc<Listening>,
    shared: &'a Rc<Udp>,
    view: &'a View,
    now: Instant,
}

/// Forwards what a listener has received.
pub(super) fn forward(listening: &Rc<Listening>, batch: &mut Batch, shared: &Rc<Udp>) {
    let forwarder = Forwarder { listening, shared, view: &shared.core.view(), now: Instant::now() };
    let mut datagrams = std::mem::take(&mut batch.datagrams);
    // The sort is stable, so that a flow's datagrams keep their order.
    datagrams.sort_by_key(|d| (d.from, d.to));
    for run in datagrams.chunk_by(|a, b| (a.from, a.to) == (b.from, b.to)) {
        if let Some((client, local)) = run.first().and_then(|d| Some((d.from?, d.to))) {
            forwarder.run(Key { listener: listening.address, client, local }, run, batch);
        }
    }
    batch.datagrams = datagrams;
}

/// Whether what an endpoint answers still goes to the client. At the first answer after a change the flow is looked at, as at a datagram of the client's. A flow
/// that has ended is forgotten.
pub(super) fn still_flows(listening: &Rc<Listening>, key: Key, shared: &Rc<Udp>) -> bool {
    let view = shared.core.view();
    let mut table = shared.table.borrow_mut();
    let may_linger = !table.is_full();
    let Some(flow) = table.touch(&key, Instant::now()) else { return true };
    if flow.version == view.snapshot.version
        || (Forwarder { listening, shared, view: &view, now: Instant::now() }).look(flow, key, may_linger)
    {
        return true;
    }
    drop(table.remove(&key));
    false
}

impl Forwarder<'_> {
    /// Forwards the datagrams of one flow.
    fn run(&self, key: Key, run: &[Datagram], batch: &mut Batch) {
        let mut table = self.shared.table.borrow_mut();
        let may_linger = !table.is_full();
        let known = table.touch(&key, self.now).is_some_and(|flow| self.look(flow, key, may_linger));
        if !known && !self.begin(&mut table, key, run.len()) {
            return;
        }
        let Some(flow) = table.touch(&key, self.now) else { return };
        self.send(flow, key, run, batch, may_linger);
        if flow.upstream().answered.get() {
            // The client goes on after an answer, so its address is not invented, or at least not by somebody else.
            table.assure(&key);
        }
    }

    /// Tells those who sample connections of a new flow.
    #[cold]
    fn sampled(&self, key: Key, listener: &Listener, service: &ServicePort) {
        let early = Early { request: false, method: "", host: "", path: "" };
        drop(Sampled::of(&self.shared.core.requests, &early, &self.view.snapshot, |_| {
            let mut line = RequestLine {
                listener: listener.name.clone(),
                address: Some(key.listener),
                protocol: "udp".to_owned(),
                client: key.client.ip().to_canonical().to_string(),
                ..RequestLine::default()
            };
            line.decided.service = Some(service.id.to_string());
            line
        }));
    }

    /// Begins a flow. Returns false if that is not possible; then its datagrams are counted as dropped.
    fn begin(&self, table: &mut Flows, key: Key, datagrams: usize) -> bool {
        // There may be one whose listener led elsewhere.
        drop(table.remove(&key));
        let led = self.target().and_then(|target| lead(target, "", &::http::HeaderMap::new(), key.client.ip(), &self.shared.core));
        let led = led.and_then(|(index, side)| Some((self.listener()?, index, self.view.snapshot.services.get(&index)?, side)));
        let Some((listener, index, service, side)) = led else {
            self.shared.core.stats.unrouted_datagrams.fetch_add(datagrams as u64, std::sync::atomic::Ordering::Relaxed);
            return false;
        };
        if self.shared.core.requests.is_on() {
            self.sampled(key, listener, service);
        }
        let admitted = self.admit(table, key);
        let begun = admitted.and_then(|places| Ok((self.connect(service, side, key, Vec::new())?, places)));
        match begun {
            Ok((leg, places)) => {
                let entry = self.shared.core.log.as_ref().map(|log| Entry::new(log, "udp", key.client.ip(), &listener.name));
                let flow = Flow::new(listener.clone(), (index, service.clone()), side, self.view.snapshot.version, leg, places, entry);
                if let Some(evicted) = table.insert(key, flow, service.settings.udp.idle(), self.now) {
                    evicted.evicted();
                }
                true
            }
            Err(why) => {
                if why == UdpDrop::NoSocket
                    && let Some(evicted) = table.evict()
                {
                    // Its descriptor is free for the next one.
                    evicted.evicted();
                }
                service.stats.udp.count_drop(why, datagrams);
                false
            }
        }
    }

    /// Whether another flow may begin, and the places for it.
    fn admit(&self, table: &mut Flows, key: Key) -> Result<Places, UdpDrop> {
        if self.shared.core.stopping.get() {
            return Err(UdpDrop::Stopping);
        }
        if overload::is_refusing(&self.shared.core.stats) {
            return Err(UdpDrop::Overloaded);
        }
        if !self.lets_in(key) {
            return Err(UdpDrop::SourceRange);
        }
        let limits = self.view.datagrams(key.listener).map(|listener| &listener.settings.connections);
        let Some(limits) = limits.filter(|l| l.listener.is_some() || l.client.is_some()) else { return Ok((None, None)) };
        let (admission, stats, at) = (&self.shared.core.admission, &self.shared.core.stats, (Protocol::Udp, key.listener));
        let client = admission.client(at, key.client.ip(), limits.client, stats).map_err(|_| UdpDrop::Limit)?;
        // As in the table, addresses that were invented push out each other, and not flows that live.
        let listener = admission.listener(at, limits.listener, stats).or_else(|full| {
            table.evict_unproven(|other| other.listener == key.listener).ok_or(full)?.evicted();
            admission.listener(at, limits.listener, stats)
        });
        Ok((listener.map_err(|_| UdpDrop::Limit)?, client))
    }

    /// Looks at a known flow when there is a new snapshot, or its endpoint has refused. Returns false if it has ended, as its listener leads elsewhere, or nothing
    /// serves it any more.
    fn look(&self, flow: &mut Flow, key: Key, may_linger: bool) -> bool {
        let version = self.view.snapshot.version;
        if flow.version != version && self.is_as_before(flow) {
            flow.version = version;
        }
        if flow.version != version {
            let led = self.still_led(flow).filter(|_| self.lets_in(key));
            let Some((listener, (index, service))) = self.listener().zip(led) else { return false };
            (flow.listener, flow.index, flow.service) = (listener.clone(), index, service.clone());
            flow.version = version;
            // When its endpoint serves no more, it goes to one that does. If there is none, it ends, as the address may be somebody else's by now
            // (kubernetes/kubernetes#139629).
            let pool = flow.service.pool(flow.side);
            if !pool.serves(flow.upstream().address()) && !self.go_on(flow, key, Vec::new(), may_linger) {
                return false;
            }
        }
        if flow.upstream().refused.get() {
            let refused = flow.upstream().address();
            if flow.service.pool(flow.side).endpoints.iter().any(|e| e.address != refused) {
                self.go_on(flow, key, vec![refused], may_linger);
            }
            flow.upstream().refused.set(false);
        }
        true
    }

    /// Moves a flow to another endpoint. Returns false if there is no other endpoint, or no socket for it.
    fn go_on(&self, flow: &mut Flow, key: Key, tried: Vec<SocketAddr>, may_linger: bool) -> bool {
        let leg = self.connect(&flow.service.clone(), flow.side, key, tried);
        leg.map(|leg| flow.go_on(leg, may_linger)).is_ok()
    }

    fn send(&self, flow: &mut Flow, key: Key, run: &[Datagram], batch: &mut Batch, may_linger: bool) {
        let (mut left, mut refusals) = (run, 0);
        while !left.is_empty() {
            let stats = flow.service.stats.clone();
            let sent = batch.send(flow.upstream().fd(), None, left, &stats.udp, UdpDrop::EndpointSlow);
            stats.udp.sent_in(sent.datagrams, sent.bytes);
            flow.sent(sent.bytes as u64);
            if sent.datagrams > 0 {
                flow.upstream().asked.set(Some(self.now));
            }
            left = sent.unreachable;
            if !left.is_empty() {
                flow.upstream().refuse(&stats, self.shared);
                refusals += 1;
                if refusals > TRIES {
                    stats.udp.count_drop(UdpDrop::Refused, left.len());
                    return;
                }
                // It goes to another endpoint, or to this one again: what was refused is an earlier datagram.
                self.look(flow, key, may_linger);
            }
        }
    }

    fn connect(&self, service: &ServicePort, side: Side, key: Key, tried: Vec<SocketAddr>) -> Result<Leg, UdpDrop> {
        connect(service, side, key, self.listening, self.shared, tried)
    }

    /// Whether `loadBalancerSourceRanges` lets the client in. As for connections, this host may always reach its own addresses.
    fn lets_in(&self, key: Key) -> bool {
        let client = key.client.ip();
        self.view.datagrams(key.listener).is_some_and(|listener| {
            let sources = &listener.settings.sources;
            sources.is_empty() || contains(sources, client) || client == key.listener.ip()
        })
    }

    fn listener(&self) -> Option<&Arc<Listener>> {
        self.view.datagrams(self.listening.address)
    }

    /// Whether neither its listener nor its service has changed, whatever else has.
    fn is_as_before(&self, flow: &Flow) -> bool {
        self.listener().is_some_and(|listener| Arc::ptr_eq(listener, &flow.listener))
            && self.view.snapshot.services.get(&flow.index).is_some_and(|service| Arc::ptr_eq(service, &flow.service))
    }

    fn target(&self) -> Option<&Target> {
        match self.listener().map(|l| &l.front) {
            Some(Front::Udp(target)) => Some(target),
            _ => None,
        }
    }

    /// The flow's service in this snapshot, if the listener still leads to it. A router is not asked again, as it may choose a backend at random.
    fn still_led(&self, flow: &Flow) -> Option<(ServiceIndex, &Arc<ServicePort>)> {
        let services = &self.view.snapshot.services;
        let same = |index: &ServiceIndex| Some((*index, services.get(index).filter(|s| s.id == flow.service.id)?));
        match self.target()? {
            Target::Nothing => None,
            Target::Service(to) => same(&to.service).filter(|_| to.side == flow.side),
            Target::Router(binding) => {
                let backends = binding.ladder.iter().flat_map(|rung| rung.rules.iter().flat_map(|bound| &bound.backends));
                backends.filter_map(|backend| backend.as_ref().ok()).find_map(same)
            }
        }
    }
}
