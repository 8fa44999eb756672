//! Clients' connections: accepted, limited in number and time, and answered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::gate::Gate;
use crate::patient::Patient;

/// How many connections are answered at a time. Others wait until one ends.
const AT_ONCE: usize = 1_024;
/// How long a request's head may take, and how long a connection may be silent between two requests.
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its answer.
const STALL: Duration = Duration::from_secs(60);
/// How large a request's head may be, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// How long is waited after an accept that failed, as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers what connects.
pub(crate) async fn accept(listener: TcpListener, router: Router, gate: Arc<Gate>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // It has gone already.
        let Ok(local) = stream.local_addr() else { continue };
        let (router, gate) = (router.clone(), gate.clone());
        tokio::spawn(async move {
            let _place = place;
            begin(stream, Connection { peer, local, chain: None }, router, &gate).await;
        });
    }
}

/// Speaks TLS, if it is spoken here, and answers.
async fn begin(stream: TcpStream, mut connection: Connection, router: Router, gate: &Gate) {
    // Events are sent as they come.
    let _ = stream.set_nodelay(true);
    let Some(tls) = gate.tls() else { return answer(stream, connection, router).await };
    let Some(config) = tls.config.clone() else { return };
    match tokio::time::timeout(tls.settings.handshake_timeout, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            connection.chain = session.peer_certificates().map(|chain| chain.iter().cloned().map(CertificateDer::into_owned).collect());
            answer(stream, connection, router).await;
        }
        Ok(Err(error)) => {
            let refused = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            if matches!(refused, Some(rustls::Error::InvalidCertificate(_))) {
                gate.refused_certificate(&connection);
            }
        }
        // It has had its time.
        Err(_) => {}
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connection: Connection, router: Router) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        TowerToHyperService::new(router.clone()).call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    // What is wrong with a connection is its client's concern.
    let _ = http.serve_connection(TokioIo::new(Patient::new(stream, STALL)), service).await;
}
