//! Rules of `Backend`, `GatewayParameters` and `HTTPRouteFilter`.

use rustls_pki_types::DnsName;
use sluicegate_model::fault::Fault;

use super::{limits, tls};
use crate::object::ours::{Backend, BackendEndpoint, GatewayParameters, HttpRouteFilter};
use crate::object::{Object, error};

const MOST_ENDPOINTS: usize = 64;
/// Envoy Gateway's limit.
const LONGEST_BODY: usize = 4096;
const LONGEST_CONTENT_TYPE: usize = 4096;

pub(super) fn backend(object: &Object, backend: &Backend, faults: &mut Vec<Fault>) {
    let endpoints = &backend.spec.endpoints;
    let mut invalid = |path: String, what: String, expected: Option<&str>| {
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), expected.map(str::to_owned)));
    };
    if endpoints.is_empty() || endpoints.len() > MOST_ENDPOINTS {
        let what = format!("has {} items: must have 1 to {MOST_ENDPOINTS}", endpoints.len());
        invalid("spec.endpoints".to_owned(), what, None);
    }
    if endpoints.len() > 1 && backend.spec.fqdn().is_some() {
        let hint = "one endpoint with a host name, or several with addresses";
        invalid("spec.endpoints".to_owned(), "a host name stands beside other endpoints".to_owned(), Some(hint));
    }
    for (i, BackendEndpoint { fqdn, ip, .. }) in endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{i}]");
        match (fqdn, ip) {
            (Some(fqdn), None) => {
                if DnsName::try_from(fqdn.hostname.as_str()).is_err() {
                    invalid(format!("{path}.fqdn.hostname"), format!("Invalid value: {:?}: must be a host name", fqdn.hostname), None);
                }
                if fqdn.port == 0 {
                    invalid(format!("{path}.fqdn.port"), "must be between 1 and 65535, inclusive".to_owned(), None);
                }
            }
            (None, Some(ip)) => {
                if ip.address.is_unspecified() {
                    invalid(format!("{path}.ip.address"), format!("Invalid value: {}: must name one address", ip.address), None);
                }
                if ip.port == 0 {
                    invalid(format!("{path}.ip.port"), "must be between 1 and 65535, inclusive".to_owned(), None);
                }
            }
            _ => invalid(path, "exactly one of `fqdn` and `ip` is wanted".to_owned(), None),
        }
    }
    tls::backend(object, backend.spec.verified().as_ref(), faults);
}

/// As many addresses as a Gateway may have.
const MOST_ADDRESSES: usize = 16;

pub(super) fn gateway_parameters(object: &Object, parameters: &GatewayParameters, faults: &mut Vec<Fault>) {
    limits::parameters(object, &parameters.spec, faults);
    let addresses = &parameters.spec.addresses;
    if addresses.len() > MOST_ADDRESSES {
        let message = format!("spec.addresses: Too many: {}: must have at most {MOST_ADDRESSES} items", addresses.len());
        faults.push(error(&object.origin, &object.key, "spec.addresses", message, None));
    }
}

pub(super) fn http_route_filter(object: &Object, filter: &HttpRouteFilter, faults: &mut Vec<Fault>) {
    let given = [filter.spec.direct_response.is_some(), filter.spec.rate_limit.is_some(), filter.spec.router.is_some()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        let message = "spec: exactly one of `directResponse`, `rateLimit` and `router` is wanted".to_owned();
        faults.push(error(&object.origin, &object.key, "spec", message, None));
    }
    if let Some(limit) = &filter.spec.rate_limit {
        limits::filter(object, limit, faults);
    }
    let mut invalid = |path: &str, what: String| {
        let path = format!("spec{path}");
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), None));
    };
    let Some(response) = &filter.spec.direct_response else { return };
    let status = response.status_code.unwrap_or(200);
    if !(200..=599).contains(&status) {
        invalid(".directResponse.statusCode", format!("Invalid value: {status}: must be between 200 and 599, inclusive"));
    }
    let body = response.body.as_ref().map_or("", |body| body.inline.as_str());
    if body.len() > LONGEST_BODY {
        invalid(".directResponse.body.inline", format!("must be at most {LONGEST_BODY} bytes"));
    }
    // RFC 9110 §6.4.1.
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        invalid(".directResponse.body", format!("must be empty: an answer with status {status} has no content"));
    }
    let visible = |value: &str| value.len() <= LONGEST_CONTENT_TYPE && value.bytes().all(|b| (b' '..=b'~').contains(&b));
    if response.content_type.as_deref().is_some_and(|value| !visible(value)) {
        invalid(".directResponse.contentType", "must be visible ASCII and spaces".to_owned());
    }
}
