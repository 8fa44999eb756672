//! The status of our own policies, as GEP-713 defines it. The ancestor of each entry is the target itself: a policy that targets a Service counts there,
//! whether or not a Gateway leads to it.

use std::collections::HashMap;

use serde_json::{Value, json};
use sluicegate_model::fault::{Fault, Severity};

use super::{Condition, generation};
use crate::plan::{CONTROLLER, GROUP, PlannedPolicy, PolicyTarget, Reason, Shadow};

/// The greatest number of ancestors that the schema allows.
const MOST_ANCESTORS: usize = 16;

/// What is wrong with policies themselves, by their keys, taken from the faults of a plan.
pub(super) fn invalid(faults: &[Fault]) -> HashMap<String, String> {
    errors(faults, |object| KINDS.iter().any(|kind| object.starts_with(kind)))
}

/// Which configuration plugins refuse, by the keys of the objects that have it, taken from the faults of what could not be assembled.
pub fn refused(faults: &[Fault]) -> HashMap<String, String> {
    errors(faults, |_| true)
}

fn errors(faults: &[Fault], of: impl Fn(&str) -> bool) -> HashMap<String, String> {
    let mut all: HashMap<&str, Vec<&str>> = HashMap::new();
    for fault in faults.iter().filter(|fault| fault.severity == Severity::Error) {
        let Some(object) = fault.object.as_deref().filter(|object| of(object)) else { continue };
        let known = all.entry(object).or_default();
        // Several listeners may give the same configuration to a plugin, which refuses it each time.
        if !known.contains(&fault.message.as_str()) {
            known.push(&fault.message);
        }
    }
    all.into_iter().map(|(object, messages)| (object.to_owned(), messages.join("; "))).collect()
}

const KINDS: [&str; 3] = ["BackendTrafficPolicy ", "ClientTrafficPolicy ", "XBackendTrafficPolicy "];

/// Makes the status of a policy. `invalid` is what is wrong with the policy itself; `shadows` are notes about listeners that share an address.
pub(super) fn status<'i>(
    policy: &PlannedPolicy,
    invalid: impl Iterator<Item = &'i String>,
    shadows: impl Iterator<Item = &'i Shadow>,
) -> Value {
    let invalid: Vec<&str> = invalid.map(String::as_str).collect();
    let mut remarks: Vec<&str> = policy.without_effect.iter().chain(shadows.map(|shadow| &shadow.message)).map(String::as_str).collect();
    // The same may be noted for two addresses.
    remarks.dedup();
    let ancestors = policy.targets.iter().take(MOST_ANCESTORS).map(|target| {
        let conditions = [accepted(policy, target, &invalid, &remarks)];
        json!({"ancestorRef": reference(policy, target), "controllerName": CONTROLLER, "conditions": conditions})
    });
    json!({ "ancestors": ancestors.collect::<Vec<_>>() })
}

fn accepted(policy: &PlannedPolicy, target: &PolicyTarget, invalid: &[&str], remarks: &[&str]) -> Condition {
    let generation = generation(&policy.object);
    match (&target.accepted, invalid) {
        (Err(_), _) => Condition::of("Accepted", &target.accepted, Reason::Accepted, generation),
        (Ok(()), [_, ..]) => Condition::new("Accepted", false, Reason::Invalid, invalid.join("; "), generation),
        (Ok(()), []) => Condition::new("Accepted", true, Reason::Accepted, remarks.join("; "), generation),
    }
}

fn reference(policy: &PlannedPolicy, target: &PolicyTarget) -> Value {
    let to = &target.reference;
    let group = if to.kind == "Service" { "" } else { GROUP };
    let mut written = json!({"group": group, "kind": to.kind, "namespace": policy.object.key.namespace, "name": to.name});
    if let Some(section) = &to.section_name {
        written["sectionName"] = section.as_str().into();
    }
    written
}
