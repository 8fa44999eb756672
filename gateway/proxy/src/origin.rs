//! Whose connection it is, and whether it may come in: first by the PROXY header, where one is taken, then by the source ranges. And what TLS told of the
//! client.

use std::net::SocketAddr;

use ::http::{HeaderName, HeaderValue};
use sluicegate_model::settings::{ClientSettings, ProxyVersion, contains};
use sluicegate_model::stats::Reset;
use tokio::net::TcpStream;

use crate::proxy_protocol::{self, Ends, Header};

/// Tells endpoints who a client is by the certificate that it has shown. Only the gateway sets it.
pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// What TLS told of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// The server name that the client asked for.
    pub(crate) server_name: Option<String>,
    /// The value of `X-Forwarded-Client-Cert`, if the client showed a certificate that was verified.
    pub(crate) client: Option<HeaderValue>,
}

/// A client's connection, as everything sees it that decides by addresses.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The client: the socket's peer; or the client for whom the peer speaks, if it is believed.
    pub(crate) client: SocketAddr,
    /// The PROXY header that the connection came with.
    header: Option<Box<Header>>,
}

impl Origin {
    pub(crate) fn of(peer: SocketAddr) -> Self {
        Self { client: peer, header: None }
    }

    /// The PROXY header for an endpoint: the first bytes of a connection that no other client may use then. `local`: the address that the client reached, as far
    /// as the socket knows.
    pub(crate) fn announce(&self, version: ProxyVersion, local: SocketAddr) -> Vec<u8> {
        proxy_protocol::write(version, self.client, local, self.header.as_deref())
    }
}

/// Lets a connection in, or says why not. It waits only where a PROXY header is taken, and for at most ten seconds.
///
/// The header is taken only from trusted peers, as anybody could claim anything in it. Without `optional` other peers are refused, as the listener is then
/// meant only for the proxies in front; with it they are served, and their bytes are not looked at.
pub(crate) async fn admit(stream: &TcpStream, peer: SocketAddr, listener: SocketAddr, settings: &ClientSettings) -> Result<Origin, Reset> {
    let mut origin = Origin::of(peer);
    if let Some(wanted) = &settings.proxy_protocol {
        if contains(&wanted.trusted, peer.ip()) {
            // This is boxed, as few connections wait here, and the others' tasks need not be larger for it.
            match Box::pin(proxy_protocol::receive(stream)).await {
                Ok(Some(header)) => {
                    if let Ends::Inet { source, .. } = header.ends {
                        origin.client = source;
                    }
                    origin.header = Some(Box::new(header));
                }
                Ok(None) if wanted.optional => {}
                Ok(None) => {
                    tracing::debug!(%peer, %listener, "a PROXY header is missing");
                    return Err(Reset::ProxyHeader);
                }
                Err(error) => {
                    tracing::debug!(%error, %peer, %listener, "no PROXY header");
                    return Err(Reset::ProxyHeader);
                }
            }
        } else if !wanted.optional {
            return Err(Reset::Untrusted);
        }
    }
    from_source(origin, listener, settings)
}

/// Lets a connection of QUIC in, or says why not. There is no PROXY header for it. Where one is asked of everybody, the listener is meant for the proxies in
/// front, and nobody else is let in.
pub(crate) fn admits(peer: SocketAddr, listener: SocketAddr, settings: &ClientSettings) -> Result<Origin, Reset> {
    if settings.proxy_protocol.as_ref().is_some_and(|wanted| !wanted.optional) {
        return Err(Reset::ProxyHeader);
    }
    from_source(Origin::of(peer), listener, settings)
}

fn from_source(origin: Origin, listener: SocketAddr, settings: &ClientSettings) -> Result<Origin, Reset> {
    // This host reaches its own addresses from these very addresses. kube-proxy lets that in, too.
    if settings.sources.is_empty() || contains(&settings.sources, origin.client.ip()) || origin.client.ip() == listener.ip() {
        Ok(origin)
    } else {
        Err(Reset::SourceRange)
    }
}
