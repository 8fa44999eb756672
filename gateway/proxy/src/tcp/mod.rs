//! L4: one connection to one endpoint, whose bytes are not touched. [`connect`] picks and [dials](dial()). [`mod@relay`] passes bytes, ends and resets on in both
//! directions, by copying or, while many bytes move, through a [`pipe`]; [`secured`] does so if TLS is ended or begun here.

mod direction;
mod pipe;
mod relay;
mod secured;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderName, HeaderValue};
use sluicegate_decide::ladder::NoPick;
use sluicegate_decide::way;
use sluicegate_model::health::Outcome;
use sluicegate_model::requests::{Early, RequestLine};
use sluicegate_model::snapshot::{Front, ServicePort, Side};
use sluicegate_model::stats::{Reset, count};

use crate::access::Entry;
use crate::core::places::{self, Full, Places};
use crate::core::{Core, View};
use crate::endpoint::{Busy, Endpoints, Opening, Patience, Speak, TRIES, dial, lead, refuse, reset};
use crate::origin::Origin;
use crate::sampled::Sampled;
use crate::stream::Stream;

use direction::Tools;
use relay::{Relay, relay};
use secured::relay_secured;

/// The header by which routers are shown the protocols of a client hello.
const ALPN: HeaderName = HeaderName::from_static("alpn");

/// What all forwarded connections of a worker share.
pub(crate) struct Tcp {
    core: Rc<Core>,
    endpoints: Rc<Endpoints>,
    /// What the directions of all connections share.
    tools: RefCell<Tools>,
}

impl Tcp {
    pub(crate) fn new(endpoints: Rc<Endpoints>) -> Self {
        Self { core: endpoints.core.clone(), endpoints, tools: RefCell::default() }
    }
}

/// What is known of a connection before a byte of it is forwarded.
pub(crate) struct Asked<'a> {
    pub(crate) origin: &'a Origin,
    /// The address that the client connected to.
    pub(crate) listener: SocketAddr,
    /// The server name of its TLS; empty without TLS.
    pub(crate) host: &'a str,
    /// The protocols that its TLS offers.
    pub(crate) alpn: &'a [String],
    /// What the bytes are.
    pub(crate) speak: Speak,
}

/// Forwards a connection, of which `first` was read already.
pub(crate) async fn forward(mut client: Stream, first: &[u8], asked: &Asked<'_>, view: Rc<View>, shared: &Tcp) {
    let origin = asked.origin;
    let listener = view.listener(asked.listener);
    let idle = listener.and_then(|l| l.settings.tcp_idle);
    // Its line is written when it is dropped, wherever this ends.
    let mut entry = shared.core.log.as_ref().map(|log| Entry::new(log, "tcp", origin.client.ip(), listener.map_or("", |l| &l.name)));
    let sampled_by = shared.core.requests.is_on().then(|| sampled(asked, &view, shared)).flatten();
    let resolved = resolve(&view, asked, shared);
    if let Some(mut sampled) = sampled_by {
        sampled.note(|line| match resolved {
            Some((service, _)) => line.decided.service = Some(service.id.to_string()),
            None => line.decided.reason = Some(Reset::NoRoute.name().to_owned()),
        });
    }
    let Some((service, side)) = resolved else {
        note(&mut entry, |entry| entry.reason = Some(Reset::NoRoute.name()));
        return refuse(client.socket(), Reset::NoRoute, &shared.core);
    };
    note(&mut entry, |entry| entry.routed(&service.id, None));
    let (begun, stats, settings) = (Instant::now(), service.stats.clone(), service.settings.clone());
    count(&stats.connections);
    let hello =
        service.settings.proxy_protocol.map(|version| origin.announce(version, client.socket().local_addr().unwrap_or(asked.listener)));
    let connected = connect(service, side, asked, hello.as_deref(), &mut entry, shared).await;
    // A connection outlives its snapshot: it keeps an endpoint that is removed, and the snapshot need not stay.
    drop(view);
    match connected {
        Ok((mut endpoint, (busy, _places), took)) => {
            let (end, [bytes_in, bytes_out]) = match (&client, &endpoint) {
                (Stream::Tcp(client), Stream::Tcp(endpoint)) => relay(client, first, endpoint, idle, &stats, shared).await,
                // It is boxed, as it holds two buffers and most connections are not TLS that is ended here.
                _ => Box::pin(relay_secured(&mut client, first, &mut endpoint, idle, &stats)).await,
            };
            if let Some(rules) = &settings.health.passive {
                let outcome = if end == Relay::EndpointRefused { Outcome::Unreachable } else { Outcome::Served };
                stats.health.note(rules, &busy.endpoint().health, outcome, took);
            }
            let reason = match end {
                Relay::Ended => None,
                Relay::Idle => Some("idle"),
                Relay::ClientReset => {
                    reset(endpoint.socket());
                    Some("client-reset")
                }
                Relay::EndpointReset | Relay::EndpointRefused => {
                    refuse(client.socket(), Reset::Endpoint, &shared.core);
                    Some(Reset::Endpoint.name())
                }
            };
            note(&mut entry, |entry| (entry.reason, entry.bytes_in, entry.bytes_out) = (reason, bytes_in, bytes_out));
        }
        Err(why) => {
            note(&mut entry, |entry| entry.reason = Some(why.name()));
            refuse(client.socket(), why, &shared.core);
        }
    }
    stats.connection_time.observe(begun.elapsed());
}

/// What those want to know who sample a connection; none if nobody does.
#[cold]
fn sampled(asked: &Asked<'_>, view: &View, shared: &Tcp) -> Option<Box<Sampled>> {
    let listener = view.listener(asked.listener)?;
    let early = Early { request: false, method: "", host: asked.host, path: "" };
    let tls = matches!(listener.front, Front::Tls(_));
    Sampled::of(&shared.core.requests, &early, &view.snapshot, |_| RequestLine {
        listener: listener.name.clone(),
        address: Some(asked.listener),
        protocol: if tls { "tls" } else { "tcp" }.to_owned(),
        server_name: tls.then(|| asked.host.to_owned()),
        client: asked.origin.client.ip().to_canonical().to_string(),
        ..RequestLine::default()
    })
}

fn note(entry: &mut Option<Box<Entry>>, what: impl FnOnce(&mut Entry)) {
    if let Some(entry) = entry {
        what(entry);
    }
}

fn resolve<'v>(view: &'v View, asked: &Asked<'_>, shared: &Tcp) -> Option<(&'v ServicePort, Side)> {
    let target = match &view.listener(asked.listener)?.front {
        Front::Tcp(target) => target,
        Front::Tls(hosts) => &hosts.find(asked.host)?.target,
        Front::Http(_) | Front::Udp(_) => return None,
    };
    let mut headers = HeaderMap::new();
    if let Some(alpn) = (!asked.alpn.is_empty()).then(|| HeaderValue::from_str(&asked.alpn.join(", ")).ok()).flatten() {
        headers.insert(ALPN, alpn);
    }
    let (service, side) = lead(target, asked.host, &headers, asked.origin.client.ip(), &shared.core)?;
    Some((view.snapshot.services.get(&service)?, side))
}

/// Picks an endpoint and connects, and says how long the endpoint took to accept. If connecting fails, another endpoint is tried.
async fn connect(
    service: &ServicePort,
    side: Side,
    asked: &Asked<'_>,
    hello: Option<&[u8]>,
    entry: &mut Option<Box<Entry>>,
    shared: &Tcp,
) -> Result<(Stream, (Busy, Option<Box<Places>>), Duration), Reset> {
    let client = asked.origin.client.ip();
    let hash = way::hash(service, client);
    let mut tried = Vec::new();
    loop {
        let picked = shared.core.decider.borrow_mut().pick(service, side, client, hash, &tried);
        let picked = match picked {
            Ok(picked) => picked,
            Err(_) if !tried.is_empty() => return Err(Reset::ConnectFailed),
            Err(why) => {
                count(&service.stats.no_endpoint);
                return Err(match why {
                    NoPick::Empty => Reset::NoEndpoint,
                    NoPick::NoLocal => {
                        count(&service.stats.no_local_endpoint);
                        Reset::NoLocalEndpoint
                    }
                    NoPick::Failed => Reset::BalancerFailed,
                });
            }
        };
        let busy = Busy::new(&picked);
        note(entry, |entry| (entry.endpoint, entry.attempts) = (Some(picked.address), entry.attempts + 1));
        let endpoints = service.pool(side).endpoints.len();
        let places = match places::connection(service, &picked) {
            Ok(places) => places,
            Err(Full::Endpoint) if tried.len() + 1 < endpoints => {
                tried.push(picked.address);
                continue;
            }
            Err(_) => {
                count(&service.stats.refused.connections);
                return Err(Reset::CircuitBreaker);
            }
        };
        let patience = Patience::new(tried.len() + 1 < TRIES.min(endpoints));
        let (begun, opening) =
            (Instant::now(), Opening { hello, speak: asked.speak, patience, from: shared.core.source(service, side, client) });
        if let Some(stream) = dial(service, &picked, opening, &shared.endpoints).await {
            let took = begun.elapsed();
            shared.core.decider.borrow_mut().observe(&service.settings, &service.stats, &picked, Outcome::Accepted, took);
            return Ok((stream, (busy, places), took));
        }
        tried.push(picked.address);
        if tried.len() >= TRIES.min(endpoints) {
            return Err(Reset::ConnectFailed);
        }
    }
}
