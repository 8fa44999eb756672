//! Connecting to an endpoint.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use sluicegate_model::health::Outcome;
use sluicegate_model::snapshot::{EndpointTls, ServicePort};
use sluicegate_model::stats::count;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::originate::originate;
use super::{Endpoints, source};
use crate::core::decider::Picked;
use crate::listener::keep_alive;
use crate::stream::Stream;

/// What is to be spoken with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Speak {
    /// HTTP exchanges, one after another.
    Http,
    /// HTTP exchanges, as streams.
    Http2,
    /// Bytes of an unknown protocol, which may be TLS.
    Tcp,
    /// The client's own TLS: none is put around it.
    Through,
    /// What TLS that was ended here had protected.
    Ended,
}

impl Speak {
    /// What is spoken with a service of HTTP.
    pub(crate) fn http(service: &ServicePort) -> Self {
        if service.protocol.is_http2() { Self::Http2 } else { Self::Http }
    }
}

/// How long an endpoint is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Briefly, as another endpoint can be tried: an address that swallows packets is not worth the whole time-out.
    Brief,
    /// For the whole time-out, as it is the last endpoint.
    Whole,
}

impl Patience {
    /// `has_others`: another endpoint can be tried after this one.
    pub(crate) fn new(has_others: bool) -> Self {
        if has_others { Self::Brief } else { Self::Whole }
    }
}

/// What a connection begins with.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'h> {
    /// The first bytes, which come before any TLS: a PROXY header.
    pub(crate) hello: Option<&'h [u8]>,
    pub(crate) speak: Speak,
    pub(crate) patience: Patience,
    /// The client's address, if the endpoint is to see the client as its peer.
    pub(crate) from: Option<IpAddr>,
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(from) = source::fitting(from, to) else { return TcpStream::connect(to).await };
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    source::claim(&socket, from)?;
    socket.connect(to).await
}

/// Tries to connect once, within the service's connect time-out, which covers the TLS handshake if there is one.
pub(crate) async fn dial(service: &ServicePort, to: &Picked, opening: Opening<'_>, endpoints: &Endpoints) -> Option<Stream> {
    let (Opening { hello, speak, patience, from }, timeouts) = (opening, &service.settings.timeouts);
    let tls = match (&service.tls, speak) {
        (EndpointTls::Off, _) | (_, Speak::Through) | (EndpointTls::Untold, Speak::Tcp) => None,
        (EndpointTls::On(tls), _) => Some(tls),
        (EndpointTls::Untold | EndpointTls::Broken, _) => {
            count(&service.stats.tls_failures);
            return None;
        }
    };
    let begun = Instant::now();
    let connecting = async {
        let mut stream = match patience {
            Patience::Brief => tokio::time::timeout(timeouts.connect_elsewhere, connect(to.address, from)).await??,
            Patience::Whole => connect(to.address, from).await?,
        };
        // Both fail only on a socket that is gone already.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(&stream, &service.settings.keepalive);
        if let Some(hello) = hello {
            stream.write_all(hello).await?;
        }
        let Some(tls) = tls else { return Ok(Stream::Tcp(stream)) };
        let shaken = Box::pin(originate(tls, stream, to.address, speak, &endpoints.sessions)).await;
        shaken.inspect_err(|error: &std::io::Error| {
            count(&service.stats.tls_failures);
            tracing::debug!(%error, service = %service.id, endpoint = %to.address, "no TLS handshake with an endpoint");
        })
    };
    let stream = tokio::time::timeout(timeouts.connect, connecting).await.ok().and_then(Result::ok);
    let outcome = if stream.is_some() { Outcome::Connected } else { Outcome::Unreachable };
    endpoints.core.decider.borrow_mut().observe(&service.settings, &service.stats, to, outcome, begun.elapsed());
    match &stream {
        Some(_) => service.stats.connect_time.observe(begun.elapsed()),
        None => count(&service.stats.connect_failures),
    }
    stream
}
