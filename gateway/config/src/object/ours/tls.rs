//! `tls` of `ClientTrafficPolicy` and of `BackendTrafficPolicy`, with Envoy Gateway's names.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Span;

/// A reference to a Secret or ConfigMap.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// The group: empty, which is the core group.
    #[serde(default)]
    pub group: String,
    /// The kind. Default `Secret`.
    #[serde(default = "secret")]
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// The namespace of the object. Default: the policy's own. Another one needs a ReferenceGrant.
    pub namespace: Option<String>,
}

fn secret() -> String {
    "Secret".to_owned()
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// Secrets of type `kubernetes.io/tls`, for a target that is a Service; a Gateway's listeners name their own.
    #[serde(default)]
    pub certificate_refs: Vec<ObjectRef>,
    /// The lowest version served. Default 1.2.
    pub min_version: Option<VersionChoice>,
    /// The highest version served. Default 1.3.
    pub max_version: Option<VersionChoice>,
    /// Cipher suites served, by OpenSSL's or IANA's names. Default: all.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Protocols offered by ALPN.
    #[serde(rename = "alpnProtocols")]
    pub alpn_protocols: Option<Vec<String>>,
    /// Whether clients are asked for certificates.
    pub client_validation: Option<ClientValidation>,
    /// How long a handshake may take, from the first byte to its end. Default 10s.
    pub handshake_timeout: Option<Span>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum VersionChoice {
    /// The default.
    Auto,
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is wanted of clients' certificates.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// Clients without a certificate are served too.
    #[serde(default)]
    pub optional: bool,
    /// ConfigMaps or Secrets with authorities in `ca.crt`.
    #[serde(default, rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<ObjectRef>,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// ConfigMaps or Secrets with authorities in `ca.crt`.
    #[serde(default, rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<ObjectRef>,
    /// Whether the system's authorities are trusted.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<WellKnown>,
    /// The server name that is sent, and that the certificate must have unless `subjectAltNames` are given.
    pub sni: Option<String>,
    /// Names of which the certificate must have one.
    #[serde(default)]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// A Secret of type `kubernetes.io/tls`: what the gateway shows to endpoints.
    pub client_certificate_ref: Option<ObjectRef>,
    /// Any certificate will do. Whoever can answer in the endpoint's place is believed.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

impl BackendTls {
    /// Whether the policy says how endpoints are verified, rather than only which certificate they are shown.
    pub fn verifies(&self) -> bool {
        self.insecure_skip_verify
            || !self.ca_certificate_refs.is_empty()
            || self.well_known_ca_certificates.is_some()
            || self.sni.is_some()
            || !self.subject_alt_names.is_empty()
    }
}

/// Authorities that need no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum WellKnown {
    /// The authorities of the system.
    System,
}

/// A name of a certificate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum SubjectAltName {
    /// A host name.
    Hostname {
        /// The name.
        hostname: String,
    },
    /// A URI.
    #[serde(rename = "URI")]
    Uri {
        /// The URI.
        uri: String,
    },
}
