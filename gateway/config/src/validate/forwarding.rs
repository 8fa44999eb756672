//! Rules of client addresses and header fields.

use http::{HeaderName, HeaderValue};
use sluicegate_model::fault::Fault;
use sluicegate_model::fields::may_be_trailer;

use crate::object::ours::{HeaderField, HeaderFilter};
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy, Object, error};

pub(super) fn client(object: &Object, policy: &ClientTrafficPolicy, faults: &mut Vec<Fault>) {
    let spec = &policy.spec;
    let mut invalid = |path: &str, what: String| faults.push(error(&object.origin, &object.key, path, format!("{path}: {what}"), None));
    if let Some(given) = &spec.client_ip_detection.x_forwarded_for
        && given.num_trusted_hops.is_some() == given.trusted_cidrs.is_some()
    {
        invalid("spec.clientIPDetection.xForwardedFor", "exactly one of `numTrustedHops` and `trustedCIDRs` is wanted".to_owned());
    }
    if let Some(via) = &spec.headers.via
        && (via.is_empty() || !via.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&b)))
    {
        invalid("spec.headers.via", format!("Invalid value: {via:?}: must be a host name or a token, such as \"edge-1\""));
    }
    if let Some(rate) = spec.headers.trace_context.as_ref().and_then(|t| t.sampling_rate).filter(|rate| *rate > 100) {
        invalid("spec.headers.traceContext.samplingRate", format!("Invalid value: {rate}: must be between 0 and 100, inclusive"));
    }
    if let Some(filter) = &spec.headers.early_request_headers {
        changes("spec.headers.earlyRequestHeaders", filter, &mut invalid);
    }
}

pub(super) fn backend(object: &Object, policy: &BackendTrafficPolicy, faults: &mut Vec<Fault>) {
    for (i, name) in policy.spec.trailers.request.allow.iter().enumerate() {
        let path = format!("spec.trailers.request.allow[{i}]");
        let what = match name.parse::<HeaderName>() {
            Err(_) => format!("{name:?} is not a header field's name"),
            Ok(known) if !may_be_trailer(known.as_str()) => {
                format!("{name:?} may not come behind the content: it frames, routes, authenticates or identifies (RFC 9110 §6.5.1)")
            }
            Ok(_) => continue,
        };
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: {what}"), None));
    }
}

fn changes(path: &str, filter: &HeaderFilter, invalid: &mut impl FnMut(&str, String)) {
    let name = |path: &str, name: &str, invalid: &mut dyn FnMut(&str, String)| match name.parse::<HeaderName>() {
        Err(_) => invalid(path, format!("{name:?} is not a header field's name")),
        // The gateway makes them: what delimits messages is never taken from text.
        Ok(known) if ["connection", "content-length", "transfer-encoding", "upgrade"].contains(&known.as_str()) => {
            invalid(path, format!("{name:?} is the gateway's own: it frames messages"));
        }
        Ok(_) => {}
    };
    let lists: [(&str, &[HeaderField]); 2] = [("set", &filter.set), ("add", &filter.add)];
    for (list, fields) in lists {
        for (i, field) in fields.iter().enumerate() {
            name(&format!("{path}.{list}[{i}].name"), &field.name, invalid);
            if HeaderValue::from_str(&field.value).is_err() {
                invalid(&format!("{path}.{list}[{i}].value"), format!("{:?} is not a header field's value", field.value));
            }
        }
    }
    for (i, removed) in filter.remove.iter().enumerate() {
        name(&format!("{path}.remove[{i}]"), removed, invalid);
    }
}
