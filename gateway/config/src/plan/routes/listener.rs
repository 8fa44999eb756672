//! All routes of a listener as one configuration of the router plugin `rules`, which orders their rules by the Gateway API's precedence itself.

use serde_json::json;

use super::PlannedRoute;
use crate::plan::policies::created;

/// The configuration, as JSON. `routes` have the host names that they and the listener have in common.
pub(in crate::plan) fn configuration<'r>(routes: impl IntoIterator<Item = (&'r PlannedRoute, &'r [String])>) -> String {
    let mut rules = Vec::new();
    for (route, hostnames) in routes {
        let source = format!("{}/{}", route.object.key.namespace, route.object.key.name);
        let created = created(&route.object);
        for rule in &route.rules {
            let mut rule = rule.clone();
            rule["hostnames"] = hostnames.into();
            rule["source"] = source.clone().into();
            if let Some(created) = &created {
                rule["createdAt"] = created.as_str().into();
            }
            rules.push(rule);
        }
    }
    // What is found to be wrong only there costs its own rule.
    json!({"faultyRules": "Fail", "rules": rules}).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_rule_with_a_fault_does_not_cost_its_listener_the_others() {
        let made: Value = serde_json::from_str(&configuration([])).expect("JSON");
        assert_eq!(made, json!({"faultyRules": "Fail", "rules": []}));
    }
}
