//! The status of a Gateway.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Circumstances, Condition, generation, listener};
use crate::plan::{PlannedGateway, Reason};

/// Makes the status. `sets` is the number of ListenerSets that are attached to the Gateway.
pub(super) fn status(gateway: &PlannedGateway, circumstances: Circumstances<'_>, sets: usize) -> Value {
    let generation = generation(&gateway.object);
    let addresses = gateway.accepted.is_ok().then_some(gateway.addresses.as_slice());
    let listeners = listener::list((&gateway.object.key, &gateway.listeners), addresses, circumstances, generation);
    let valid = listeners.iter().filter(|listener| listener.valid).count();
    let accepted = match &gateway.accepted {
        Err(_) => Condition::of("Accepted", &gateway.accepted, Reason::Accepted, generation),
        Ok(()) if valid == listeners.len() => Condition::new("Accepted", true, Reason::Accepted, "", generation),
        Ok(()) => {
            let what = format!("{valid} of {} listeners are valid", listeners.len());
            Condition::new("Accepted", valid > 0, Reason::ListenersNotValid, what, generation)
        }
    };
    let unbound: Vec<&(IpAddr, String)> = listeners.iter().flat_map(|listener| &listener.unbound).collect();
    let programmed = match (&gateway.usable, unbound.first()) {
        _ if accepted.status != "True" => Condition::new("Programmed", false, Reason::Invalid, "the Gateway is not accepted", generation),
        (Ok(()), Some((_, why))) => Condition::new("Programmed", false, Reason::AddressNotUsable, why.as_str(), generation),
        (usable, _) => Condition::of("Programmed", usable, Reason::Programmed, generation),
    };
    let mut conditions = vec![accepted, programmed];
    conditions.extend(gateway.resolved.as_ref().map(|resolved| Condition::of("ResolvedRefs", resolved, Reason::ResolvedRefs, generation)));
    if insecure(gateway) {
        let what = "clients without a valid certificate are let in (AllowInsecureFallback)";
        conditions.push(Condition::new("InsecureFrontendValidationMode", true, Reason::ConfigurationChanged, what, generation));
    }
    // An address is shown only if all listeners are bound to it.
    let bound = addresses.unwrap_or_default().iter().filter(|address| !unbound.iter().any(|(ip, _)| *ip == address.listen));
    let addresses: Vec<Value> =
        bound.flat_map(|address| &address.shown).map(|ip| json!({"type": "IPAddress", "value": ip.to_string()})).collect();
    let listeners: Vec<Value> = listeners.into_iter().map(|listener| listener.value).collect();
    json!({"addresses": addresses, "attachedListenerSets": sets, "conditions": conditions, "listeners": listeners})
}

/// Whether clients are let in whatever certificate they show, or without one.
fn insecure(gateway: &PlannedGateway) -> bool {
    let tree = gateway.object.value.tree();
    let frontend = tree.pointer("/spec/tls/frontend");
    let ports = frontend.and_then(|frontend| frontend.get("perPort")?.as_array()).into_iter().flatten();
    let all = ports.filter_map(|port| port.get("tls")).chain(frontend.and_then(|frontend| frontend.get("default")));
    all.filter_map(|tls| tls.pointer("/validation/mode")).any(|mode| mode == "AllowInsecureFallback")
}
