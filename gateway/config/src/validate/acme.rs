//! Rules of `acme` in `SluicegateConfiguration`.

use std::collections::HashSet;

use sluicegate_model::fault::Fault;

use crate::object::ours::AcmeSpec;
use crate::object::{Object, error};

/// The longest name of an issuer: that of a DNS label, as it names a folder, too.
const LONGEST_NAME: usize = 63;

pub(super) fn check(object: &Object, acme: &AcmeSpec, faults: &mut Vec<Fault>) {
    let mut names = HashSet::new();
    for (i, issuer) in acme.issuers.iter().enumerate() {
        let mut invalid = |field: &str, what: String, expected: Option<&str>| {
            let path = format!("acme.issuers[{i}].{field}");
            faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), expected.map(str::to_owned)));
        };
        if !is_label(&issuer.name) {
            let expected = "lower-case letters, digits and hyphens, at most 63, with a letter or digit at either end";
            invalid("name", format!("Invalid value: {:?}", issuer.name), Some(expected));
        } else if !names.insert(&issuer.name) {
            invalid("name", format!("Duplicate value: {:?}", issuer.name), None);
        }
        if issuer.directory.parse::<http::Uri>().ok().is_none_or(|url| url.scheme_str() != Some("https") || url.host().is_none()) {
            // RFC 8555 §6.1: a CA is asked over HTTPS.
            invalid("directory", format!("Invalid value: {:?}", issuer.directory), Some("the https URL of a CA's directory"));
        }
        if !issuer.terms_of_service_agreed {
            let expected = "true, once somebody has read the CA's terms of service and agrees to them";
            invalid("termsOfServiceAgreed", "Required value: without it the CA makes no account".to_owned(), Some(expected));
        }
        if let Some(email) = issuer.email.as_ref().filter(|email| !is_email(email)) {
            invalid("email", format!("Invalid value: {email:?}"), Some("one address, such as ops@example.com"));
        }
        if issuer.challenges.as_ref().is_some_and(Vec::is_empty) {
            invalid("challenges", "Invalid value: []: a name is validated in one way at least".to_owned(), None);
        }
        if issuer.max_names == Some(0) {
            invalid("maxNames", "Invalid value: 0: must be greater than 0".to_owned(), None);
        }
        if let Some(binding) = &issuer.external_account_binding {
            for (field, value) in [("keyId", &binding.key_id), ("keyFile", &binding.key_file)] {
                if value.is_empty() {
                    invalid(&format!("externalAccountBinding.{field}"), "Required value".to_owned(), None);
                }
            }
        }
    }
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Whether it can stand in a `mailto` URL of one address without header fields (RFC 8555 §7.3).
fn is_email(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b",?&%<>\"".contains(&b));
    plain && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
}
