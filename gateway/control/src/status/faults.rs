//! All present faults, from every step.

use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::plugin::{PluginError, Stage};

use super::Parts;
use crate::assemble::refused;

/// The faults of objects and the plan, of what was assembled, of plugins that were refused, and of Services whose endpoints could not be found, in
/// the order of their places and without duplicates.
pub(super) fn all(parts: &Parts<'_>) -> Vec<Fault> {
    let mut faults = parts.planned.to_vec();
    faults.extend(assembled(parts));
    for (planned, error, serving) in parts.registry.refused() {
        let message = error.to_string();
        if !faults.iter().any(|f| f.message == message) {
            let serving = serving.map_or("no generation serves".to_owned(), |number| format!("generation {number} serves"));
            faults.push(Fault { severity: Severity::Error, place: planned.place.clone(), object: None, message, expected: Some(serving) });
        }
    }
    faults.sort_by(|a, b| (&a.place, &a.message).cmp(&(&b.place, &b.message)));
    faults.dedup();
    faults
}

/// What plugins refuse of the configuration that objects have for them, and what else could not be assembled.
pub(super) fn assembled(parts: &Parts<'_>) -> Vec<Fault> {
    parts.assembler.faults().cloned().chain(discovery(parts)).collect()
}

/// The faults of Services whose endpoints could not be found. If the configuration does not fit the plugin's schema, they name its fields.
fn discovery(parts: &Parts<'_>) -> Vec<Fault> {
    let failed = parts.runner.failures().filter_map(|(key, reason)| {
        let service = parts.planner.service(&key.namespace, &key.name)?;
        Some((service, &service.ports.first()?.discovery, reason))
    });
    let faults = failed.flat_map(|(service, used, reason)| {
        let error = PluginError { plugin: used.plugin.as_str().into(), stage: Stage::Configure, reason: reason.to_owned() };
        refused(used, &error, parts.registry).into_iter().map(|mut fault| {
            fault.place = fault.place.or_else(|| Some(service.object.origin.place("metadata.name")));
            fault.object = fault.object.or_else(|| Some(service.object.key.to_string()));
            fault
        })
    });
    faults.collect()
}
