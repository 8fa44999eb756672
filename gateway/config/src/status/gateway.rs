//! The status of a Gateway and of its listeners.

use serde_json::{Value, json};

use super::{Condition, generation};
use crate::plan::{Conflict, GROUP, GatewayListener, PlannedGateway};

pub(super) fn status(gateway: &PlannedGateway, conflicts: &[&Conflict]) -> Value {
    let generation = generation(&gateway.object);
    let conflict = |i: usize| conflicts.iter().find(|conflict| conflict.path == format!("spec.listeners[{i}]")).copied();
    let listeners: Vec<(bool, Value)> = gateway
        .listeners
        .iter()
        .enumerate()
        .map(|(i, listener)| self::listener(listener, gateway.accepted.is_ok(), conflict(i), generation))
        .collect();
    let valid = listeners.iter().filter(|(valid, _)| *valid).count();
    let accepted = match &gateway.accepted {
        Err(_) => Condition::of("Accepted", &gateway.accepted, "Accepted", generation),
        Ok(()) if valid == listeners.len() => Condition::new("Accepted", true, "Accepted", "", generation),
        Ok(()) => {
            let what = format!("{valid} of {} listeners are valid", listeners.len());
            Condition::new("Accepted", valid > 0, "ListenersNotValid", what, generation)
        }
    };
    let programmed = if accepted.status == "True" {
        Condition::new("Programmed", true, "Programmed", "", generation)
    } else {
        Condition::new("Programmed", false, "Invalid", "the Gateway is not accepted", generation)
    };
    let mut conditions = vec![accepted, programmed];
    conditions.extend(gateway.resolved.as_ref().map(|resolved| Condition::of("ResolvedRefs", resolved, "ResolvedRefs", generation)));
    if insecure(gateway) {
        let what = "clients without a valid certificate are let in (AllowInsecureFallback)";
        conditions.push(Condition::new("InsecureFrontendValidationMode", true, "ConfigurationChanged", what, generation));
    }
    let addresses: Vec<Value> = gateway
        .addresses
        .iter()
        .filter(|ip| !ip.is_unspecified())
        .map(|ip| json!({"type": "IPAddress", "value": ip.to_string()}))
        .collect();
    let listeners: Vec<Value> = listeners.into_iter().map(|(_, listener)| listener).collect();
    json!({"addresses": addresses, "conditions": conditions, "listeners": listeners})
}

/// Whether clients are let in whatever certificate they show.
fn insecure(gateway: &PlannedGateway) -> bool {
    let tree = gateway.object.value.tree();
    let frontend = tree.pointer("/spec/tls/frontend");
    let ports = frontend.and_then(|frontend| frontend.get("perPort")?.as_array()).into_iter().flatten();
    let all = ports.filter_map(|port| port.get("tls")).chain(frontend.and_then(|frontend| frontend.get("default")));
    all.filter_map(|tls| tls.pointer("/validation/mode")).any(|mode| mode == "AllowInsecureFallback")
}

/// A listener's status, and whether it is valid.
fn listener(listener: &GatewayListener, accepted: bool, conflict: Option<&Conflict>, generation: Option<i64>) -> (bool, Value) {
    let kinds: Vec<Value> = listener.kinds().iter().map(|kind| json!({"group": GROUP, "kind": kind.name()})).collect();
    let resolved = Condition::of("ResolvedRefs", &listener.resolved, "ResolvedRefs", generation);
    let valid = conflict.is_none() && listener.accepted.is_ok();
    let conditions = match conflict {
        Some(Conflict { reason, message, .. }) => vec![
            Condition::new("Accepted", false, reason, message.as_str(), generation),
            Condition::new("Conflicted", true, reason, message.as_str(), generation),
            Condition::new("Programmed", false, reason, message.as_str(), generation),
            resolved,
        ],
        None => {
            // What takes no route of any kind, or has no certificate, serves nothing.
            let served = accepted && valid && (listener.resolved.is_ok() || usable(listener));
            let programmed = if served {
                Condition::new("Programmed", true, "Programmed", "", generation)
            } else {
                Condition::new("Programmed", false, "Invalid", "the listener or its Gateway is not valid", generation)
            };
            vec![
                Condition::of("Accepted", &listener.accepted, "Accepted", generation),
                Condition::new("Conflicted", false, "NoConflicts", "", generation),
                programmed,
                resolved,
            ]
        }
    };
    let status = json!({"name": listener.name, "attachedRoutes": listener.routes, "supportedKinds": kinds, "conditions": conditions});
    (valid, status)
}

/// Of several kinds of routes those that it can take are served.
fn usable(listener: &GatewayListener) -> bool {
    listener.resolved.as_ref().is_err_and(|refusal| refusal.reason == "InvalidRouteKinds") && !listener.kinds().is_empty()
}
