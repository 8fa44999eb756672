//! All routes of a listener become one configuration of the router plugin `rules`, which orders their rules by the Gateway API's precedence itself.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use sluicegate_model::config_text::{ConfigText, RuleText};

use super::PlannedRoute;

/// Makes the configuration, as JSON. Each of `routes` comes with the host names that it and the listener have in common. Where one of ten thousand routes has
/// changed, the text of the others is shared with the former configuration.
pub(in crate::plan) fn configuration<'r>(routes: impl IntoIterator<Item = (&'r PlannedRoute, &'r Arc<[String]>)>) -> ConfigText {
    let mut rules = Vec::new();
    for (route, hostnames) in routes {
        rules.extend_from_slice(&written(route, hostnames));
    }
    // A mistake that only the plugin finds costs its own rule, and no others.
    ConfigText::made(r#"{"faultyRules":"Fail""#, rules)
}

/// The rules of a route with host names, once a listener has asked for them. They follow from the route, so comparisons and debug output leave them out.
#[derive(Clone, Default)]
pub(super) struct Written(OnceLock<(Arc<[String]>, Vec<RuleText>)>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written")
    }
}

/// The rules of a route for these host names. Mostly, all listeners to which a route is attached have the same host names in common with it.
fn written<'r>(route: &'r PlannedRoute, hostnames: &Arc<[String]>) -> Cow<'r, [RuleText]> {
    let (known, written) = route.written.0.get_or_init(|| (hostnames.clone(), write(route, hostnames)));
    if known == hostnames { Cow::Borrowed(written) } else { Cow::Owned(write(route, hostnames)) }
}

/// Writes the rules of a route. Each is a JSON object with at least a name, to which host names, age and source are added.
fn write(route: &PlannedRoute, hostnames: &[String]) -> Vec<RuleText> {
    let mut more = json!({
        "hostnames": hostnames,
        "source": route.age.name(),
    });
    if let Some(created) = route.age.created() {
        more["createdAt"] = created.into();
    }
    let more = more.to_string();
    // The end of one object and the beginning of the other are replaced by a comma.
    let join = |rule: &str| format!("{},{}", rule.strip_suffix('}').unwrap_or(rule), more.strip_prefix('{').unwrap_or(&more));
    route.rules.iter().map(|rule| RuleText::from(&*join(rule))).collect()
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
