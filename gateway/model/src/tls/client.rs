//! TLS towards endpoints.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::Certificate;
use super::trust::Trust;
use crate::unique::unique;

/// The number of sessions kept for one endpoint; rustls keeps up to 8 tickets for a server.
const SESSIONS: usize = 8;

/// How endpoints of a service port are spoken to, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// How endpoints are verified.
    pub verify: Verify,
    /// The server name that is sent; none: none is sent.
    pub sni: Option<DnsName<'static>>,
    /// The certificate that endpoints are shown.
    pub certificate: Option<Arc<Certificate>>,
}

/// What is asked of an endpoint's certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Verify {
    /// An authority must vouch for it, and it must have one of these names; if there are none, the server name that is sent.
    Signed {
        /// The authorities that are trusted.
        trust: Trust,
        /// The names, of which the certificate must have one.
        names: Vec<SubjectAltName>,
    },
    /// Nothing is asked: whoever answers is believed (`insecureSkipVerify`).
    Nothing,
}

/// A name of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A host name.
    Hostname(DnsName<'static>),
    /// A URI, compared byte by byte (SPIFFE).
    Uri(String),
}

/// TLS towards the endpoints of a service port, ready for handshakes.
pub struct UpstreamTls {
    /// The settings that it was made of.
    pub settings: Arc<UpstreamSettings>,
    /// A number that is unique in the process. A connection that was made by one is not used for another.
    pub id: u64,
    config: ClientConfig,
}

impl UpstreamTls {
    /// Makes it from its settings. The error says, for people, that the system has no authorities.
    pub fn build(settings: Arc<UpstreamSettings>) -> Result<Self, String> {
        let provider = super::provider();
        let verifier: Arc<dyn ServerCertVerifier> = match &settings.verify {
            Verify::Nothing => Arc::new(Verifier { named: None, provider: provider.clone() }),
            Verify::Signed { trust, names } if names.is_empty() => {
                WebPkiServerVerifier::builder_with_provider(trust.store()?, provider.clone()).build().map_err(|e| e.to_string())?
            }
            Verify::Signed { trust, names } => {
                let named = Named { roots: trust.store()?, names: names.clone() };
                Arc::new(Verifier { named: Some(named), provider: provider.clone() })
            }
        };
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &settings.certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.key().clone()))),
            None => builder.with_no_client_auth(),
        };
        Ok(Self { settings, id: unique(), config })
    }

    /// The configuration for connections to one endpoint, with sessions of its own: endpoints do not share the keys of their tickets, and an endpoint that is
    /// offered another's ticket uses it up in vain.
    pub fn config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(config)
    }

    /// The name of the endpoint: the server name, or its address, which is not sent (RFC 6066 §3).
    pub fn name(&self, endpoint: IpAddr) -> ServerName<'static> {
        match &self.settings.sni {
            Some(name) => ServerName::DnsName(name.clone()),
            None => ServerName::IpAddress(endpoint.into()),
        }
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// Verifies endpoints of which something else is asked than that the server name is theirs. That they have their certificate's key is always proved.
#[derive(Debug)]
struct Verifier {
    /// What is asked of the certificate; none: whoever answers is believed.
    named: Option<Named>,
    provider: Arc<CryptoProvider>,
}

/// Asks that the chain is verified, and that one of the names is the certificate's.
#[derive(Debug)]
struct Named {
    roots: Arc<RootCertStore>,
    names: Vec<SubjectAltName>,
}

impl Named {
    fn has(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        self.names.iter().any(|name| match name {
            SubjectAltName::Hostname(name) => verify_server_name(parsed, &ServerName::DnsName(name.clone())).is_ok(),
            SubjectAltName::Uri(uri) => has_uri(certificate, uri),
        })
    }
}

fn has_uri(certificate: &CertificateDer<'_>, uri: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let names = parsed.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(found) if *found == uri)))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(named) = &self.named {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &named.roots, intermediates, now, algorithms)?;
            if !named.has(end_entity, &parsed) {
                return Err(CertificateError::NotValidForName.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
