//! A client, as everything sees it that decides and forwards.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::rc::Rc;

use http::HeaderValue;
use sluicegate_decide::way;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::unix::seconds;

use super::Exchanges;
use crate::http::rules::forwarding::Forwarding;
use crate::http::upstream::Upstreams;
use crate::origin::{Origin, Secured};

/// The client, and what is said of it in every request.
#[derive(Clone)]
pub(in crate::http) struct Peer {
    /// The address of who connected; or of the client that a trusted proxy names.
    pub(in crate::http) address: SocketAddr,
    /// The address of who connected, as a field value. It is made once for the connection.
    pub(in crate::http) value: HeaderValue,
    /// The address that the client connected to.
    pub(in crate::http) listener: SocketAddr,
    /// The port of that address, as a field value. It is made once for the connection.
    pub(in crate::http) port: HeaderValue,
    /// The scheme that a trusted proxy names.
    pub(in crate::http) claimed_scheme: Option<&'static str>,
    /// What TLS told of the client; none without TLS.
    pub(in crate::http) tls: Option<Rc<Secured>>,
    /// `Alt-Svc` of responses, where the listener serves HTTP/3 as well, and the client came by another version.
    pub(in crate::http) alternative: Option<HeaderValue>,
    origin: Origin,
    /// The address that the client connected to as the socket has it, which may be one of many that the listener has.
    local: SocketAddr,
    /// Connections to endpoints that were told of this client.
    own: Rc<Upstreams>,
    /// Its forwarding headers, see [`Forwarding::written`].
    forwarded: OnceCell<Box<[u8]>>,
}

impl Peer {
    /// `local`: the address that the client reached, as far as the socket knows.
    pub(in crate::http) fn new(origin: Origin, listener: SocketAddr, local: SocketAddr) -> Option<Self> {
        let address = origin.client;
        let value = HeaderValue::from_str(&address.ip().to_canonical().to_string()).ok()?;
        let port = HeaderValue::from(listener.port());
        let (own, forwarded) = (Rc::default(), OnceCell::new());
        Some(Self { address, value, listener, port, claimed_scheme: None, tls: None, alternative: None, origin, local, own, forwarded })
    }

    /// The client, as far as it bears on the way of its requests.
    pub(in crate::http) fn asks(&self) -> way::Client<'_> {
        let server_name = self.tls.as_ref().map(|tls| tls.server_name.as_deref().unwrap_or(""));
        way::Client { address: self.address.ip(), scheme: self.scheme(), server_name, clock: seconds }
    }

    /// What the next hop is told of the client. `loops`: see [`Forwarding`].
    pub(in crate::http) fn forwarding(&self, loops: bool) -> Forwarding<'_> {
        Forwarding { client: &self.value, scheme: self.scheme(), port: &self.port, loops, written: &self.forwarded }
    }

    /// The scheme that the client used.
    pub(in crate::http) fn scheme(&self) -> &'static str {
        self.claimed_scheme.unwrap_or(if self.tls.is_some() { "https" } else { "http" })
    }

    /// The first bytes of a connection to a service's endpoints, if they are told of the client.
    pub(in crate::http) fn hello(&self, service: &ServicePort) -> Option<Vec<u8>> {
        service.settings.proxy_protocol.map(|version| self.origin.announce(version, self.local))
    }

    /// Where idle connections to a service's endpoints are. Connections that tell endpoints of a client serve no other client.
    pub(in crate::http) fn upstreams<'a>(&'a self, service: &ServicePort, shared: &'a Exchanges) -> &'a Rc<Upstreams> {
        if service.settings.proxy_protocol.is_some() { &self.own } else { &shared.upstreams }
    }
}
