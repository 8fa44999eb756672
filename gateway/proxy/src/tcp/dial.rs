//! Connecting to an endpoint.

use std::time::Instant;

use sluicegate_model::health::Outcome;
use sluicegate_model::snapshot::{EndpointTls, ServicePort};
use sluicegate_model::stats::count;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::decide::Picked;
use crate::listener::keep_alive;
use crate::stream::Stream;
use crate::tls;
use crate::worker::Shared;

/// What is to be spoken with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Speak {
    /// HTTP exchanges, one after the other,
    Http,
    /// or as streams.
    Http2,
    /// Bytes of an unknown protocol, which may be TLS.
    Tcp,
    /// The client's own TLS: none is put around it.
    Through,
    /// What TLS that was ended here had protected.
    Ended,
}

/// One connection attempt, within the service's connect time-out, which covers the TLS handshake where there is one. `hello`: the first bytes, a
/// PROXY header, before any TLS.
pub(crate) async fn dial(service: &ServicePort, to: &Picked, hello: Option<&[u8]>, speak: Speak, shared: &Shared) -> Option<Stream> {
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
        let mut stream = TcpStream::connect(to.address).await?;
        // Both fail only on a socket that is gone already.
        let _ = stream.set_nodelay(true);
        let _ = keep_alive(&stream, &service.settings.keepalive);
        if let Some(hello) = hello {
            stream.write_all(hello).await?;
        }
        let Some(tls) = tls else { return Ok(Stream::Tcp(stream)) };
        let shaken = Box::pin(tls::originate(tls, stream, to.address, speak, &shared.sessions)).await;
        shaken.inspect_err(|error: &std::io::Error| {
            count(&service.stats.tls_failures);
            tracing::debug!(%error, service = %service.id, endpoint = %to.address, "no TLS handshake with an endpoint");
        })
    };
    let stream = tokio::time::timeout(service.settings.timeouts.connect, connecting).await.ok().and_then(Result::ok);
    let outcome = if stream.is_some() { Outcome::Connected } else { Outcome::Unreachable };
    shared.decider.borrow_mut().observe(&service.settings, &service.stats, to, outcome, begun.elapsed());
    match &stream {
        Some(_) => service.stats.connect_time.observe(begun.elapsed()),
        None => count(&service.stats.connect_failures),
    }
    stream
}
