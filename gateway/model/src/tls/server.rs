//! TLS towards clients.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::acme::{Acme, Ask, Shown};
use super::certificate::Certificate;
use super::parameters::{self, Cipher, Version, Versions};
use super::trust::Authorities;

/// How long a handshake may take, unless something else is configured.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a listener's TLS is ended, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// The certificates. The one that fits the server name best is shown, or the first, if none fits. Without any, no handshake succeeds.
    pub certificates: Vec<Arc<Certificate>>,
    /// What is asked of an ACME issuer besides; none: nothing is.
    pub acme: Option<Arc<Ask>>,
    /// The versions that are served.
    pub versions: Versions,
    /// The suites that are served; none: all that are known.
    pub ciphers: Vec<Cipher>,
    /// The protocols that are offered (RFC 7301), the best first; none: ALPN is ignored.
    pub alpn: Vec<String>,
    /// Whether clients are asked for certificates.
    pub client: Option<ClientValidation>,
    /// How long a handshake may take, from its first byte to its end.
    pub handshake_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            acme: None,
            versions: Versions::default(),
            ciphers: Vec::new(),
            alpn: Vec::new(),
            client: None,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// What is asked of clients' certificates.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientValidation {
    /// The authorities that vouch for clients. None: the reference to them is broken, and no handshake succeeds.
    pub authorities: Option<Authorities>,
    /// Whether a handshake without a good certificate succeeds.
    pub demand: Demand,
}

/// Whether a handshake without a good certificate succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A handshake without a good certificate fails.
    Required,
    /// A handshake without a certificate succeeds, and one with a bad one fails.
    Optional,
    /// A handshake succeeds in both cases (Gateway API's `AllowInsecureFallback`); a bad certificate counts as none.
    Fallback,
}

/// TLS of a listener, ready for handshakes.
pub struct ServerTls {
    /// The settings that it was made of.
    pub settings: Arc<ServerSettings>,
    /// The configuration. None: there is no certificate to show, or clients cannot be verified, and handshakes are refused.
    pub config: Option<Arc<ServerConfig>>,
    /// The configuration for QUIC, made when the first connection needs it.
    quic: OnceLock<Option<Arc<ServerConfig>>>,
    /// What is shown of what an ACME issuer was asked for; none: none was asked.
    pub acme: Option<Shown>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    /// Makes it from its settings. `tickets` must be this host's alone (`TicketSecrets::tickets`): the ticket of another host could carry a client past this
    /// one's verification.
    pub fn build(settings: Arc<ServerSettings>, tickets: Arc<dyn ProducesTickets>) -> Result<Self, Error> {
        Self::build_with(settings, tickets, &Arc::default())
    }

    /// Likewise, with the certificates that ACME has brought.
    pub fn build_with(settings: Arc<ServerSettings>, tickets: Arc<dyn ProducesTickets>, acme: &Arc<Acme>) -> Result<Self, Error> {
        let acme = settings.acme.clone().map(|ask| Shown::new(ask, acme.clone()));
        let provider =
            Arc::new(CryptoProvider { cipher_suites: parameters::suites(&settings.ciphers), ..CryptoProvider::clone(super::provider()) });
        let broken = |error: rustls::server::VerifierBuilderError| Error::General(error.to_string());
        let verifier = match &settings.client {
            None => None,
            Some(ClientValidation { authorities: None, .. }) => return Ok(Self::refusing(settings)),
            Some(ClientValidation { authorities: Some(authorities), demand }) => {
                let builder = WebPkiClientVerifier::builder_with_provider(authorities.store(), provider.clone());
                let builder = if *demand == Demand::Required { builder } else { builder.allow_unauthenticated() };
                Some(builder.build().map_err(broken)?)
            }
        };
        if settings.certificates.is_empty() && acme.is_none() {
            return Ok(Self::refusing(settings));
        }
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&settings.versions.supported())?;
        let builder = match (&verifier, &settings.client) {
            (Some(verifier), Some(ClientValidation { demand: Demand::Fallback, .. })) => {
                builder.with_client_cert_verifier(Arc::new(Lenient(verifier.clone())))
            }
            (Some(verifier), _) => builder.with_client_cert_verifier(verifier.clone()),
            (None, _) => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates { given: settings.certificates.clone(), acme: acme.clone() }));
        config.alpn_protocols = settings.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config.ticketer = tickets;
        // Tickets serve both versions, on any worker. A store of sessions would need a lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { settings, config: Some(Arc::new(config)), quic: OnceLock::new(), acme, verifier })
    }

    /// Refuses all handshakes.
    pub fn refusing(settings: Arc<ServerSettings>) -> Self {
        Self { settings, config: None, quic: OnceLock::new(), acme: None, verifier: None }
    }

    /// The configuration for QUIC, which differs from that for TCP in the protocol that is offered (`alpn`). None: there is none for TCP either, or it leaves out
    /// TLS 1.3, without which there is no QUIC (RFC 9001 §4.2). There is no early data (0-RTT) in either.
    pub fn quic(&self, alpn: &str) -> Option<Arc<ServerConfig>> {
        let make = || {
            let config = self.config.as_ref().filter(|_| self.settings.versions.max == Version::Tls13)?;
            let suites = &config.crypto_provider().cipher_suites;
            let fits = suites.iter().any(|suite| suite.tls13().is_some_and(|suite| suite.quic.is_some()));
            fits.then(|| {
                let mut config = ServerConfig::clone(config);
                config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
                config.max_early_data_size = 0;
                Arc::new(config)
            })
        };
        self.quic.get_or_init(make).clone()
    }

    /// The alert for a client of this server name, if there is nothing to show to it: its certificate is not issued yet, or nobody asks for one. None: there is
    /// something to show.
    pub fn lacks(&self, name: &str) -> Option<AlertDescription> {
        let acme = self.acme.as_ref().filter(|_| self.settings.certificates.is_empty())?;
        if acme.certificate(name).is_some() {
            return None;
        }
        // RFC 6066 §3: a name that is known is not called unknown.
        Some(if name.is_empty() || acme.asks_for(name) { AlertDescription::InternalError } else { AlertDescription::UnrecognisedName })
    }

    /// Whether the authorities of today vouch for a client's chain. It is asked again where the handshake itself has not asked: for a ticket, and with
    /// [`Demand::Fallback`].
    pub fn vouches(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((first, others))) = (&self.verifier, chain.split_first()) else { return false };
        verifier.verify_client_cert(first, others, UnixTime::now()).is_ok()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// Chooses among a listener's certificates.
#[derive(Debug)]
struct Certificates {
    given: Vec<Arc<Certificate>>,
    acme: Option<Shown>,
}

impl ResolvesServerCert for Certificates {
    /// The certificate that fits the name best, among those whose signature the client takes: an ECDSA and an RSA certificate may stand side by side.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
        let usable = || self.given.iter().filter(|c| c.signs(hello.signature_schemes()));
        // Of several that fit equally well the first is wanted, where `max_by_key` gives the last.
        let best = usable().rev().max_by_key(|c| c.fits(&name)).or_else(|| self.given.first());
        if let Some(acme) = self.acme.as_ref().filter(|_| best.is_none_or(|best| best.fits(&name) == 0))
            && let Some(issued) = acme.certificate(&name)
        {
            return Some(issued.key().clone());
        }
        Some(best?.key().clone())
    }
}

/// Lets handshakes with bad certificates succeed, for [`Demand::Fallback`]. That the client has the certificate's key is proved nevertheless.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }
    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::TicketSecrets;
    use super::super::testing::certificate;
    use super::*;

    fn build(settings: &ServerSettings) -> ServerTls {
        let tickets = Arc::new(TicketSecrets::default()).tickets(([127, 0, 0, 1], 443).into(), None, settings);
        ServerTls::build(Arc::new(settings.clone()), tickets).unwrap()
    }

    #[test]
    fn without_a_certificate_or_authorities_there_is_no_handshake() {
        assert!(build(&ServerSettings::default()).config.is_none());
        let client = Some(ClientValidation { authorities: None, demand: Demand::Optional });
        let settings = ServerSettings { certificates: vec![certificate(&["a.example"])], client, ..ServerSettings::default() };
        assert!(build(&settings).config.is_none());
    }

    #[test]
    fn a_name_that_awaits_its_certificate_is_told_from_one_that_nobody_asks_for() {
        let ask = Ask {
            issuer: "ca".into(),
            names: ["a.example".to_owned()].into(),
            object: String::new(),
            listener: String::new(),
            place: None,
        };
        let settings = ServerSettings { acme: Some(Arc::new(ask)), ..ServerSettings::default() };
        let tickets = Arc::new(TicketSecrets::default()).tickets(([127, 0, 0, 1], 443).into(), None, &settings);
        let acme = Arc::default();
        let tls = ServerTls::build_with(Arc::new(settings.clone()), tickets, &acme).unwrap();
        assert!(tls.config.is_some());
        assert_eq!(tls.lacks("a.example"), Some(AlertDescription::InternalError));
        assert_eq!(tls.lacks("b.example"), Some(AlertDescription::UnrecognisedName));
        let named = super::super::acme::Named { certificate: Some(certificate(&["a.example"])), ..Default::default() };
        acme.note(&"ca".into(), "a.example", named);
        assert_eq!((tls.lacks("a.example"), tls.lacks("")), (None, None));
        assert_eq!(tls.lacks("b.example"), Some(AlertDescription::UnrecognisedName));
        let given = ServerSettings { certificates: vec![certificate(&["c.example"])], ..settings };
        assert_eq!(build(&given).lacks("b.example"), None, "as without ACME, the first certificate is shown");
    }
}
