//! L4: one connection to one endpoint, bytes untouched, half-close kept.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::{Decision, RouteView};
use sluicegate_model::snapshot::{ServicePort, Side, Target};
use sluicegate_model::stats::{EndpointStats, count};
use tokio::net::TcpStream;

use crate::worker::Shared;

/// Endpoints tried for one connection or request.
pub(crate) const TRIES: usize = 3;
const BUFFER: usize = 16 << 10;

pub(crate) async fn forward(mut client: TcpStream, address: SocketAddr, target: &Target, shared: &Rc<Shared>) {
    let Some((service, side)) = resolve(target, address, shared) else { return reset(&client) };
    count(&service.stats.connections);
    let hash = service.hash.as_ref().map(|_| sluicegate_model::plugin::hash_ip(address.ip()));
    match connect(&service, side, address, hash, shared).await {
        Ok((mut upstream, _busy)) => {
            // An error is one side's reset; dropping both ends tells the other.
            if tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await.is_err() {
                reset(&client);
                reset(&upstream);
            }
        }
        Err(_) => reset(&client),
    }
}

fn resolve(target: &Target, client: SocketAddr, shared: &Shared) -> Option<(Arc<ServicePort>, Side)> {
    let snapshot = shared.snapshot.borrow().clone();
    match target {
        Target::Nothing => None,
        Target::Service(to) => Some((snapshot.services.get(to.service)?.clone(), to.side)),
        Target::Router(binding) => {
            let headers = ::http::HeaderMap::new();
            let view = RouteView { method: "", scheme: "", host: "", path: "", query: "", headers: &headers, client: client.ip() };
            let (rung, Decision::Matched(choice)) = shared.decider.borrow_mut().route(binding, &view)? else { return None };
            let service = rung.backends.get(choice.rule)?.get(choice.backend?)?.as_ref().ok()?;
            Some((snapshot.services.get(*service)?.clone(), Side::Internal))
        }
    }
}

/// Why there is no connection.
pub(crate) enum NoConnection {
    NoEndpoint,
    Failed,
}

/// Picks and connects; a failed connect goes to another endpoint.
pub(crate) async fn connect(
    service: &ServicePort,
    side: Side,
    client: SocketAddr,
    hash: Option<u64>,
    shared: &Rc<Shared>,
) -> Result<(TcpStream, Busy), NoConnection> {
    let mut tried = Vec::new();
    while tried.len() < TRIES.min(service.pool(side).endpoints.len()) {
        let picked = shared.decider.borrow_mut().pick(service, side, client.ip(), hash, &tried);
        let Some(endpoint) = picked else { break };
        let busy = Busy::new(&endpoint);
        if let Some(stream) = dial(service, &endpoint).await {
            return Ok((stream, busy));
        }
        tried.push(endpoint.address);
    }
    if tried.is_empty() {
        count(&service.stats.no_endpoint);
        return Err(NoConnection::NoEndpoint);
    }
    Err(NoConnection::Failed)
}

/// One connection attempt, within the service's connect time-out.
pub(crate) async fn dial(service: &ServicePort, endpoint: &Endpoint) -> Option<TcpStream> {
    let begun = Instant::now();
    let connected = tokio::time::timeout(service.connect_timeout, TcpStream::connect(endpoint.address)).await;
    let stream = connected.ok().and_then(Result::ok);
    endpoint.stats.observe(stream.is_some(), begun.elapsed());
    match &stream {
        Some(stream) => drop(stream.set_nodelay(true)),
        None => count(&service.stats.connect_failures),
    }
    stream
}

/// Resets instead of closing: a refused connection must not look like an empty answer (SERVICE-SEMANTICS §14).
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Counts an endpoint's work in flight while it lives.
pub(crate) struct Busy(Arc<EndpointStats>);

impl Busy {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        endpoint.stats.begin();
        Self(endpoint.stats.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}
