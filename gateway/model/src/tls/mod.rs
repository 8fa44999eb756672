//! TLS as it is configured, checked, and made ready for handshakes. There is no I/O here: the data plane does the handshakes.
//!
//! [`certificate`] and [`trust`] read PEM; [`parameters`] are versions and cipher suites; [`server`] is for clients of the gateway, with [`tickets`]
//! for their sessions, [`client`] for endpoints; [`acme`] is what a CA issues on its own. The plan makes the settings, control makes what is used of them and keeps it as long as the settings stay the same, so
//! that sessions outlive snapshots.

pub mod acme;
pub mod certificate;
pub mod client;
pub mod parameters;
pub mod server;
pub mod tickets;
pub mod trust;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use acme::Acme;
pub use certificate::{Certificate, Wrong, subjects};
pub use client::{SubjectAltName, UpstreamSettings, UpstreamTls, Verify};
pub use parameters::{Cipher, Version, Versions};
pub use server::{ClientValidation, Demand, HANDSHAKE_TIMEOUT, ServerSettings, ServerTls};
pub use tickets::{TicketSecret, TicketSecrets};
pub use trust::{Authorities, Trust};

/// The implementation of cryptography, of which there is one.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A self-signed certificate for these names: the PEM of it and of its key.
    pub(crate) fn pem(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    pub(crate) fn certificate(names: &[&str]) -> Arc<Certificate> {
        let (chain, key) = pem(names);
        Arc::new(Certificate::from_pem("default/test", chain.as_bytes(), key.as_bytes()).expect("a certificate"))
    }
}
