//! One probe of one endpoint. Each probe has a connection of its own, as it also asks whether the endpoint accepts one. The caller sets the deadline.

mod grpc;
mod http;
mod tcp;

use std::future::Future;
use std::net::SocketAddr;

use sluicegate_model::health::Probed;
use sluicegate_model::settings::{Probe, ProbeVersion, ProxyVersion};
use sluicegate_model::tls::UpstreamTls;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// How many bytes of an answer are read to find what is expected in it.
const MOST_READ: usize = 16 << 10;
/// The largest header list of HTTP/2 that is an answer to a probe, in bytes.
const MOST_HEADERS: u32 = 16 << 10;

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Probed,
    /// What went wrong, for the operator.
    pub(super) why: String,
}

fn unreachable(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure { kind: Probed::Unreachable, why: format!("{what}: {error}") }
}

fn wrong(why: String) -> Failure {
    Failure { kind: Probed::Wrong, why }
}

/// Probes an endpoint, by the rules of TLS of its exchanges. If those begin with a PROXY header, so does this, as an endpoint that expects one answers nobody
/// without. The header says that the gateway speaks for itself.
pub(super) async fn probe(
    address: SocketAddr,
    proxy: Option<ProxyVersion>,
    tls: Option<&UpstreamTls>,
    probe: &Probe,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await.map_err(|e| unreachable("connect", e))?;
    // It fails only if the socket is gone already, which the next write tells.
    let _ = stream.set_nodelay(true);
    if let Some(version) = proxy {
        stream.write_all(version.local()).await.map_err(|e| unreachable("send", e))?;
    }
    let Some(tls) = tls else { return ask(stream, "http", address, probe).await };
    let alpn: &[&[u8]] = match probe {
        Probe::Tcp { .. } => &[],
        Probe::Http { version: ProbeVersion::Http1, .. } => &[b"http/1.1"],
        Probe::Http { version: ProbeVersion::Http2, .. } | Probe::Grpc { .. } => &[b"h2"],
    };
    // Each probe has a handshake of its own, as it also asks whether that succeeds.
    let shaken = TlsConnector::from(tls.config(alpn)).connect(tls.name(address.ip()), stream).await;
    ask(shaken.map_err(|e| unreachable("TLS", e))?, "https", address, probe).await
}

/// Asks over a connection. `scheme`: HTTP/2 names it in each request.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    scheme: &str,
    address: SocketAddr,
    probe: &Probe,
) -> Result<(), Failure> {
    match probe {
        Probe::Tcp { send, receive } => tcp::probe(stream, send, receive).await,
        Probe::Http { version, method, path, host, statuses, receive } => {
            let host = &host.clone().unwrap_or_else(|| address.to_string());
            http::probe(stream, &http::Question { version: *version, scheme, method, path, host, statuses, receive }).await
        }
        Probe::Grpc { service, host } => {
            let host = host.clone().unwrap_or_else(|| address.to_string());
            grpc::probe(stream, scheme, service, &host).await
        }
    }
}

/// Whether `wanted` is among `bytes`.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The task that drives a connection, for as long as its probe lasts.
struct Driver(JoinHandle<()>);

impl Driver {
    fn start<F: Future<Output: Send> + Send + 'static>(connection: F) -> Self {
        Self(tokio::spawn(async { drop(connection.await) }))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod announced;
#[cfg(test)]
mod tests;
