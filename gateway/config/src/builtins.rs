//! Built-in plugins.

pub use sluicegate_builtins::DEFAULT_DISCOVERY;
use sluicegate_builtins::{BUILTINS, Kind};
use sluicegate_model::plugin::PluginKind;

/// All built-in plugins, with their kinds. Each may be named without a `Plugin` object.
pub fn all<'n>() -> impl Iterator<Item = (&'n str, PluginKind)> {
    BUILTINS.iter().map(|(name, kind)| {
        let kind = match kind {
            Kind::Balancer => PluginKind::Balancer,
            Kind::Discovery => PluginKind::Discovery,
            Kind::Router => PluginKind::Router,
        };
        (*name, kind)
    })
}
