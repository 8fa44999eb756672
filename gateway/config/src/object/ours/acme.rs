//! `acme` of `SluicegateConfiguration`: the CAs that certificates are ordered from (RFC 8555).

use schemars::JsonSchema;
use serde::Deserialize;

/// Certificates that the gateway orders from ACME CAs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeSpec {
    /// The issuers that listeners may name by the option `sluicegate.dev/acme-issuer` of their `tls.options`.
    #[serde(default)]
    pub issuers: Vec<AcmeIssuer>,
}

/// An account at an ACME CA.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcmeIssuer {
    /// The name by which listeners ask for certificates of this issuer: lower-case letters, digits and hyphens. Default: none; each issuer has one.
    pub name: String,
    /// The URL of the CA's directory, such as `https://acme-v02.api.letsencrypt.org/directory`. Default: none; no CA is asked that is not written down.
    pub directory: String,
    /// Where the CA may write to about the account. Default: the CA is told no address.
    pub email: Option<String>,
    /// Whether the operator agrees to the CA's terms of service, without which no account is made. Default: false.
    #[serde(default)]
    pub terms_of_service_agreed: bool,
    /// A file of PEM with the authorities that vouch for the CA's own server. Default: the system's authorities.
    pub ca_file: Option<String>,
    /// The ways in which names are validated, the preferred one first: TLS-ALPN-01 (RFC 8737), at port 443, and HTTP-01 (RFC 8555), at port 80. After a failed
    /// validation the next one is taken. Default: both, TLS-ALPN-01 first.
    pub challenges: Option<Vec<AcmeChallenge>>,
    /// The profile of certificates that is ordered, where the CA has several, such as `shortlived`. Default: the CA's own choice.
    pub profile: Option<String>,
    /// The account that the operator already has with the CA (RFC 8555 §7.3.4).
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// How many names certificates are ordered for; further ones are refused. Default: 100.
    pub max_names: Option<u32>,
}

impl AcmeIssuer {
    /// How many names certificates are ordered for by default.
    pub const MAX_NAMES: u32 = 100;
}

/// An account with a CA outside of ACME.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAccountBinding {
    /// The identifier of the key that the CA has given. Default: none; it is given.
    pub key_id: String,
    /// The file that has the key that the CA has given, in base64url as CAs show it. Default: none; it is given.
    pub key_file: String,
}

/// How a CA validates a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// By a handshake at port 443 (RFC 8737).
    #[serde(rename = "TLS-ALPN-01")]
    TlsAlpn01,
    /// By a request at port 80 (RFC 8555 §8.3).
    #[serde(rename = "HTTP-01")]
    Http01,
}

impl AcmeChallenge {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 2] = [Self::TlsAlpn01, Self::Http01];
}
