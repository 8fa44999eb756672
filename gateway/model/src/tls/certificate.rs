//! A certificate chain with its private key, as a Secret of type `kubernetes.io/tls` has them.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The largest number of certificates in one chain.
const MAX_CHAIN: usize = 16;

/// A certificate chain with its key, read and checked: the key belongs to the first certificate.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    from: Arc<str>,
}

/// What is wrong with a certificate or its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Wrong {
    /// The field: `tls.crt` or `tls.key`.
    pub field: &'static str,
    /// What is wrong, for people. It never shows anything of the key.
    pub what: String,
}

impl Certificate {
    /// Reads PEM. `from` is the Secret's namespace and name, or the ACME issuer and the host name, for people.
    pub fn from_pem(from: &str, chain: &[u8], key: &[u8]) -> Result<Self, Wrong> {
        let wrong = |field: &'static str| move |what: String| Wrong { field, what };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong("tls.crt")(format!("cannot be read as PEM: {error}")))?;
        if chain.is_empty() {
            return Err(wrong("tls.crt")("has no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")".to_owned()));
        }
        if chain.len() > MAX_CHAIN {
            return Err(wrong("tls.crt")(format!("has {} certificates, more than the {MAX_CHAIN} a chain may have", chain.len())));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| wrong("tls.key")("has no private key in PEM that can be read (PKCS #8, PKCS #1 or SEC 1)".to_owned()))?;
        Self::from_der(from, chain, key)
    }

    /// Reads DER. The chain begins with the certificate itself.
    pub fn from_der(from: &str, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Wrong> {
        let wrong = |field: &'static str, what: String| Wrong { field, what };
        let first = chain.first().ok_or_else(|| wrong("tls.crt", "has no certificate".to_owned()))?;
        let (names, not_before, not_after) = {
            let (_, parsed) = X509Certificate::from_der(first).map_err(|e| wrong("tls.crt", format!("is no X.509 certificate: {e}")))?;
            let validity = parsed.validity();
            (host_names(&parsed), validity.not_before.timestamp(), validity.not_after.timestamp())
        };
        let signer = super::provider().key_provider.load_private_key(key);
        // The library's text may describe the key, so it is not passed on.
        let signer = signer.map_err(|_| {
            wrong("tls.key", "is of a kind that is not served (RSA of 2048 to 8192 bits, ECDSA P-256, P-384, P-521, Ed25519)".to_owned())
        })?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(wrong("tls.key", "does not belong to the first certificate of tls.crt".to_owned()));
            }
            Err(error) => return Err(wrong("tls.crt", format!("cannot be served: {error}"))),
        }
        Ok(Self { key: Arc::new(key), names, not_before, not_after, from: from.into() })
    }

    /// The certificates and the key, for handshakes.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The host names (subjectAltName of type dNSName), in lower case; `*.example.com` stands for one label.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The beginning of the certificate's validity, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// The end of the certificate's validity, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The namespace and name of the Secret.
    pub fn from(&self) -> &Arc<str> {
        &self.from
    }

    /// How well the certificate fits a host name: 2 by that very name, 1 by a wildcard (RFC 9525 §6.3: for one label), 0 not at all.
    pub fn fits(&self, host: &str) -> u8 {
        let wildcard = host.split_once('.').map(|(_, parent)| parent);
        let fit = |name: &String| match name.strip_prefix("*.") {
            Some(parent) => u8::from(wildcard == Some(parent)),
            None => {
                if name == host {
                    2
                } else {
                    0
                }
            }
        };
        self.names.iter().map(fit).max().unwrap_or(0)
    }

    /// Whether a client that takes these signatures can be served with the certificate.
    pub fn signs(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }
}

/// Certificates are compared by their chains: the same certificate has the same key.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert && self.from == other.from
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate {} for {:?}", self.from, self.names)
    }
}

/// The names that a certificate gives its holder: the URIs, host names and mail addresses of its subjectAltName (RFC 5280 §4.2.1.6), and the common names of its
/// subject. Names that are no text are left out.
pub fn subjects(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(name) | GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    });
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned));
    alternative.chain(common).collect()
}

fn host_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let dns = names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None });
    dns.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::testing::{certificate, pem};
    use super::*;

    fn wrong(chain: &str, key: &str) -> String {
        Certificate::from_pem("default/x", chain.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_of_the_right_field() {
        let ((a, a_key), (b, b_key)) = (pem(&["a.example"]), pem(&["b.example"]));
        assert!(Certificate::from_pem("default/x", format!("{a}{b}").as_bytes(), a_key.as_bytes()).is_ok());
        assert_eq!(wrong(&a, &b_key), "tls.key: does not belong to the first certificate of tls.crt");
        assert!(wrong("", &a_key).starts_with("tls.crt: has no certificate in PEM"));
        assert!(wrong(&a, "").starts_with("tls.key: has no private key in PEM"));
        assert!(wrong(&a, &a).starts_with("tls.key: has no private key in PEM"));
        assert!(wrong("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &a_key).starts_with("tls.crt: is no X.509"));
        assert!(wrong(&a.repeat(17), &a_key).contains("more than the 16"));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let of = certificate(&["a.example", "*.B.example"]);
        assert_eq!(of.names(), ["a.example", "*.b.example"]);
        assert_eq!((of.fits("a.example"), of.fits("x.b.example"), of.fits("x.y.b.example"), of.fits("b.example")), (2, 1, 0, 0));
    }
}
