//! A fresh connection to a TLS listener: its hello is read, the host chosen by its server name, and TLS ended here or passed through.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rustls::server::{Acceptor, ServerConfig, ServerConnection};
use rustls::{AlertDescription, CertificateError, Error, HandshakeKind};
use rustls_pki_types::CertificateDer;
use sluicegate_model::snapshot::{Front, TlsMode};
use sluicegate_model::stats::{Reset, TlsFailure, count};
use sluicegate_model::tls::{Demand, HANDSHAKE_TIMEOUT, ServerTls, acme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::{StartHandshake, TlsStream};

use super::hello::{BadHello, Hello, HelloReader};
use super::identity;
use crate::alert;
use crate::core::{Core, View};
use crate::endpoint::refuse;
use crate::origin::Secured;

/// How many bytes are read at a time. Most hellos are smaller.
const CHUNK: usize = 2 << 10;

/// What has become of a connection.
pub(super) enum Met {
    /// It is passed through: with what was read of it, and the view in which the host was looked up.
    Passed { stream: TcpStream, raw: Vec<u8>, hello: Hello, view: Rc<View> },
    /// A CA has asked for the challenge of an order that runs, and was answered.
    Validated,
    /// TLS is ended here.
    Ended { stream: Box<TlsStream<TcpStream>>, hello: Hello, secured: Secured, http: bool },
}

/// Why the handshake failed, with the library's error for the log.
pub(crate) struct Failed(pub(crate) TlsFailure, pub(crate) Option<io::Error>);

impl From<TlsFailure> for Failed {
    fn from(failure: TlsFailure) -> Self {
        Self(failure, None)
    }
}

/// Reads the hello and does the handshake, within the listener's time, which counts from now.
pub(super) async fn meet(mut stream: TcpStream, address: std::net::SocketAddr, core: &Core) -> Result<Met, Failed> {
    let begun = Instant::now();
    let patience = match core.view().listener(address).map(|l| &l.front) {
        // For which of its hosts the connection is, is not known yet.
        Some(Front::Tls(hosts)) => hosts.patience(),
        _ => HANDSHAKE_TIMEOUT,
    };
    let mut reader = HelloReader::default();
    let read = timeout_at(begun + patience, read(&mut stream, &mut reader)).await.map_err(|_| TlsFailure::Timeout)??;
    let hello = match read {
        Ok(hello) => hello,
        Err(BadHello(told)) => {
            if let Some(told) = told {
                alert::refuse(&mut stream, told).await;
            }
            return Err(TlsFailure::Hello.into());
        }
    };
    // Each handshake takes the newest view, so that a renewed certificate is served from now on.
    let view = core.view();
    let Some(Front::Tls(hosts)) = view.listener(address).map(|l| &l.front) else { return Err(TlsFailure::Closed.into()) };
    let name = hello.server_name.as_deref().unwrap_or("");
    let Some(host) = hosts.find(name) else {
        // Where all TLS is passed through, nobody here speaks it, and the connection leads nowhere, as one at L4 may.
        let speaks = hosts.iter().any(|host| host.server().is_some());
        drop(view);
        if speaks {
            alert::refuse(&mut stream, alert::unserved(name)).await;
        } else {
            refuse(&stream, Reset::NoRoute, core);
        }
        return Err(TlsFailure::Name.into());
    };
    let (tls, http) = match &host.mode {
        TlsMode::Passthrough => return Ok(Met::Passed { stream, raw: reader.raw, hello, view: view.clone() }),
        TlsMode::Tcp(tls) => (tls.clone(), false),
        TlsMode::Http(tls) => (tls.clone(), true),
    };
    let deadline = begun + tls.settings.handshake_timeout;
    drop(view);
    let lacks = tls.lacks(name);
    let (config, validates) = match challenge(&hello, core) {
        Some(config) => (config, true),
        None => match (&tls.config, lacks) {
            (Some(config), None) => (config.clone(), false),
            (_, lacks) => {
                alert::refuse(&mut stream, lacks.unwrap_or(AlertDescription::InternalError)).await;
                let unknown = lacks == Some(AlertDescription::UnrecognisedName);
                return Err(if unknown { TlsFailure::Name } else { TlsFailure::Unready }.into());
            }
        },
    };
    let shaken = timeout_at(deadline, shake(stream, &reader.rejoined(), config)).await;
    let mut stream = shaken.map_err(|_| TlsFailure::Timeout)??;
    if validates {
        // RFC 8737 §3: whoever asks closes the connection once the handshake is done.
        let _ = timeout_at(deadline, stream.shutdown()).await;
        return Ok(Met::Validated);
    }
    let connection = stream.get_ref().1;
    count(&core.stats.tls.handshakes);
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    if resumed {
        count(&core.stats.tls.resumed);
    }
    let client = identify(connection.peer_certificates(), &tls, resumed)?;
    let secured = Secured { server_name: hello.server_name.clone(), client };
    Ok(Met::Ended { stream: Box::new(stream), hello, secured, http })
}

async fn read(stream: &mut TcpStream, reader: &mut HelloReader) -> Result<Result<Hello, BadHello>, Failed> {
    loop {
        reader.raw.reserve(CHUNK);
        match stream.read_buf(&mut reader.raw).await {
            Ok(0) => return Err(TlsFailure::Closed.into()),
            Ok(_) => {}
            Err(error) => return Err(Failed(TlsFailure::Closed, Some(error))),
        }
        if let Some(told) = reader.look().transpose() {
            return Ok(told);
        }
    }
}

/// What answers a CA that validates a name by TLS-ALPN-01 (RFC 8737), if this is what the client asks for and an order of the name runs.
fn challenge(hello: &Hello, core: &Core) -> Option<Arc<ServerConfig>> {
    let asked = core.acme.is_open() && matches!(&*hello.alpn, [only] if only == acme::ALPN);
    core.acme.tls(hello.server_name.as_deref().filter(|_| asked)?)
}

/// Gives rustls what was read, and lets it do the rest.
async fn shake(mut stream: TcpStream, mut raw: &[u8], config: Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, Failed> {
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        // The hello is whole, so rustls has one before this ends, too.
        if raw.is_empty() {
            return Err(TlsFailure::Hello.into());
        }
        if let Err(error) = acceptor.read_tls(&mut raw) {
            // It is larger than rustls takes it, by some bytes.
            alert::refuse(&mut stream, AlertDescription::DecodeError).await;
            return Err(Failed(TlsFailure::Hello, Some(error)));
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, mut refusal)) => {
                let mut bytes = Vec::new();
                if refusal.write_all(&mut bytes).is_ok() {
                    alert::tell(&mut stream, &bytes).await;
                }
                return Err(failed(io::Error::other(error)));
            }
        }
    };
    // What came behind the hello, as early data does.
    let mut ahead = Ok(());
    let feed = |connection: &mut ServerConnection| {
        while !raw.is_empty() && ahead.is_ok() {
            ahead = connection.read_tls(&mut raw).map(drop);
        }
    };
    let shaking = StartHandshake::from_parts(accepted, stream).into_stream_with(config, feed);
    ahead.map_err(failed)?;
    shaking.await.map_err(failed)
}

fn failed(error: io::Error) -> Failed {
    let why = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => TlsFailure::ClientCertificate,
        Some(Error::AlertReceived(_)) => TlsFailure::Alert,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => TlsFailure::Incompatible,
        Some(_) => TlsFailure::Protocol,
        None => TlsFailure::Closed,
    };
    Failed(why, Some(error))
}

/// Why a handshake over QUIC failed, by the code of its error: 0x100 and an alert (RFC 9001 §4.8), or another one.
pub(crate) fn failure(code: u64) -> TlsFailure {
    match code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok()).map(AlertDescription::from) {
        Some(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => TlsFailure::ClientCertificate,
        Some(AlertDescription::UnrecognisedName | AlertDescription::MissingExtension) => TlsFailure::Name,
        Some(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion | AlertDescription::NoApplicationProtocol) => {
            TlsFailure::Incompatible
        }
        Some(AlertDescription::DecodeError) => TlsFailure::Hello,
        _ => TlsFailure::Protocol,
    }
}

/// Who the client is. A ticket carries a chain that was verified when it was given out. It is verified again, as the client's certificate may have expired, or its
/// authority may have been removed.
pub(crate) fn identify(chain: Option<&[CertificateDer<'_>]>, tls: &ServerTls, resumed: bool) -> Result<Option<http::HeaderValue>, Failed> {
    let (Some(validation), Some(chain)) = (&tls.settings.client, chain) else { return Ok(None) };
    let lenient = validation.demand == Demand::Fallback;
    if (resumed || lenient) && !tls.vouches(chain) {
        let error = io::Error::other(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        return if lenient { Ok(None) } else { Err(Failed(TlsFailure::ClientCertificate, Some(error))) };
    }
    Ok(chain.first().and_then(|der| identity::describe(der)))
}
