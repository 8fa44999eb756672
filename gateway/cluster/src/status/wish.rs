//! What is wished of each object's status.

use std::hash::{BuildHasher as _, RandomState};

use serde_json::{Value, json};
use sluicegate_config::object::ObjectKey;
use sluicegate_model::status::{PluginState, PluginStatus, Status};
use tokio::time::Instant;

use super::kinds::{KINDS, Written};
use crate::fleet::Fleet;
use crate::turn::Has;

/// What is wished of an object's status.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) key: ObjectKey,
    pub(crate) written: &'static Written,
    pub(crate) status: Value,
    /// Tells this wish from others of the same object.
    pub(crate) print: u64,
}

impl Wish {
    pub(crate) fn new(written: &'static Written, namespace: &str, name: &str, status: Value, hasher: &RandomState) -> Self {
        let print = hasher.hash_one(status.to_string());
        Self { key: ObjectKey::new(written.kind, namespace, name), written, status, print }
    }
}

/// What the names of features of the Gateway API begin with, and the kind without which a server does not have them: `retry` of an HTTPRoute's rule is of the
/// experimental channel, of which XBackendTrafficPolicy is as well. A server with the standard channel drops the field.
const NEED: [(&str, &str); 7] = [
    ("BackendTLSPolicy", "BackendTLSPolicy"),
    ("GRPCRoute", "GRPCRoute"),
    ("HTTPRouteRetry", "XBackendTrafficPolicy"),
    ("ListenerSet", "ListenerSet"),
    ("TCPRoute", "TCPRoute"),
    ("TLSRoute", "TLSRoute"),
    ("UDPRoute", "UDPRoute"),
];

/// What the names of features begin with that the server does not have, so that a GatewayClass does not claim them.
pub(super) fn not_had(has: &Has) -> Vec<&'static str> {
    NEED.iter().filter(|(_, kind)| !has(kind)).map(|(name, _)| *name).collect()
}

/// The wishes of objects that the plan judges, in the order in which they are written, without the features that are `not_had`.
pub(super) fn objects(status: &Status, not_had: &[&str], hasher: &RandomState) -> Vec<Wish> {
    let Some(objects) = &status.objects else { return Vec::new() };
    let of = |written: &'static Written| {
        let judged = objects.judged(written.plural).unwrap_or_default();
        judged.into_iter().map(move |mut it| {
            if let Some(features) = it.status.get_mut("supportedFeatures").and_then(Value::as_array_mut) {
                let has = |name: &str| !not_had.iter().any(|start| name.starts_with(start));
                features.retain(|feature| feature["name"].as_str().is_some_and(has));
            }
            Wish::new(written, &it.namespace, &it.name, it.status, hasher)
        })
    };
    KINDS.iter().flat_map(of).collect()
}

/// The wishes of Plugins.
pub(crate) fn plugins(status: &Status, fleet: &Fleet, hasher: &RandomState) -> Vec<Wish> {
    let Some((_, written)) = Written::named("Plugin") else { return Vec::new() };
    let now = Instant::now();
    let of = |told: &PluginStatus| {
        let namespace = told.namespace.as_ref()?;
        Some(Wish::new(written, namespace, &told.name, plugin(told, fleet.of(namespace, &told.name, now)), hasher))
    };
    status.plugins.iter().filter_map(of).collect()
}

/// The status of a Plugin: what runs here, and by count what nodes have told that they run. Numbers of generations count within one process, so a file's digest
/// says which one it is.
fn plugin(plugin: &PluginStatus, nodes: Option<(Value, Value)>) -> Value {
    let why = plugin.reason.as_deref().unwrap_or_default();
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message});
        if let Some(generation) = plugin.observed_generation {
            condition["observedGeneration"] = generation.into();
        }
        condition
    };
    let accepted = match plugin.state {
        PluginState::Active => condition("Accepted", true, "Accepted", ""),
        PluginState::Disabled => condition("Accepted", true, "Accepted", "an operator has turned it off"),
        PluginState::Degraded | PluginState::Failed => condition("Accepted", false, "Refused", why),
    };
    let quarantined = plugin.generation.as_ref().is_some_and(|generation| generation.stats.quarantined());
    let serving = match (&plugin.generation, plugin.state) {
        (_, PluginState::Disabled) => condition("Serving", false, "Disabled", "an operator has turned it off"),
        (None, _) => condition("Serving", false, "NoGeneration", "no generation of it serves"),
        (Some(_), _) if quarantined => condition("Serving", false, "Quarantined", "the generation has failed too often"),
        (Some(_), PluginState::Degraded) => condition("Serving", true, "OlderGeneration", "the last good generation serves"),
        (Some(_), _) => condition("Serving", true, "Serving", ""),
    };
    let generation = plugin.generation.as_ref().map(|g| json!({"version": g.version, "sha256": g.sha256}));
    let trial = plugin
        .rollout
        .as_ref()
        .map(|trial| json!({"phase": trial.phase, "version": trial.generation.version, "sha256": trial.generation.sha256}));
    let (nodes, consistent) = nodes.unzip();
    let consistent = consistent.map(|mut condition| {
        if let Some(generation) = plugin.observed_generation {
            condition["observedGeneration"] = generation.into();
        }
        condition
    });
    let conditions: Vec<Value> = [accepted, serving].into_iter().chain(consistent).collect();
    // What is not there is written as such: it may have been there before.
    json!({"conditions": conditions, "serving": generation, "trial": trial, "nodes": nodes})
}
