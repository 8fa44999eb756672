//! Authorities that are trusted: those of a ConfigMap or Secret, or the system's.

use std::sync::{Arc, LazyLock};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The largest number of authorities in one bundle.
const MAX_AUTHORITIES: usize = 1024;

/// Certificates of authorities, read and checked; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(Arc<Vec<CertificateDer<'static>>>);

impl Authorities {
    /// Reads PEM. The error says, for people, that there is no certificate, or that one cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let read: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("cannot be read as PEM: {error}"))?;
        if read.is_empty() {
            return Err("has no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")".to_owned());
        }
        if read.len() > MAX_AUTHORITIES {
            return Err(format!("has {} certificates, more than the {MAX_AUTHORITIES} there may be", read.len()));
        }
        for (i, der) in read.iter().enumerate() {
            RootCertStore::empty().add(der.clone()).map_err(|error| format!("certificate {} cannot be used: {error}", i + 1))?;
        }
        Ok(Self(Arc::new(read)))
    }

    /// All authorities of several bundles; none if there are no bundles.
    pub fn join(all: Vec<Self>) -> Option<Self> {
        let joined: Vec<_> = all.iter().flat_map(|a| a.0.iter().cloned()).collect();
        (!joined.is_empty()).then(|| Self(Arc::new(joined)))
    }

    /// The certificates, as they were read.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The certificates as a store, for verifiers.
    pub fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        // All of them were added to a store before.
        store.add_parsable_certificates(self.0.iter().cloned());
        Arc::new(store)
    }
}

/// Who is trusted to vouch for endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authorities of the system the gateway runs on, as they are when first asked for (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
    System,
    /// Only these authorities are trusted.
    Only(Authorities),
}

impl Trust {
    /// The certificates as a store, for verifiers. The error says, for people, that the system has none.
    pub fn store(&self) -> Result<Arc<RootCertStore>, String> {
        match self {
            Self::Only(authorities) => Ok(authorities.store()),
            Self::System => SYSTEM.clone(),
        }
    }
}

/// The system's authorities, which are read once: they change with the system's packages, and then the gateway is restarted.
static SYSTEM: LazyLock<Result<Arc<RootCertStore>, String>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    match found.errors.first() {
        Some(error) if store.is_empty() => Err(format!("the system's certificates cannot be read: {error}")),
        None if store.is_empty() => {
            Err("the system has no certificates of authorities (package ca-certificates, or SSL_CERT_FILE)".to_owned())
        }
        _ => Ok(Arc::new(store)),
    }
});

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::testing::pem;
    use super::*;

    #[test]
    fn bundles() {
        let (a, b) = (pem(&["a"]).0, pem(&["b"]).0);
        let read = Authorities::from_pem(format!("{a}\n{b}").as_bytes()).unwrap();
        assert_eq!(read.store().len(), 2);
        assert!(Authorities::from_pem(b"").unwrap_err().contains("no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(Authorities::from_pem(format!("{a}{broken}").as_bytes()).unwrap_err().starts_with("certificate 2 cannot be used"));
        assert_eq!(Authorities::join(vec![]), None);
    }
}
