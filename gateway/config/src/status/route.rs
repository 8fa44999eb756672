//! The status of a route: an entry for each parent that is a Gateway of this gateway, or a ListenerSet of one.

use serde_json::{Value, json};

use std::collections::HashMap;

use super::{Condition, generation};
use crate::plan::{Attachment, CONTROLLER, ParentRef, PlannedRoute, Reason};

/// Makes the status of a route. `refused` has the configuration that plugins refuse, by the keys of the objects that have it.
pub(super) fn status(route: &PlannedRoute, attached: &[&Attachment], refused: &HashMap<String, String>) -> Value {
    let refused = refused_rules(route, refused);
    let mut attached = attached.to_vec();
    attached.sort_by_key(|attachment| attachment.parent);
    let parents = attached.into_iter().filter_map(|attachment| {
        let parent = route.parents.get(attachment.parent)?;
        let conditions = conditions(route, attachment, &refused);
        Some(json!({"parentRef": reference(parent), "controllerName": CONTROLLER, "conditions": conditions}))
    });
    json!({ "parents": parents.collect::<Vec<_>>() })
}

/// What is wrong with the rules whose own routers refuse their configuration. Such a rule answers 503, or as it did before.
fn refused_rules(route: &PlannedRoute, refused: &HashMap<String, String>) -> Vec<String> {
    if refused.is_empty() {
        return Vec::new();
    }
    let routers = route.settings.iter().filter_map(|(name, rule)| Some((name, rule.router.as_ref()?.plugin.at.as_ref()?)));
    let wrong = routers.filter_map(|(name, at)| {
        let object = at.object.to_string();
        Some(format!("{name}: the router of {object} is refused: {}", refused.get(&object)?))
    });
    wrong.collect()
}

fn conditions(route: &PlannedRoute, attachment: &Attachment, refused: &[String]) -> Vec<Condition> {
    let generation = generation(&route.object);
    let resolved = Condition::of("ResolvedRefs", &route.references, Reason::ResolvedRefs, generation);
    let accepted = Condition::of("Accepted", &attachment.accepted, Reason::Accepted, generation);
    if attachment.accepted.is_err() || (route.invalid.is_empty() && refused.is_empty()) {
        return vec![accepted, resolved];
    }
    let what = route.invalid.iter().chain(refused).map(String::as_str).collect::<Vec<_>>().join("; ");
    if route.invalid_rules + refused.len() == route.count {
        return vec![Condition::new("Accepted", false, Reason::UnsupportedValue, what, generation), resolved];
    }
    let partially = Condition::new("PartiallyInvalid", true, Reason::UnsupportedValue, format!("Dropped Rule: {what}"), generation);
    vec![accepted, resolved, partially]
}

/// The parent reference as the status has it: `group` and `kind` are always written.
fn reference(parent: &ParentRef) -> Value {
    let mut written = json!({"group": parent.group, "kind": parent.kind, "name": parent.name});
    let optional = [
        ("namespace", parent.namespace.clone().map(Value::from)),
        ("sectionName", parent.section.clone().map(Value::from)),
        ("port", parent.port.map(Value::from)),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            written[field] = value;
        }
    }
    written
}
