//! The status of a listener of a Gateway or ListenerSet.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use sluicegate_model::route::Protocol;

use super::{Circumstances, Condition};
use crate::object::ObjectKey;
use crate::plan::{Conflict, GROUP, GatewayAddress, GatewayListener, ListenerProtocol, Reason};

/// The status of a listener, and what follows from it for the object that has the listener.
pub(super) struct Listed {
    /// Whether the listener is accepted.
    pub(super) valid: bool,
    /// Whether the listener is valid, and everything that it needs in order to serve exists.
    pub(super) usable: bool,
    /// The Gateway's addresses to which the listener cannot be bound, and why.
    pub(super) unbound: Vec<(IpAddr, String)>,
    pub(super) value: Value,
}

/// Makes the statuses of an object's listeners. `addresses` is `None` if the object is not accepted for reasons other than its listeners.
pub(super) fn list(
    (object, listeners): (&ObjectKey, &[GatewayListener]),
    addresses: Option<&[GatewayAddress]>,
    circumstances: Circumstances<'_>,
    generation: Option<i64>,
) -> Vec<Listed> {
    let Circumstances { conflicts, unbound, uncertified } = circumstances;
    let of = |(i, listener): (usize, &GatewayListener)| {
        let conflict = conflicts.iter().find(|conflict| conflict.path == format!("spec.listeners[{i}]")).copied();
        let protocol = if listener.protocol == ListenerProtocol::Udp { Protocol::Udp } else { Protocol::Tcp };
        let at = |address: &GatewayAddress| (protocol, SocketAddr::new(address.listen, listener.port));
        let there = addresses.unwrap_or_default().iter().filter_map(|ip| Some((ip.listen, unbound.get(&at(ip))?.clone())));
        // The address of a listener in conflict belongs to another listener.
        let unbound = if conflict.is_none() { there.collect() } else { Vec::new() };
        let waits = (!uncertified.is_empty()).then(|| uncertified.get(&(object.to_string(), listener.name.clone())));
        status(listener, addresses.is_some(), conflict, unbound, waits.flatten(), generation)
    };
    listeners.iter().enumerate().map(of).collect()
}

fn status(
    listener: &GatewayListener,
    accepted: bool,
    conflict: Option<&Conflict>,
    unbound: Vec<(IpAddr, String)>,
    waits: Option<&String>,
    generation: Option<i64>,
) -> Listed {
    let kinds: Vec<Value> = listener.kinds().iter().map(|kind| json!({"group": GROUP, "kind": kind.name()})).collect();
    let resolved = Condition::of("ResolvedRefs", &listener.resolved, Reason::ResolvedRefs, generation);
    let valid = conflict.is_none() && listener.accepted.is_ok();
    // A listener that takes no kind of route, or has no certificate, serves nothing.
    let usable = valid && (listener.resolved.is_ok() || some_kinds(listener));
    let conditions = match conflict {
        Some(Conflict { reason, message, .. }) => vec![
            Condition::new("Accepted", false, *reason, message.as_str(), generation),
            Condition::new("Conflicted", true, *reason, message.as_str(), generation),
            Condition::new("Programmed", false, *reason, message.as_str(), generation),
            resolved,
        ],
        None => {
            let programmed = match (unbound.first(), waits) {
                _ if !accepted || !usable => {
                    Condition::new("Programmed", false, Reason::Invalid, "the listener or its Gateway is not valid", generation)
                }
                (Some((_, why)), _) => Condition::new("Programmed", false, Reason::PortUnavailable, why.as_str(), generation),
                (None, Some(why)) => Condition::new("Programmed", false, Reason::Pending, why.as_str(), generation),
                (None, None) => Condition::new("Programmed", true, Reason::Programmed, "", generation),
            };
            vec![
                Condition::of("Accepted", &listener.accepted, Reason::Accepted, generation),
                Condition::new("Conflicted", false, Reason::NoConflicts, "", generation),
                programmed,
                resolved,
            ]
        }
    };
    let value = json!({"name": listener.name, "attachedRoutes": listener.routes, "supportedKinds": kinds, "conditions": conditions});
    Listed { valid, usable, unbound, value }
}

/// Whether some of the kinds of routes that a listener names can be served, although others cannot.
fn some_kinds(listener: &GatewayListener) -> bool {
    listener.resolved.as_ref().is_err_and(|refusal| refusal.reason == Reason::InvalidRouteKinds) && !listener.kinds().is_empty()
}
