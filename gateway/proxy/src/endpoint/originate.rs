//! TLS towards endpoints. A worker keeps a configuration for each endpoint, with the sessions that the endpoint has given it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use rustls::ClientConfig;
use sluicegate_model::tls::UpstreamTls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Speak;
use crate::core::delta::Mets;
use crate::stream::Stream;

/// The protocols that are offered by ALPN. An endpoint that ignores it speaks HTTP/1.1, or HTTP/2 if its service port says so.
fn alpn(speak: Speak) -> &'static [&'static [u8]] {
    match speak {
        Speak::Http => &[b"http/1.1"],
        Speak::Http2 => &[b"h2"],
        Speak::Tcp | Speak::Through | Speak::Ended => &[],
    }
}

/// An endpoint, the rules of TLS, and what is spoken.
type Key = (SocketAddr, u64, Speak);

/// A worker's configurations, which hold sessions to resume.
#[derive(Default)]
pub(crate) struct Sessions(RefCell<HashMap<Key, Arc<ClientConfig>, FxBuildHasher>>);

impl Sessions {
    fn config(&self, tls: &UpstreamTls, endpoint: SocketAddr, speak: Speak) -> Arc<ClientConfig> {
        let mut known = self.0.borrow_mut();
        known.entry((endpoint, tls.id, speak)).or_insert_with(|| tls.config(alpn(speak))).clone()
    }

    /// Forgets endpoints that are gone, each with the rules of TLS by which it was met.
    pub(crate) fn forget(&self, gone: &Mets) {
        let mut known = self.0.borrow_mut();
        if !gone.is_empty() && !known.is_empty() {
            known.retain(|(address, id, _), _| !gone.contains(&(*address, *id)));
        }
    }
}

/// Does the handshake with an endpoint. The caller sets the deadline.
pub(super) async fn originate(
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
