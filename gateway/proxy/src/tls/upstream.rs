//! TLS towards endpoints: a worker keeps a configuration for each endpoint, with the sessions that endpoint gave it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use rustls::ClientConfig;
use sluicegate_model::snapshot::{EndpointTls, Snapshot};
use sluicegate_model::tls::UpstreamTls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stream::Stream;
use crate::tcp::Speak;

/// What is offered by ALPN. An endpoint that ignores it speaks HTTP/1.1, or HTTP/2 if its service port says so.
fn alpn(speak: Speak) -> &'static [&'static [u8]] {
    match speak {
        Speak::Http => &[b"http/1.1"],
        Speak::Http2 => &[b"h2"],
        Speak::Tcp | Speak::Through | Speak::Ended => &[],
    }
}

/// An endpoint, the rules it is spoken to by, and what is spoken.
type Key = (SocketAddr, u64, Speak);

/// A worker's configurations, which hold sessions to resume.
#[derive(Default)]
pub(crate) struct Sessions(RefCell<HashMap<Key, Arc<ClientConfig>, FxBuildHasher>>);

impl Sessions {
    fn config(&self, tls: &UpstreamTls, endpoint: SocketAddr, speak: Speak) -> Arc<ClientConfig> {
        let mut known = self.0.borrow_mut();
        known.entry((endpoint, tls.id, speak)).or_insert_with(|| tls.config(alpn(speak))).clone()
    }

    /// Forgets endpoints that are gone, and rules that are.
    pub(crate) fn retain(&self, snapshot: &Snapshot) {
        let mut known = self.0.borrow_mut();
        if known.is_empty() {
            return;
        }
        let services = snapshot.services.iter().filter(|s| matches!(s.tls, EndpointTls::On(_)));
        let live = services.flat_map(|s| [(s, &s.internal), (s, &s.external)]);
        let live: HashSet<(SocketAddr, u64), FxBuildHasher> =
            live.flat_map(|(s, pool)| pool.endpoints.iter().map(|e| (e.address, s.tls.id()))).collect();
        known.retain(|(address, id, _), _| live.contains(&(*address, *id)));
    }
}

/// Shakes hands with an endpoint. The caller sets the deadline.
pub(crate) async fn originate(
    tls: &UpstreamTls,
    stream: TcpStream,
    endpoint: SocketAddr,
    speak: Speak,
    sessions: &Sessions,
) -> io::Result<Stream> {
    let config = sessions.config(tls, endpoint, speak);
    let stream = TlsConnector::from(config).connect(tls.name(endpoint.ip()), stream).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}
