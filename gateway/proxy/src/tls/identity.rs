//! Tells who a client is by its certificate, in the header field `X-Forwarded-Client-Cert`, in Envoy's format: `Hash`, `Subject`, `URI`, `DNS`.
//!
//! Clients cannot forge it: the field is removed from every request before the router sees it, on any listener, and only a certificate that was verified puts it
//! back.

use std::fmt::Write as _;

use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

/// How many names are told of one certificate. The authority decides how many there are, but a head has a limit.
const MAX_NAMES: usize = 32;

/// Describes a certificate, given in DER. None: it cannot be read, though it was verified.
pub(super) fn describe(der: &[u8]) -> Option<HeaderValue> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut text = String::with_capacity(256);
    text.push_str("Hash=");
    for byte in Sha256::digest(der) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str(";Subject=");
    quote(&subject(certificate.subject()), &mut text);
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = || names.iter().flat_map(|n| &n.value.general_names);
    let uris = names().filter_map(|n| if let GeneralName::URI(uri) = n { Some(("URI", *uri)) } else { None });
    let hosts = names().filter_map(|n| if let GeneralName::DNSName(name) = n { Some(("DNS", *name)) } else { None });
    for (key, name) in uris.chain(hosts).take(MAX_NAMES) {
        text.push(';');
        text.push_str(key);
        text.push('=');
        // Envoy quotes what has a separator in it. What is not visible ASCII is not a host name, and not a URI (RFC 3986 §2).
        if name.bytes().any(|b| !b.is_ascii_graphic()) {
            quote(&name.bytes().map(|b| format!("%{b:02X}")).collect::<String>(), &mut text);
        } else if name.contains([',', ';', '=', '"']) {
            quote(name, &mut text);
        } else {
            text.push_str(name);
        }
    }
    HeaderValue::try_from(text).ok()
}

fn quote(value: &str, into: &mut String) {
    into.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
    into.push('"');
}

/// A distinguished name in the form of RFC 2253: the last part first, and all of it visible ASCII, as in OpenSSL's `XN_FLAG_RFC2253`, and so in Envoy.
fn subject(name: &X509Name<'_>) -> String {
    let sets: Vec<_> = name.iter_rdn().collect();
    let sets = sets.iter().rev().map(|set| {
        let parts = set.iter().map(|part| {
            let mut text = match short(part.attr_type()) {
                Some(short) => short.to_owned(),
                None => part.attr_type().to_id_string(),
            };
            text.push('=');
            escape(part.as_slice(), &mut text);
            text
        });
        parts.collect::<Vec<_>>().join("+")
    });
    sets.collect::<Vec<_>>().join(",")
}

fn escape(value: &[u8], into: &mut String) {
    for (i, byte) in value.iter().copied().enumerate() {
        let edge = (i == 0 && (byte == b' ' || byte == b'#')) || (i + 1 == value.len() && byte == b' ');
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => into.extend(['\\', byte as char]),
            _ if edge => into.extend(['\\', byte as char]),
            b' '..=b'~' => into.push(byte as char),
            _ => {
                let _ = write!(into, "\\{byte:02X}");
            }
        }
    }
}

/// The short name of a part (RFC 2253 §2.3), and of some that OpenSSL has besides.
fn short(kind: &Oid<'_>) -> Option<&'static str> {
    Some(match kind.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn as_envoy_writes_it() {
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://example/ns/a;b".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme, \"Inc\"");
        params.distinguished_name.push(DnType::CommonName, " Zoë\r\n");
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let told = describe(der.der()).unwrap();
        let told = told.to_str().unwrap();
        let (hash, rest) = told.strip_prefix("Hash=").unwrap().split_once(';').unwrap();
        assert_eq!(hash.len(), 64);
        // The name's own escapes are escaped once more within the quotes.
        let name = r#"Subject="CN=\\ Zo\\C3\\AB\\0D\\0A,O=Acme\\, \\\"Inc\\\"";"#;
        assert_eq!(rest, format!("{name}URI=\"spiffe://example/ns/a;b\";DNS=client.example"));
    }
}
