//! What is known of a client's connection.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

/// A client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The address that it has connected to.
    pub(crate) local: SocketAddr,
    /// The certificates that the client has shown, of which the first is its own; none: it has shown none.
    pub(crate) chain: Option<Arc<[CertificateDer<'static>]>>,
}

impl Connection {
    /// Whether it comes from this machine by the loopback. A proxy beside the gateway in a pod may connect from there for others, but to the pod's address.
    pub(crate) fn is_loopback(&self) -> bool {
        [self.peer, self.local].iter().all(|address| address.ip().to_canonical().is_loopback())
    }
}
