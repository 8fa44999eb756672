//! Rules of Secrets, of BackendTLSPolicy, and of `tls` in our policies.

use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicy;
use rustls_pki_types::DnsName;
use sluicegate_model::fault::Fault;
use sluicegate_model::tls::Cipher;

use crate::object::ours::{BackendTls, ClientTls, SubjectAltName, VersionChoice};
use crate::object::{Object, Secret, TLS_TYPE, conceal, error, warning};

/// A certificate that cannot be served is an error of the Secret, so that its last good version serves.
pub(super) fn secret(object: &Object, secret: &Secret, faults: &mut Vec<Fault>) {
    if secret.type_() != TLS_TYPE {
        return;
    }
    if let Err(wrong) = secret.certificate() {
        let tree = object.value.tree();
        let path = ["data", "stringData"].into_iter().find(|field| tree[*field].get(wrong.field).is_some()).unwrap_or("data");
        let message = format!("{path}[{}]: {}", wrong.field, wrong.what);
        let expected = "a certificate chain in tls.crt and its private key in tls.key; the last good version goes on serving";
        let mut fault = [error(&object.origin, &object.key, &format!("{path}.{}", wrong.field), message, Some(expected.to_owned()))];
        conceal(&mut fault);
        faults.extend(fault);
    }
}

pub(super) fn client(object: &Object, tls: Option<&ClientTls>, faults: &mut Vec<Fault>) {
    let Some(tls) = tls else { return };
    let mut invalid = |path: &str, what: String, expected: Option<String>| {
        let path = format!("spec.tls.{path}");
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), expected));
    };
    if (tls.min_version, tls.max_version) == (Some(VersionChoice::Tls13), Some(VersionChoice::Tls12)) {
        invalid("minVersion", "Invalid value: \"1.3\": must not be above maxVersion".to_owned(), None);
    }
    for (i, name) in tls.ciphers.iter().enumerate().filter(|(_, name)| Cipher::named(name).is_none()) {
        let known = Cipher::names().collect::<Vec<_>>().join(", ");
        invalid(&format!("ciphers[{i}]"), format!("Unsupported value: {name:?}"), Some(format!("one of: {known}")));
    }
    for (i, name) in tls.alpn_protocols.iter().flatten().enumerate().filter(|(_, name)| !ALPN.contains(&name.as_str())) {
        invalid(&format!("alpnProtocols[{i}]"), format!("Unsupported value: {name:?}"), Some(format!("one of: {}", ALPN.join(", "))));
    }
    if tls.client_validation.as_ref().is_some_and(|v| v.ca_certificate_refs.is_empty()) {
        invalid("clientValidation.caCertificateRefs", "Required value".to_owned(), None);
    }
    if tls.handshake_timeout.is_some_and(|t| t.0.is_zero()) {
        invalid("handshakeTimeout", "must be greater than 0".to_owned(), None);
    }
}

/// Protocols the gateway speaks.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

pub(super) fn backend(object: &Object, tls: Option<&BackendTls>, faults: &mut Vec<Fault>) {
    let Some(tls) = tls else { return };
    let mut invalid = |path: &str, what: String, expected: Option<&str>| {
        let path = format!("spec.tls{path}");
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), expected.map(str::to_owned)));
    };
    if let Some(name) = tls.sni.as_ref().filter(|name| !is_host(name)) {
        invalid(".sni", format!("Invalid value: {name:?}: must be a host name"), None);
    }
    for (i, name) in tls.subject_alt_names.iter().enumerate() {
        if let SubjectAltName::Hostname { hostname } = name
            && !is_host(hostname)
        {
            invalid(&format!(".subjectAltNames[{i}].hostname"), format!("Invalid value: {hostname:?}: must be a host name"), None);
        }
    }
    let authorities = !tls.ca_certificate_refs.is_empty() || tls.well_known_ca_certificates.is_some();
    if tls.insecure_skip_verify {
        if authorities || !tls.subject_alt_names.is_empty() {
            invalid(".insecureSkipVerify", "Invalid value: true: nothing is verified, yet it is said by whom or as what".to_owned(), None);
        }
        return;
    }
    if !tls.ca_certificate_refs.is_empty() && tls.well_known_ca_certificates.is_some() {
        invalid("", "must not contain both caCertificateRefs and wellKnownCACertificates".to_owned(), None);
    }
    if !tls.verifies() {
        // Only a certificate to show: a BackendTLSPolicy says the rest.
        return;
    }
    if !authorities {
        let hint = "caCertificateRefs, wellKnownCACertificates: System, or, to believe whoever answers, insecureSkipVerify: true";
        invalid("", "it is not said who vouches for endpoints".to_owned(), Some(hint));
    }
    if tls.sni.is_none() && tls.subject_alt_names.is_empty() {
        invalid(".sni", "Required value".to_owned(), Some("the name in the endpoints' certificate; or subjectAltNames"));
    }
}

/// What an API server takes, and this gateway cannot do: endpoints are then not connected to.
pub(super) fn backend_tls_policy(object: &Object, policy: &BackendTlsPolicy, faults: &mut Vec<Fault>) {
    let mut unserved = |path: &str, what: String| {
        faults.push(warning(&object.origin, &object.key, path, format!("{path}: {what}"), None));
    };
    for (i, target) in policy.spec.target_refs.iter().enumerate() {
        if target.kind != "Service" {
            let path = format!("spec.targetRefs[{i}].kind");
            unserved(&path, format!("Unsupported value: {:?}: supported values: \"Service\"", target.kind));
        } else if !target.group.is_empty() {
            let path = format!("spec.targetRefs[{i}].group");
            unserved(&path, format!("Unsupported value: {:?}: supported values: \"\"", target.group));
        }
    }
    let validation = &policy.spec.validation;
    if let Some(other) = validation.well_known_ca_certificates.as_deref().filter(|known| *known != "System") {
        unserved("spec.validation.wellKnownCACertificates", format!("Unsupported value: {other:?}: supported values: \"System\""));
    }
    if !is_host(&validation.hostname) {
        unserved("spec.validation.hostname", format!("Invalid value: {:?}: must be a host name", validation.hostname));
    }
}

fn is_host(name: &str) -> bool {
    DnsName::try_from(name).is_ok()
}
