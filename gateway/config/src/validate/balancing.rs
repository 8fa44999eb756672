//! Rules of what balancers hash.

use http::HeaderName;
use sluicegate_model::fault::Fault;

use crate::object::ours::{BackendTrafficPolicySpec, Hash};
use crate::object::{Object, error};

const COOKIE: &str = "spec.loadBalancer.hash.cookie";

pub(super) fn check(object: &Object, spec: &BackendTrafficPolicySpec, faults: &mut Vec<Fault>) {
    let Some(Hash::Cookie { cookie }) = spec.load_balancer.as_ref().and_then(|balancer| balancer.hash.as_ref()) else { return };
    let mut invalid = |field: &str, what: String| {
        let path = format!("{COOKIE}.{field}");
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), None));
    };
    if !token(&cookie.name) {
        invalid("name", format!("Invalid value: {:?}: must be a token, such as \"session\"", cookie.name));
    }
    if cookie.ttl.is_none() && !cookie.attributes.is_empty() {
        invalid("attributes", "Forbidden: only a cookie that the gateway sets has attributes: it needs a ttl".to_owned());
    }
    for (name, value) in &cookie.attributes {
        if ["Max-Age", "Expires"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            invalid("attributes", format!("Forbidden: {name} is what the ttl says"));
        } else if !token(name) || value.bytes().any(|byte| byte == b';' || !(b' '..=b'~').contains(&byte)) {
            invalid("attributes", format!("Invalid value: {name:?}: {value:?}: must be a token, and printable ASCII without \";\""));
        }
    }
}

/// RFC 6265 §4.1.1 has RFC 9110's token for names, as header fields have.
fn token(name: &str) -> bool {
    name.parse::<HeaderName>().is_ok()
}
