//! The compiler: plugins first, then what names them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::allowed_file::AllowedFiles;
use crate::object::ours::{CanaryRollout, PluginRollout, ShadowRollout};
use crate::object::{Body, error};
use crate::rollout::{Canary, Shadow};

/// Compiles the objects.
pub fn compile(objects: &[Arc<Object>], allocations: &Allocations, settings: &Settings) -> Plan {
    let mut compiler = Compiler { plan: Plan::default(), objects, allocations, settings, used: BTreeMap::new() };
    compiler.plugins();
    for object in objects {
        if let Body::Service(service) = &object.body {
            compiler.service(object, service);
        }
    }
    compiler.gateways();
    compiler.dangling();
    for (name, kind) in std::mem::take(&mut compiler.used) {
        if !compiler.plan.plugins.iter().any(|p| p.name == name) {
            let source = PluginSource::Builtin(name.clone());
            compiler.plan.plugins.push(PlannedPlugin {
                name,
                kind,
                source,
                limits: Limits::default(),
                failure_policy: FailurePolicy::default(),
                persists: false,
                rollout: Rollout::default(),
                place: None,
            });
        }
    }
    compiler.shadowed();
    // A policy is read once for each port it targets, and says the same each time.
    let mut seen = Vec::new();
    compiler.plan.faults.retain(|fault| {
        let new = !seen.contains(fault);
        if new {
            seen.push(fault.clone());
        }
        new
    });
    compiler.plan
}

pub(super) struct Compiler<'a> {
    pub(super) plan: Plan,
    pub(super) objects: &'a [Arc<Object>],
    pub(super) allocations: &'a Allocations,
    pub(super) settings: &'a Settings,
    pub(super) used: BTreeMap<String, PluginKind>,
}

impl<'a> Compiler<'a> {
    pub(super) fn plugins(&mut self) {
        for object in self.objects {
            let Body::Plugin(plugin) = &object.body else { continue };
            let folder = object.origin.file().parent().unwrap_or_else(|| std::path::Path::new("."));
            let source = match (&plugin.spec.source.builtin, &plugin.spec.source.file) {
                (Some(name), _) => PluginSource::Builtin(name.clone()),
                (None, Some(file)) => PluginSource::File { path: folder.join(file), sha256: plugin.spec.source.sha256.clone() },
                (None, None) => continue,
            };
            let (given, defaults) = (&plugin.spec.limits, Limits::default());
            let limits = Limits {
                memory: given.memory.map_or(defaults.memory, |m| m.0),
                deadline: given.deadline.map_or(defaults.deadline, |d| d.0),
                configure_deadline: given.configure_deadline.map_or(defaults.configure_deadline, |d| d.0),
                // Those that could not be read are faults of the object, which is then not planned.
                allowed_hosts: plugin.spec.capabilities.allowed_hosts.iter().filter_map(|host| host.parse().ok()).collect(),
                shared_entries: given.shared_entries.map_or(defaults.shared_entries, |n| n as usize),
                shared_bytes: given.shared_memory.map_or(defaults.shared_bytes, |m| m.0),
                allowed_files: AllowedFiles {
                    base: folder.to_owned(),
                    files: plugin.spec.capabilities.allowed_files.iter().filter_map(|file| file.parse().ok()).collect(),
                },
                requests: given.requests.unwrap_or(defaults.requests),
            };
            let place = Some(object.origin.place("spec.source"));
            self.plan.plugins.push(PlannedPlugin {
                name: object.key.name.clone(),
                kind: plugin.spec.kind,
                source,
                limits,
                failure_policy: plugin.spec.failure_policy,
                persists: plugin.spec.state.persist,
                rollout: rollout(&plugin.spec.rollout),
                place,
            });
        }
    }

    /// Resolves the reference to a plugin; an unknown one is a fault, and the default serves.
    pub(super) fn plugin(&mut self, object: &Object, path: &str, name: &str, kind: PluginKind, config: &Value) -> Option<PluginUse> {
        let known = self.plan.plugins.iter().map(|p| (p.name.as_str(), p.kind)).chain(BUILTINS.iter().copied());
        let known: Vec<&str> = known.filter(|(_, k)| *k == kind).map(|(name, _)| name).collect();
        if !known.contains(&name) {
            let message = format!("{path}: there is no {kind} {name:?}");
            let hint = format!("one of: {}", known.join(", "));
            self.plan.faults.push(error(&object.origin, &object.key, path, message, Some(hint)));
            return None;
        }
        self.used.insert(name.to_owned(), kind);
        let config = if config.is_null() { "{}".to_owned() } else { config.to_string() };
        let path = path.strip_suffix(".plugin").unwrap_or(path).to_owned();
        Some(PluginUse { plugin: name.to_owned(), config, at: Some((object.origin.clone(), path)) })
    }

    pub(super) fn builtin(&mut self, name: &str, kind: PluginKind) -> PluginUse {
        self.used.insert(name.to_owned(), kind);
        PluginUse { plugin: name.to_owned(), config: "{}".to_owned(), at: None }
    }

    pub(super) fn router(&mut self, kind: &str, target: &Object, section: &str, listener: ListenerInfo) -> Option<usize> {
        let (object, policy) = self.client_policy(kind, target, section)?;
        let router = policy.spec.router.as_ref()?;
        let plugin = self.plugin(object, "spec.router.plugin", &router.plugin, PluginKind::Router, &router.config)?;
        self.plan.routers.push(PlannedRouter { plugin, listener });
        Some(self.plan.routers.len() - 1)
    }

    pub(super) fn listen(&mut self, object: &Object, path: &str, listener: PlannedListener) {
        let protocol = listener.front.protocol();
        if let Some(other) = self.plan.listeners.iter().find(|l| l.address == listener.address && l.front.protocol() == protocol) {
            let message = format!("{}: {} is already taken by the {}", listener.name, listener.address, other.name);
            self.plan.faults.push(error(&object.origin, &object.key, path, message, None));
        } else {
            self.plan.listeners.push(listener);
        }
    }
}

fn rollout(given: &PluginRollout) -> Rollout {
    let shadow = |given: &ShadowRollout| Shadow { duration: given.duration.0, max_disagreement: given.max_disagreement };
    let canary = |given: &CanaryRollout| Canary {
        weight: given.weight.unwrap_or(10),
        duration: given.duration.0,
        max_error_rate_increase: given.max_error_rate_increase.unwrap_or(1.0),
        max_latency_increase: given.max_latency_increase.unwrap_or(50.0),
        min_requests: given.min_requests.unwrap_or(50).into(),
    };
    Rollout { shadow: given.shadow.as_ref().map(shadow), canary: given.canary.as_ref().map(canary) }
}
