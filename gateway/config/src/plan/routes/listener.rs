//! All routes of a listener as one configuration of the router plugin `rules`, which orders their rules by the Gateway API's precedence itself.

use serde_json::json;

use super::PlannedRoute;

/// The configuration, as JSON. `routes` have the host names that they and the listener have in common. Rules are written already, each an object with a
/// name, and are joined as text: of ten thousand routes one changes at a time.
pub(in crate::plan) fn configuration<'r>(routes: impl IntoIterator<Item = (&'r PlannedRoute, &'r [String])>) -> String {
    // What is found to be wrong only there costs its own rule.
    let mut text = r#"{"faultyRules":"Fail","rules":["#.to_owned();
    let mut first = true;
    for (route, hostnames) in routes {
        let mut more = json!({
            "hostnames": hostnames,
            "source": route.age.name(),
        });
        if let Some(created) = route.age.created() {
            more["createdAt"] = created.into();
        }
        let more = more.to_string();
        for rule in &route.rules {
            if !std::mem::take(&mut first) {
                text.push(',');
            }
            // The end of the one object, and the beginning of the other.
            text.push_str(rule.strip_suffix('}').unwrap_or(rule));
            text.push(',');
            text.push_str(more.strip_prefix('{').unwrap_or(&more));
        }
    }
    text.push_str("]}");
    text
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
