//! The faults that plugins find in their configurations.

use sluicegate_config::plan::PluginUse;
use sluicegate_config::schema::Violation;
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::plugin::{PluginError, Stage};

use crate::plugins::Registry;

/// A fault for each field that does not fit the plugin's schema; or else one with what the plugin says.
pub(crate) fn refused(plugin: &PluginUse, error: &PluginError, registry: &Registry) -> Vec<Fault> {
    let serves = match registry.live(&plugin.plugin) {
        Some(_) => "what served before goes on serving",
        None => "no generation of it serves: balancers choose at random, routers answer 503, discovered endpoints stay",
    };
    let object = plugin.at.as_ref().map(|at| at.object.to_string());
    let fault =
        |place, message| Fault { severity: Severity::Error, place, object: object.clone(), message, expected: Some(serves.to_owned()) };
    let violations = if error.stage == Stage::Configure { registry.violations(&plugin.plugin, &plugin.config) } else { Vec::new() };
    if violations.is_empty() {
        return vec![fault(plugin.place(""), error.to_string())];
    }
    let one = |v: &Violation| {
        let dot = if v.path.is_empty() || v.path.starts_with('[') { "" } else { "." };
        fault(plugin.place(&v.path), format!("plugin {}: config{dot}{}: {}", plugin.plugin, v.path, v.message))
    };
    violations.iter().map(one).collect()
}
