//! Trying a version: it is loaded outside the workers, and configured with what it is going to serve.

use std::sync::Arc;

use serde_json::Value;
use sluicegate_config::plan::{PlannedPlugin, PluginSource};
use sluicegate_config::schema::{Violation, violations};
use sluicegate_host::background::{self, Urgency};
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{PluginError, RouterGeneration as _, Stage};
use sluicegate_model::route::RouteTable;
use sluicegate_model::shared::Shared;

use super::checks::Checked;
use super::{Use, Version};

/// Whether something that fails at this stage may work with another configuration.
pub(super) fn depends_on_configuration(stage: Stage) -> bool {
    !matches!(stage, Stage::Read | Stage::Signature | Stage::Compile | Stage::World | Stage::Instantiate | Stage::Describe)
}

/// Whether a new version must accept a configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptance {
    /// It must, since the version before it accepts it.
    Needed,
    /// It need not; the outcome is recorded.
    Open,
}

/// What came of trying configurations.
pub(super) type Outcomes = Vec<(Use, Checked)>;

/// Loads a plugin on a thread of its own, with low priority once somebody is served: compiling takes tens of milliseconds, and a hostile plugin as long
/// as its deadlines permit.
pub(super) async fn load(
    urgency: Urgency,
    loader: Loader,
    plugin: PlannedPlugin,
    number: u64,
    bytes: Vec<u8>,
    tries: Vec<(Use, Acceptance)>,
    shared: Shared,
) -> Result<(Version, Outcomes), PluginError> {
    let name: Arc<str> = plugin.name.as_str().into();
    let loaded = background::run(urgency, move || {
        let (loaded, description) = loader.load_with(&plugin.name, number, &bytes, plugin.kind, &plugin.limits, shared)?;
        let version = Version { loaded, description, builtin: matches!(plugin.source, PluginSource::Builtin(_)) };
        let mut outcomes = Vec::new();
        for (wanted, acceptance) in tries {
            match check(&version, None, &wanted) {
                Err(error) if acceptance == Acceptance::Needed => return Err(error),
                outcome => outcomes.push((wanted, outcome)),
            }
        }
        Ok((version, outcomes))
    });
    let failed = || PluginError { plugin: name, stage: Stage::Compile, reason: "the loader failed".to_owned() };
    loaded.await.unwrap_or_else(|| Err(failed()))
}

pub(super) fn fits(version: &Version, config: &ConfigText) -> Result<Vec<Violation>, String> {
    let config = serde_json::from_str(&config.whole()).map_err(|e| format!("the configuration is not JSON: {e}"))?;
    violations(&version.description.config_schema, &config)
}

/// Whether a schema says of the list `rules` nothing but what each of its elements is, so that they can be judged by themselves.
fn judges_one_by_one(schema: &Value) -> bool {
    let only = |object: &Value, known: &[&str]| object.as_object().is_some_and(|o| o.keys().all(|key| known.contains(&&**key)));
    only(schema, &["$schema", "$defs", "title", "description", "type", "properties", "required", "additionalProperties"])
        && only(&schema["properties"]["rules"], &["title", "description", "type", "items", "default"])
}

/// Whether a configuration fits the schema by what is different in it from one that does.
fn fits_as(version: &Version, before: &RouteTable, config: &ConfigText) -> bool {
    let changes = || {
        let changes = config.changes_since(&before.config)?;
        config.with_rules(changes.into_iter().map(|splice| splice.inserted))
    };
    judges_one_by_one(&version.description.config_schema)
        && changes().is_some_and(|changed| fits(version, &changed).is_ok_and(|violations| violations.is_empty()))
}

/// Tries a version with the configuration of a use. `before`: its last table for the same listener, which was tried as well.
pub(super) fn check(version: &Version, before: Option<&RouteTable>, wanted: &Use) -> Checked {
    let refuse = |reason| PluginError { plugin: wanted.plugin.as_str().into(), stage: Stage::Configure, reason };
    // A configuration that the gateway made of thousands of routes takes longer to check against the schema than the plugin takes to accept it.
    let judged = version.builtin && wanted.config.is_made();
    let judged = judged || before.is_some_and(|before| fits_as(version, before, &wanted.config));
    if !judged && let Some(first) = fits(version, &wanted.config).map_err(refuse)?.first() {
        return Err(refuse(format!("config {}: {}", first.path, first.message)));
    }
    match (&version.loaded, before) {
        (Loaded::Router(router), Some(before)) => router.reconfigure(before, &wanted.config).map(|table| Some(Arc::new(table))),
        (loaded, _) => loaded.trial(&wanted.config, wanted.listener.as_ref()),
    }
}
