//! Sends one request: looks the host up, checks the addresses, connects to one of these very addresses, sends, and awaits the head. A connection serves one
//! request. Redirects are the guest's to follow, each as a request of its own.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::Work;
use super::body::{IncomingBody, MAX_BODY, Reader};
use super::egress::{Egress, Refusals};
use super::lookup::look_up;
use super::request::{Options, Request};
use super::response::Response;
use crate::bindings::discovery::wasi::http::types::{DnsErrorPayload, ErrorCode, Scheme};
use crate::bindings::discovery::wasi::sockets::network::ErrorCode as LookupError;

/// How long a connection and its TLS handshake may take, at most and by default.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a response's head, and each piece of its body, may take to come, unless the request says otherwise.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// The longest times for these that a request may ask for.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the whole exchange may take.
const EXCHANGE: Duration = Duration::from_secs(60);
/// How many addresses of a name are tried.
const ATTEMPTS: usize = 3;
/// The largest head of a response, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 100;

/// The host that a request is for.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    tls: bool,
    uri: Uri,
    authority: HeaderValue,
}

/// Reads the host from a request, before anything is sent.
pub(super) fn target(request: &Request) -> Result<Target, ErrorCode> {
    let authority = request.authority.as_ref().ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let tls = !matches!(request.scheme, Some(Scheme::Http));
    let host = authority.host().to_ascii_lowercase();
    let port = match (authority.port(), authority.port_u16()) {
        (Some(_), None) | (_, Some(0)) => return Err(ErrorCode::HttpRequestUriInvalid),
        (_, port) => port.unwrap_or(if tls { 443 } else { 80 }),
    };
    let uri = request.path.as_ref().map_or("/", |path| path.as_str()).parse().map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    if host.is_empty() { Err(ErrorCode::HttpRequestUriInvalid) } else { Ok(Target { host, port, tls, uri, authority }) }
}

/// Sends a request whose host is allowed by its name, and returns the response's head.
pub(super) async fn send(
    refusals: Refusals,
    egress: Arc<Egress>,
    request: Request,
    target: Target,
    options: Options,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ErrorCode> {
    let deadline = Instant::now() + EXCHANGE;
    let first_byte = options.first_byte.unwrap_or(FIRST_BYTE).min(LONGEST);
    let body = match request.body {
        None => Bytes::new(),
        Some(body) => {
            timeout(LONGEST, body).await.map_err(|_| ErrorCode::HttpResponseTimeout)?.map_err(|_| ErrorCode::HttpProtocolError)?
        }
    };
    let addresses = look_up(&target.host, target.port).await.map_err(unresolved)?;
    let prohibited = addresses.iter().find_map(|address| egress.prohibits(*address));
    let addresses: Vec<SocketAddr> = addresses.into_iter().filter(|address| egress.prohibits(*address).is_none()).collect();
    if let (true, Some(reason)) = (addresses.is_empty(), prohibited) {
        refusals.tell(format!("{}: {reason}", target.host));
        return Err(ErrorCode::DestinationIpProhibited);
    }
    let (mut sender, connection) = connect(&addresses, &target, options.connect.unwrap_or(CONNECT).min(CONNECT)).await?;
    let mut message = hyper::Request::new(Full::new(body));
    *message.method_mut() = request.method;
    *message.uri_mut() = target.uri;
    *message.headers_mut() = request.headers;
    message.headers_mut().insert(HOST, target.authority);
    message.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let answer = timeout_at(deadline.min(Instant::now() + first_byte), sender.send_request(message)).await;
    let answer = answer.map_err(|_| ErrorCode::HttpResponseTimeout)?.map_err(|error| {
        let cut = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        if cut { ErrorCode::ConnectionTerminated } else { ErrorCode::HttpProtocolError }
    })?;
    let (head, body) = answer.into_parts();
    let between_bytes = options.between_bytes.unwrap_or(FIRST_BYTE).min(LONGEST);
    let reader =
        Reader { body, _connection: connection, _permit: permit, between_bytes, deadline, left: MAX_BODY, piece: Bytes::new(), end: None };
    Ok(Response { status: head.status.as_u16(), headers: head.headers, body: Some(IncomingBody(Some(reader))) })
}

fn unresolved(error: LookupError) -> ErrorCode {
    match error {
        LookupError::Timeout => ErrorCode::DnsTimeout,
        _ => ErrorCode::DnsError(DnsErrorPayload { rcode: None, info_code: None }),
    }
}

async fn connect(
    addresses: &[SocketAddr],
    target: &Target,
    patience: Duration,
) -> Result<(http1::SendRequest<Full<Bytes>>, Work<()>), ErrorCode> {
    let mut failed = ErrorCode::DestinationUnavailable;
    for address in addresses.iter().take(ATTEMPTS) {
        let stream = match timeout(patience, TcpStream::connect(address)).await {
            Err(_) => {
                failed = ErrorCode::ConnectionTimeout;
                continue;
            }
            Ok(Err(error)) => {
                failed = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
                    std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => ErrorCode::DestinationIpUnroutable,
                    _ => ErrorCode::DestinationUnavailable,
                };
                continue;
            }
            Ok(Ok(stream)) => stream,
        };
        if !target.tls {
            return speak(stream).await;
        }
        let host = target.host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
        let handshake = TlsConnector::from(trust().await?).connect(name, stream);
        return match timeout(patience, handshake).await {
            Err(_) => Err(ErrorCode::ConnectionTimeout),
            Ok(Err(error)) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
                _ => ErrorCode::TlsProtocolError,
            }),
            Ok(Ok(stream)) => speak(stream).await,
        };
    }
    Err(failed)
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(http1::SendRequest<Full<Bytes>>, Work<()>), ErrorCode> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| ErrorCode::HttpProtocolError)?;
    let drive = Work::spawn(async move {
        // Its error is told as the response's, or the body's.
        let _ = connection.await;
    });
    Ok((sender, drive))
}

/// The system's certificate authorities, read once; `SSL_CERT_FILE` and `SSL_CERT_DIR` count.
async fn trust() -> Result<Arc<rustls::ClientConfig>, ErrorCode> {
    static TRUST: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let read = || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this system has no certificate authorities".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        Ok(Arc::new(config))
    };
    let trust = match TRUST.get() {
        Some(trust) => trust.clone(),
        // Reading takes some hundred files, which must not hold up the control runtime's thread.
        None => tokio::task::spawn_blocking(move || TRUST.get_or_init(read).clone()).await.unwrap_or_else(|e| Err(e.to_string())),
    };
    trust.map_err(|error| ErrorCode::InternalError(Some(error)))
}
