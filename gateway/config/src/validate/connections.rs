//! What policies say of connections.

use sluicegate_model::fault::Fault;

use crate::object::ours::{Span, TcpKeepalive};
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy, Object, error};

pub(super) fn client(object: &Object, policy: &ClientTrafficPolicy, faults: &mut Vec<Fault>) {
    keepalive(object, policy.spec.tcp_keepalive, faults);
    if policy.spec.proxy_protocol.as_ref().is_some_and(|p| p.trusted_cidrs.is_empty()) {
        // Whoever may write the header may claim any address: that is never given by default.
        let path = "spec.proxyProtocol.trustedCIDRs";
        let hint = "the addresses of the load balancers in front; [0.0.0.0/0, \"::/0\"] believes everybody";
        faults.push(error(&object.origin, &object.key, path, format!("{path}: Required value"), Some(hint.to_owned())));
    }
}

pub(super) fn backend(object: &Object, policy: &BackendTrafficPolicy, faults: &mut Vec<Fault>) {
    keepalive(object, policy.spec.tcp_keepalive, faults);
}

/// The kernel's own limits (tcp(7): `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`).
fn keepalive(object: &Object, given: Option<TcpKeepalive>, faults: &mut Vec<Fault>) {
    let Some(given) = given else { return };
    let mut invalid = |field: &str, what: String| {
        let path = format!("spec.tcpKeepalive.{field}");
        faults.push(error(&object.origin, &object.key, &path, format!("{path}: Invalid value: {what}"), None));
    };
    let mut seconds = |field: &str, span: Option<Span>| {
        if let Some(Span(span)) = span.filter(|s| s.0.subsec_nanos() != 0 || !(1..=32_767).contains(&s.0.as_secs())) {
            invalid(field, format!("{span:?}: must be whole seconds between 1s and 32767s"));
        }
    };
    seconds("idleTime", given.idle_time);
    seconds("interval", given.interval);
    if let Some(probes) = given.probes.filter(|p| !(1..=127).contains(p)) {
        invalid("probes", format!("{probes}: must be between 1 and 127, inclusive"));
    }
}
