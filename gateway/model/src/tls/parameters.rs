//! Protocol versions and cipher suites, by the names that Envoy Gateway's ClientTrafficPolicy has for them.

use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use schemars::JsonSchema;
use serde::Deserialize;

/// A version of TLS. 1.0 and 1.1 are deprecated (RFC 8996) and not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum Version {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// A range of versions; by default both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest version.
    pub min: Version,
    /// The highest version.
    pub max: Version,
}

impl Default for Versions {
    fn default() -> Self {
        Self { min: Version::Tls12, max: Version::Tls13 }
    }
}

impl Versions {
    pub(super) fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        match (self.min, self.max) {
            (Version::Tls13, _) => vec![&version::TLS13],
            (Version::Tls12, Version::Tls12) => vec![&version::TLS12],
            (Version::Tls12, Version::Tls13) => vec![&version::TLS13, &version::TLS12],
        }
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.min, self.max) {
            (Version::Tls13, _) => "TLS 1.3",
            (_, Version::Tls12) => "TLS 1.2",
            _ => "TLS 1.2 to 1.3",
        })
    }
}

/// A cipher suite. Its name is OpenSSL's, as in Envoy, or IANA's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cipher(&'static Row);

#[derive(Debug, PartialEq)]
struct Row {
    openssl: &'static str,
    iana: &'static str,
    suite: SupportedCipherSuite,
}

impl Cipher {
    /// The suite of this name. None: it is not known, or too weak to be served.
    pub fn named(name: &str) -> Option<Self> {
        SUITES.iter().find(|row| row.openssl == name || row.iana == name).map(Self)
    }

    /// The names of all suites, as OpenSSL has them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SUITES.iter().map(|row| row.openssl)
    }

    /// The version of TLS that the suite is for.
    pub fn version(self) -> Version {
        if self.0.suite.tls13().is_some() { Version::Tls13 } else { Version::Tls12 }
    }
}

/// The suites to serve, the best first. If none of a version is named, all of that version are served: Envoy's `ciphers` are those of TLS 1.2 alone.
pub(super) fn suites(named: &[Cipher]) -> Vec<SupportedCipherSuite> {
    let names = |version| named.iter().any(|c| c.version() == version);
    let chosen = SUITES.iter().map(Cipher).filter(|cipher| !names(cipher.version()) || named.contains(cipher));
    chosen.map(|cipher| cipher.0.suite).collect()
}

const SUITES: [Row; 9] = [
    Row { openssl: "TLS_AES_256_GCM_SHA384", iana: "TLS_AES_256_GCM_SHA384", suite: suite::TLS13_AES_256_GCM_SHA384 },
    Row { openssl: "TLS_AES_128_GCM_SHA256", iana: "TLS_AES_128_GCM_SHA256", suite: suite::TLS13_AES_128_GCM_SHA256 },
    Row { openssl: "TLS_CHACHA20_POLY1305_SHA256", iana: "TLS_CHACHA20_POLY1305_SHA256", suite: suite::TLS13_CHACHA20_POLY1305_SHA256 },
    Row {
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        iana: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    Row {
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    Row {
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        iana: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Row {
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        iana: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    Row {
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        iana: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
    Row {
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        iana: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_library_are_known_and_a_version_not_named_keeps_its_own() {
        assert_eq!(suites(&[]).len(), rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES.len());
        let one = Cipher::named("ECDHE-RSA-AES128-GCM-SHA256").unwrap();
        assert_eq!(Cipher::named("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), Some(one));
        assert_eq!(suites(&[one]).len(), 4);
        assert_eq!(Cipher::named("AES128-SHA"), None);
    }
}
