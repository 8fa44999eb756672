//! The status of our own policies, as GEP-713 has it. The ancestor of each entry is the target itself: a policy that targets a Service counts there whether
//! a Gateway leads to it or not.

use std::collections::HashMap;

use serde_json::{Value, json};
use sluicegate_model::fault::{Fault, Severity};

use super::{Condition, generation};
use crate::plan::{CONTROLLER, GROUP, PlannedPolicy, PolicyTarget, Reason};

/// As many as the schema allows.
const MOST_ANCESTORS: usize = 16;

/// What is wrong with policies themselves, by their keys.
pub(super) fn invalid(faults: &[Fault]) -> HashMap<String, String> {
    let mut all: HashMap<String, Vec<&str>> = HashMap::new();
    for fault in faults.iter().filter(|fault| fault.severity == Severity::Error) {
        let policy = fault.object.as_ref().filter(|object| KINDS.iter().any(|kind| object.starts_with(kind)));
        if let Some(policy) = policy {
            all.entry(policy.clone()).or_default().push(&fault.message);
        }
    }
    all.into_iter().map(|(policy, messages)| (policy, messages.join("; "))).collect()
}

const KINDS: [&str; 3] = ["BackendTrafficPolicy ", "ClientTrafficPolicy ", "XBackendTrafficPolicy "];

pub(super) fn status(policy: &PlannedPolicy, invalid: Option<&String>) -> Value {
    let ancestors = policy.targets.iter().take(MOST_ANCESTORS).map(|target| {
        let conditions = [accepted(policy, target, invalid)];
        json!({"ancestorRef": reference(policy, target), "controllerName": CONTROLLER, "conditions": conditions})
    });
    json!({ "ancestors": ancestors.collect::<Vec<_>>() })
}

fn accepted(policy: &PlannedPolicy, target: &PolicyTarget, invalid: Option<&String>) -> Condition {
    let generation = generation(&policy.object);
    match (&target.accepted, invalid) {
        (Err(_), _) => Condition::of("Accepted", &target.accepted, Reason::Accepted, generation),
        (Ok(()), Some(what)) => Condition::new("Accepted", false, Reason::Invalid, what.as_str(), generation),
        (Ok(()), None) => Condition::new("Accepted", true, Reason::Accepted, policy.without_effect.join("; "), generation),
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
