//! Whose connection it is, and whether it may come in: the PROXY header, where one is taken, then the source ranges. And what TLS told of it.

use std::net::SocketAddr;

use ::http::{HeaderName, HeaderValue};
use sluicegate_model::settings::{ClientSettings, ProxyVersion, contains};
use sluicegate_model::stats::Reset;
use tokio::net::TcpStream;

use crate::proxy_protocol::{self, Ends, Header};

/// Who a client is by the certificate that it has shown, for endpoints. Nobody but the gateway says it.
pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// What TLS told of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// The server name it asked for.
    pub(crate) server_name: Option<String>,
    /// The value of `X-Forwarded-Client-Cert`, if it showed a certificate that was verified.
    pub(crate) client: Option<HeaderValue>,
}

/// A client's connection as all that decides by addresses sees it.
#[derive(Clone)]
pub(crate) struct Origin {
    /// The client: the socket's peer, or for whom it speaks, if it is believed.
    pub(crate) client: SocketAddr,
    /// The header it came with.
    header: Option<Box<Header>>,
}

impl Origin {
    pub(crate) fn of(peer: SocketAddr) -> Self {
        Self { client: peer, header: None }
    }

    /// What an endpoint is told that wants to know, in the first bytes of a connection that no other client may use then. `local`: the address
    /// that the client reached, as far as the socket knows.
    pub(crate) fn announce(&self, version: ProxyVersion, local: SocketAddr) -> Vec<u8> {
        proxy_protocol::write(version, self.client, local, self.header.as_deref())
    }
}

/// Lets a connection in, or says why not. Only where a PROXY header is taken does it wait, for at most ten seconds.
///
/// The header is taken from trusted peers only. From others it would be a claim that anybody can make: without `optional` they are refused, as
/// the listener is then meant for the proxies in front alone; with it they are served, and what they send is not looked at.
pub(crate) async fn admit(stream: &TcpStream, peer: SocketAddr, listener: SocketAddr, settings: &ClientSettings) -> Result<Origin, Reset> {
    let mut origin = Origin::of(peer);
    if let Some(wanted) = &settings.proxy_protocol {
        if contains(&wanted.trusted, peer.ip()) {
            // Boxed: few connections wait here, and the others' tasks need not be larger for it.
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
    // This host reaches an address of its own from that very address, and kube-proxy lets that in too.
    if settings.sources.is_empty() || contains(&settings.sources, origin.client.ip()) || origin.client.ip() == listener.ip() {
        Ok(origin)
    } else {
        Err(Reset::SourceRange)
    }
}
