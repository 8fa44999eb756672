//! TLS of a QUIC connection: by the server name that the client asks for, as over TCP. The library wants a configuration before it has read the client's hello, so
//! what it gets waits for the hello, and goes on with the configuration of the host that was found.

use std::any::Any;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion};
use quinn::{ConnectionId, Side, TransportErrorCode};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::AlertDescription;
use rustls::server::ResolvesServerCertUsingSni;
use sluicegate_model::snapshot::{Front, Listener, TlsMode};
use sluicegate_model::tls::{ServerTls, provider};

use crate::alert;
use crate::tls::hello::{self, BadHello, Hello};

/// The protocol of HTTP/3 (RFC 9114 §3.1).
pub(crate) const ALPN: &str = "h3";

/// What protects the first packets, before there is a certificate: keys that anybody can make of the client's connection ID (RFC 9001 §5.2).
static INITIAL: LazyLock<Option<Arc<QuicServerConfig>>> = LazyLock::new(|| {
    let builder =
        rustls::ServerConfig::builder_with_provider(provider().clone()).with_protocol_versions(&[&rustls::version::TLS13]).ok()?;
    // Nothing is ever answered with it.
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    QuicServerConfig::try_from(config).ok().map(Arc::new)
});

/// The TLS of a listener, from which a connection takes that of its host.
pub(super) struct Hosts {
    /// It is let go once the host was chosen: a connection outlives snapshots.
    listener: Mutex<Option<Arc<Listener>>>,
    initial: Arc<QuicServerConfig>,
}

impl Hosts {
    /// For one connection to a listener; or for what comes before connections. None: the cryptography has not what QUIC needs.
    pub(super) fn new(listener: Option<Arc<Listener>>) -> Option<Self> {
        Some(Self { listener: Mutex::new(listener), initial: INITIAL.clone()? })
    }
}

impl ServerConfig for Hosts {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.initial.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Box<dyn Session> {
        Box::new(Met { hosts: self, version, parameters: *parameters, hello: Vec::new(), chosen: None })
    }
}

/// What was chosen for a connection: [`quinn::Connection::handshake_data`].
pub(crate) struct Chosen {
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) server_name: Option<String>,
}

/// A connection's TLS, before and after its hello was read.
struct Met {
    hosts: Arc<Hosts>,
    version: u32,
    parameters: TransportParameters,
    /// What has come of the hello. The library bounds it: a hello that does not end within 16 KiB ends the connection.
    hello: Vec<u8>,
    chosen: Option<(Box<dyn Session>, Arc<ServerTls>, Hello)>,
}

impl Met {
    /// Chooses the host, once the hello is whole.
    fn choose(&mut self) -> Result<(), TransportError> {
        let Some(hello) = hello::message(&self.hello).map_err(|BadHello(told)| refused(told.unwrap_or(AlertDescription::DecodeError)))?
        else {
            return Ok(());
        };
        let name = hello.server_name.as_deref().unwrap_or("");
        let listener = self.hosts.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Front::Tls(hosts)) = listener.as_ref().map(|listener| &listener.front) else {
            return Err(refused(AlertDescription::InternalError));
        };
        let Some(host) = hosts.find(name) else { return Err(refused(alert::unserved(name))) };
        let TlsMode::Http(tls) = &host.mode else { return Err(refused(AlertDescription::NoApplicationProtocol)) };
        let config = tls.quic(ALPN).ok_or_else(|| refused(AlertDescription::ProtocolVersion))?;
        let config = QuicServerConfig::try_from(config).map_err(|_| refused(AlertDescription::HandshakeFailure))?;
        let session = Arc::new(config).start_session(self.version, &self.parameters);
        self.chosen = Some((session, tls.clone(), hello));
        Ok(())
    }

    fn session(&self) -> Option<&dyn Session> {
        self.chosen.as_ref().map(|(session, ..)| &**session)
    }
}

fn refused(alert: AlertDescription) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(alert.into()), frame: None, reason: String::new() }
}

impl Session for Met {
    fn initial_keys(&self, id: &ConnectionId, _: Side) -> Keys {
        let keys = self.hosts.initial.initial_keys(self.version, id);
        keys.unwrap_or_else(|_| unreachable!("a session begins after keys of its version were made"))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let (session, tls, hello) = self.chosen.as_ref()?;
        session.handshake_data()?;
        Some(Box::new(Chosen { tls: tls.clone(), server_name: hello.server_name.clone() }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session()?.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.session().is_none_or(Session::is_handshaking)
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        if let Some((session, ..)) = &mut self.chosen {
            return session.read_handshake(bytes);
        }
        self.hello.extend_from_slice(bytes);
        self.choose()?;
        match &mut self.chosen {
            Some((session, ..)) => session.read_handshake(&std::mem::take(&mut self.hello)),
            None => Ok(false),
        }
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session().map_or(Ok(None), Session::transport_parameters)
    }

    fn write_handshake(&mut self, into: &mut Vec<u8>) -> Option<Keys> {
        self.chosen.as_mut()?.0.write_handshake(into)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.chosen.as_mut()?.0.next_1rtt_keys()
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // Only clients get these.
        false
    }

    fn export_keying_material(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        self.session().ok_or(ExportKeyingMaterialError)?.export_keying_material(output, label, context)
    }
}
