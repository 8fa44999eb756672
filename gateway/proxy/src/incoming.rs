//! Takes connections of QUIC, as [`accept`](crate::accept) takes those of TCP: each becomes a task, or is refused if there is no room for it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use quinn::{ConnectionError, Endpoint, Incoming};
use rustls_pki_types::CertificateDer;
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::{Front, Listener};
use sluicegate_model::stats::{TlsFailure, count};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::accept::{Clients, Open};
use crate::core::View;
use crate::origin::{Secured, admits};
use crate::tls::{self, Place};
use crate::{http, overload, quic};

/// So many handshakes may be under way in a worker before a client has to show that it receives what is sent to its address (RFC 9000 §8.1.2): the state
/// that a handshake takes is then not for whoever sends packets with addresses of others.
const UNSHOWN: usize = 64;

/// Takes an endpoint's connections until it is aborted.
pub(crate) async fn take(endpoint: Endpoint, address: SocketAddr, shared: Rc<Clients>) {
    endpoint.set_server_config(quic::server(None));
    while let Some(incoming) = endpoint.accept().await {
        enter(incoming, address, &shared);
    }
}

/// A listener that serves HTTP/3.
fn listener(view: &View, address: SocketAddr) -> Option<Arc<Listener>> {
    let listener = view.snapshot.listeners.get(&(Protocol::Tcp, address))?;
    (listener.settings.http3.is_some() && matches!(listener.front, Front::Tls(_))).then(|| listener.clone())
}

/// Counts a connection, and begins it if there is room.
fn enter(incoming: Incoming, address: SocketAddr, shared: &Rc<Clients>) {
    if !incoming.remote_address_validated() && shared.tls.under_way() >= UNSHOWN && incoming.may_retry() {
        count(&shared.core.stats.http3.retries);
        // It fails only where a retry was asked for before.
        let _ = incoming.retry();
        return;
    }
    count(&shared.core.stats.accepted);
    if overload::is_refusing(&shared.core.stats) {
        count(&shared.core.stats.overload.connections);
        return incoming.refuse();
    }
    let (Some(listener), false) = (listener(&shared.core.view(), address), shared.core.stopping.get()) else { return incoming.refuse() };
    let Some(open) = Open::new(shared) else {
        count(&shared.core.stats.refused);
        return incoming.refuse();
    };
    // It is taken here, so that those that come at once are counted before the next one is looked at.
    let Some(handshake) = Place::take(&shared.tls) else {
        let peer = incoming.remote_address();
        incoming.refuse();
        return tls::failed(&TlsFailure::Busy.into(), peer, address, &shared.core);
    };
    let shared = shared.clone();
    // A panic ends only this task, and `open` is dropped then, too.
    spawn_local(async move {
        connection(incoming, handshake, listener, address, &shared).await;
        drop(open);
    });
}

/// Serves a connection. Whoever is beyond a limit is refused at once, without the delay that TCP has for it: nothing is held meanwhile.
async fn connection(incoming: Incoming, handshake: Place, listener: Arc<Listener>, address: SocketAddr, shared: &Rc<Clients>) {
    let peer = incoming.remote_address();
    // As for TCP, in `accept`.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let (limits, core, at) = (&listener.settings.connections, &shared.core, (Protocol::Tcp, address));
    let Ok(_place) = core.admission.listener(at, limits.listener, &core.stats) else { return incoming.refuse() };
    let origin = match admits(peer, address, &listener.settings) {
        Ok(origin) => origin,
        Err(why) => {
            count(core.stats.reset(why));
            return incoming.refuse();
        }
    };
    let Ok(_client) = core.admission.client(at, peer.ip(), limits.client, &core.stats) else { return incoming.refuse() };
    let local = incoming.local_ip().filter(|_| address.ip().is_unspecified()).map_or(address, |ip| SocketAddr::new(ip, address.port()));
    let met = Box::pin(meet(incoming, &listener)).await;
    drop(handshake);
    drop(listener);
    match met {
        Ok((connection, secured)) => {
            count(&core.stats.tls.handshakes);
            http::serve3(connection, origin, (address, local), secured, &shared.tls.http).await;
        }
        Err(why) => tls::failed(&why, peer, address, core),
    }
}

/// Does the handshake, within the listener's time.
async fn meet(incoming: Incoming, listener: &Arc<Listener>) -> Result<(quinn::Connection, Secured), tls::Failed> {
    let patience = match &listener.front {
        Front::Tls(hosts) => hosts.patience(),
        _ => return Err(TlsFailure::Closed.into()),
    };
    let config = quic::server(Some(listener)).ok_or(TlsFailure::Unready)?;
    let connecting = incoming.accept_with(Arc::new(config)).map_err(failed)?;
    let connection = timeout(patience, connecting).await.map_err(|_| TlsFailure::Timeout)?.map_err(failed)?;
    let chosen = connection.handshake_data().and_then(|data| data.downcast::<quic::Chosen>().ok()).ok_or(TlsFailure::Protocol)?;
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    // Whether the session was resumed is not told, so a chain is always verified again.
    let client = tls::identify(chain.as_ref().map(|chain| chain.as_slice()), &chosen.tls, true)?;
    Ok((connection, Secured { server_name: chosen.server_name, client }))
}

fn failed(error: ConnectionError) -> tls::Failed {
    let why = match &error {
        ConnectionError::TransportError(error) => tls::failure(u64::from(error.code)),
        ConnectionError::ConnectionClosed(_) => TlsFailure::Alert,
        ConnectionError::TimedOut => TlsFailure::Timeout,
        _ => TlsFailure::Closed,
    };
    tls::Failed(why, Some(std::io::Error::other(error)))
}
