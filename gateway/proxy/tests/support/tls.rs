//! TLS peers of the tests: rustls as an independent client and server, with certificates of rcgen.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use sluicegate_model::snapshot::{Front, Target, TlsHost, TlsMode};
use sluicegate_model::stats::{ProxyStats, TlsFailure};
use sluicegate_model::tls::{Authorities, Certificate, ServerSettings, ServerTls, TicketSecrets, provider};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Seen, message};

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    pub der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pub der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self { pem: made.pem(), der: made.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// Issues a certificate for names. One with a colon is a URI; the first is the common name, too.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.subject_alt_names = names
            .iter()
            .map(|n| if n.contains(':') { SanType::URI((*n).try_into().unwrap()) } else { SanType::DnsName((*n).try_into().unwrap()) })
            .collect();
        let key = KeyPair::generate().unwrap();
        Issued { der: params.signed_by(&key, &self.issuer).unwrap().der().clone(), key: key.serialize_der() }
    }

    pub fn authorities(&self) -> Authorities {
        Authorities::from_pem(self.pem.as_bytes()).unwrap()
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    /// A client that trusts only this authority.
    pub fn client(&self) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, None)
    }

    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion], shows: Option<&Issued>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider().clone()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        match shows {
            None => builder.with_no_client_auth(),
            Some(issued) => builder.with_client_auth_cert(vec![issued.der.clone()], issued.key()).unwrap(),
        }
    }

    /// A server. `clients`: the authority whose certificates it asks for.
    pub fn server(&self, names: &[&str], clients: Option<&Self>) -> ServerConfig {
        let issued = self.issue(names);
        let builder = ServerConfig::builder_with_provider(provider().clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots().into(), provider().clone()).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        builder.with_single_cert(vec![issued.der.clone()], issued.key()).unwrap()
    }
}

impl Issued {
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// The authority's certificate, as the gateway has it.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::new(Certificate::from_der("default/test", vec![self.der.clone()], self.key()).unwrap())
    }
}

pub fn settings(certificates: &[&Issued]) -> ServerSettings {
    let alpn = vec!["http/1.1".to_owned()];
    ServerSettings { certificates: certificates.iter().map(|c| c.certificate()).collect(), alpn, ..ServerSettings::default() }
}

pub fn ended(settings: ServerSettings) -> Arc<ServerTls> {
    static SECRETS: LazyLock<Arc<TicketSecrets>> = LazyLock::new(|| Arc::new(TicketSecrets::fresh().unwrap()));
    // Sessions go from one to another where both have the same names and rules, as at one host of one address.
    let tickets = SECRETS.tickets(([127, 0, 0, 1], 443).into(), None, &settings);
    Arc::new(ServerTls::build(Arc::new(settings), tickets).unwrap())
}

pub fn https(hostname: Option<&str>, tls: &Arc<ServerTls>, target: Target) -> TlsHost {
    TlsHost { hostname: hostname.map(str::to_owned), mode: TlsMode::Http(tls.clone()), target }
}

/// A listener with one host.
pub fn front(tls: &Arc<ServerTls>, target: Target) -> Front {
    Front::Tls(vec![https(None, tls, target)].into())
}

pub async fn connect(at: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    shake(stream, name, config).await
}

pub async fn shake<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: S,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<S>> {
    TlsConnector::from(config.clone()).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// One GET on a connection, and whether its handshake resumed a session.
pub async fn get(at: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<(Seen, bool)> {
    let mut stream = connect(at, name, config).await?;
    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    stream.write_all(format!("GET /x HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let seen = message(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    // Tickets of TLS 1.3 come behind the handshake; to the end, which must be said.
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await?;
    Ok((seen, resumed))
}

/// Waits until this many handshakes have failed for a reason. They are counted after the client sees it.
pub async fn failed(stats: &ProxyStats, why: TlsFailure, times: u64) {
    until(|| stats.tls.failures[why as usize].load(Ordering::Relaxed), times).await;
}

/// Waits until a counter has a value, which it may not pass. The test's deadline ends it.
pub async fn until(read: impl Fn() -> u64, wanted: u64) {
    while read() != wanted {
        assert!(read() < wanted, "{} is more than {wanted}", read());
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// What a TLS backend has seen.
#[derive(Clone, Default)]
pub struct Met {
    pub handshakes: Arc<AtomicU64>,
    pub resumed: Arc<AtomicU64>,
    pub failed: Arc<AtomicU64>,
}

/// An HTTPS backend that answers with the request's head; in front of it stands the server name it was asked for, and whether the client showed
/// a certificate.
pub async fn backend(config: ServerConfig) -> (SocketAddr, Met) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, met) = (listener.local_addr().unwrap(), Met::default());
    let (acceptor, counted) = (TlsAcceptor::from(Arc::new(config)), met.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    counted.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                counted.handshakes.fetch_add(1, Ordering::Relaxed);
                let connection = stream.get_ref().1;
                if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
                    counted.resumed.fetch_add(1, Ordering::Relaxed);
                }
                let name = connection.server_name().unwrap_or("-").to_owned();
                let about = format!("sni={name} certificate={}\n", connection.peer_certificates().is_some());
                while let Ok(Some(seen)) = message(&mut stream).await {
                    let close = seen.field("x-close").is_some();
                    let answer = super::ok(&format!("{about}{}{}", seen.head, seen.body));
                    let answer = if close { answer.replacen("\r\n", "\r\nconnection: close\r\n", 1) } else { answer };
                    if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    if close {
                        break;
                    }
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, met)
}
