//! L4: one connection to one endpoint, bytes untouched, half-close kept.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::plugin::hash_ip;
use sluicegate_model::route::{Decision, RouteView};
use sluicegate_model::snapshot::{Front, ServicePort, Side, Target};
use sluicegate_model::stats::{EndpointStats, count};
use tokio::net::TcpStream;

use crate::decide::Picked;
use crate::worker::{Shared, View};

/// Endpoints tried for one connection or request.
pub(crate) const TRIES: usize = 3;
/// One buffer of this size for each direction.
const BUFFER: usize = 16 << 10;

pub(crate) async fn forward(mut client: TcpStream, peer: SocketAddr, address: SocketAddr, view: Rc<View>, shared: &Shared) {
    let connected = match resolve(&view, address, peer, shared) {
        Some((service, side)) => {
            count(&service.stats.connections);
            connect(service, side, peer, shared).await
        }
        None => None,
    };
    // A connection outlives its snapshot: an endpoint that is removed keeps it (SERVICE-SEMANTICS §12), the snapshot need not stay.
    drop(view);
    let Some((mut upstream, _busy)) = connected else { return reset(&client) };
    keep_alive(&client);
    keep_alive(&upstream);
    // An error is one side's reset: the other gets one too.
    if tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await.is_err() {
        reset(&client);
        reset(&upstream);
    }
}

fn resolve<'v>(view: &'v View, address: SocketAddr, client: SocketAddr, shared: &Shared) -> Option<(&'v ServicePort, Side)> {
    let Some(Front::Tcp(target)) = view.listener(address).map(|l| &l.front) else { return None };
    match target {
        Target::Nothing => None,
        Target::Service(to) => Some((view.snapshot.services.get(to.service)?, to.side)),
        Target::Router(binding) => {
            let headers = ::http::HeaderMap::new();
            let request = RouteView { method: "", host: "", path: "", query: "", headers: &headers, client: client.ip() };
            let (rung, Decision::Matched(choice)) = shared.decider.borrow_mut().route(binding, &request)? else { return None };
            let service = rung.backends.get(choice.rule)?.get(choice.backend?)?.as_ref().ok()?;
            Some((view.snapshot.services.get(*service)?, Side::Internal))
        }
    }
}

/// Picks and connects; a failed connect goes to another endpoint.
async fn connect(service: &ServicePort, side: Side, client: SocketAddr, shared: &Shared) -> Option<(TcpStream, Busy)> {
    // Without a header, cookie or path to hash, the client's address is what tells connections apart.
    let hash = service.hash.as_ref().map(|_| hash_ip(client.ip()));
    let mut tried = Vec::new();
    loop {
        let picked = shared.decider.borrow_mut().pick(service, side, client.ip(), hash, &tried);
        let Ok(picked) = picked else {
            if tried.is_empty() {
                count(&service.stats.no_endpoint);
            }
            return None;
        };
        let busy = Busy::new(&picked);
        if let Some(stream) = dial(service, &picked, shared).await {
            return Some((stream, busy));
        }
        tried.push(picked.address);
        if tried.len() >= TRIES.min(service.pool(side).endpoints.len()) {
            return None;
        }
    }
}

/// One connection attempt, within the service's connect time-out.
pub(crate) async fn dial(service: &ServicePort, to: &Picked, shared: &Shared) -> Option<TcpStream> {
    let begun = Instant::now();
    let connected = tokio::time::timeout(service.settings.timeouts.connect, TcpStream::connect(to.address)).await;
    let stream = connected.ok().and_then(Result::ok);
    shared.decider.borrow_mut().observe(to, stream.is_some(), begun.elapsed());
    match &stream {
        Some(stream) => {
            service.stats.connect_time.observe(begun.elapsed());
            drop(stream.set_nodelay(true));
        }
        None => count(&service.stats.connect_failures),
    }
    stream
}

/// Resets instead of closing: a refused connection must not look like an empty answer (SERVICE-SEMANTICS §14).
pub(crate) fn reset(stream: &TcpStream) {
    // Fails only on a socket that is gone already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Dead peers are found: nothing else ends a silent connection, which may be silent for as long as it likes.
fn keep_alive(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    // Fails only on a socket that is gone already.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Counts an endpoint's work in flight while it lives.
pub(crate) struct Busy(Arc<EndpointStats>);

impl Busy {
    pub(crate) fn new(picked: &Picked) -> Self {
        picked.stats.begin();
        Self(picked.stats.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}
