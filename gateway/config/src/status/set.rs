//! The status of a ListenerSet (GEP-1713).

use serde_json::{Value, json};

use super::{Circumstances, Condition, generation, listener};
use crate::plan::{PlannedGateway, PlannedListenerSet, Reason, Refusal, Verdict};

/// Makes the status of a ListenerSet. `parent` is its Gateway.
pub(super) fn status(set: &PlannedListenerSet, parent: &PlannedGateway, circumstances: Circumstances<'_>) -> Value {
    let generation = generation(&set.object);
    let addresses = set.accepted.is_ok().then_some(parent.addresses.as_slice());
    let listeners = listener::list((&set.object.key, &set.listeners), addresses, circumstances, generation);
    let usable = listeners.iter().filter(|listener| listener.usable).count();
    let what = format!("{usable} of {} listeners are valid", listeners.len());
    let (accepted, programmed) = match verdict(set, usable) {
        Err(Refusal { reason, message }) => {
            let not_programmed = if reason == Reason::ParentNotAccepted { Reason::ParentNotProgrammed } else { reason };
            let message = if message.is_empty() { what } else { message };
            let accepted = Condition::new("Accepted", false, reason, message.as_str(), generation);
            (accepted, Condition::new("Programmed", false, not_programmed, message, generation))
        }
        Ok(()) => {
            let all = usable == listeners.len();
            let reason = if all { Reason::Accepted } else { Reason::ListenersNotValid };
            let accepted = Condition::new("Accepted", true, reason, if all { String::new() } else { what }, generation);
            let unbound = listeners.iter().find_map(|listener| listener.unbound.first());
            let programmed = match (&parent.usable, unbound) {
                (Err(Refusal { message, .. }), _) => {
                    Condition::new("Programmed", false, Reason::ParentNotProgrammed, message.as_str(), generation)
                }
                (Ok(()), Some((_, why))) => Condition::new("Programmed", false, Reason::PortUnavailable, why.as_str(), generation),
                (Ok(()), None) => Condition::new("Programmed", true, Reason::Programmed, "", generation),
            };
            (accepted, programmed)
        }
    };
    let listeners: Vec<Value> = listeners.into_iter().map(|listener| listener.value).collect();
    json!({"conditions": [accepted, programmed], "listeners": listeners})
}

/// Whether the set counts as attached to its Gateway.
pub(super) fn is_attached(set: &PlannedListenerSet, circumstances: Circumstances<'_>) -> bool {
    let listeners = listener::list((&set.object.key, &set.listeners), None, circumstances, None);
    verdict(set, listeners.iter().filter(|listener| listener.usable).count()).is_ok()
}

/// Whether the set is accepted: it is if at least one of its listeners can be used.
fn verdict(set: &PlannedListenerSet, usable: usize) -> Verdict {
    set.accepted.clone()?;
    if usable == 0 { Err(Refusal { reason: Reason::ListenersNotValid, message: String::new() }) } else { Ok(()) }
}
