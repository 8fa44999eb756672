//! From the plan and what was found to a snapshot for the workers and a status for the admin API.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sluicegate_config::status::Statuses;
use sluicegate_model::discovery::Key;
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::plugin::{PluginError, Stage};
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::status::{PluginState, Status};
use tokio::time::Instant;

use super::{Controller, Publish};
use crate::assemble::{Hands, PortId, refused};

/// How soon an address that could not be bound is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// How soon allocations that could not be saved are saved again: nothing tells that there is room.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// How soon a plugin's file that could not be read is read again, twice as long each time…
const READ_AGAIN: Duration = Duration::from_secs(1);
/// …up to this.
const READ_AGAIN_AT_LAST: Duration = Duration::from_secs(30);
/// How long the gateway is not ready for want of endpoints that nothing was heard of, counted from what was heard last…
const AWAITED: Duration = Duration::from_secs(5);
/// …and in all.
const AWAITED_AT_MOST: Duration = Duration::from_secs(60);
/// Services whose endpoints are awaited are named; of more it is said how many.
const AWAITED_NAMES: usize = 20;

/// The first time that endpoints are looked for: the gateway is not ready before it is over.
pub(super) struct FirstPass {
    begun: Instant,
    /// When something was heard last, and how many Services nothing was heard of then.
    heard: Instant,
    missing: usize,
}

impl FirstPass {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, heard: now, missing: usize::MAX }
    }

    /// Then it is over in any case.
    pub(super) fn until(&self) -> Instant {
        (self.heard + AWAITED).min(self.begun + AWAITED_AT_MOST)
    }
}

impl Controller {
    pub(super) fn assemble(&mut self) -> (Arc<Snapshot>, Status) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.services.extend(self.runner.take_changed());
        let hands = Hands { registry: &mut self.registry, health: &mut self.health, here: &self.options.settings.here };
        if changed.plan {
            self.statuses = Arc::new(Statuses::new(self.planner.plan()));
        }
        let snapshot = self.assembler.assemble(&self.planner, &changed, &self.runner, hands);
        let mut faults = self.faults.clone();
        faults.extend(self.assembler.faults().cloned());
        for (planned, error, serving) in self.registry.refused() {
            let message = error.to_string();
            if !faults.iter().any(|f| f.message == message) {
                let serving = serving.map_or("no generation serves".to_owned(), |number| format!("generation {number} serves"));
                faults.push(Fault {
                    severity: Severity::Error,
                    place: planned.place.clone(),
                    object: None,
                    message,
                    expected: Some(serving),
                });
            }
        }
        faults.extend(self.discovery_faults());
        let awaited = self.awaited();
        let mut plugins = self.registry.status();
        for plugin in &mut plugins {
            let failing = self.runner.ended(&plugin.name).map(ToString::to_string).or_else(|| self.runner.failing(&plugin.name));
            if let Some(reason) = failing {
                plugin.state = PluginState::Degraded;
                plugin.reason = Some(reason);
            }
        }
        faults.sort_by(|a, b| (&a.place, &a.message).cmp(&(&b.place, &b.message)));
        faults.dedup();
        let status = Status {
            snapshot: snapshot.version,
            services: self.assembler.services().clone(),
            listeners: self.assembler.shown_listeners().clone(),
            plugins,
            faults,
            objects: Some(self.statuses.clone()),
            compiled: self.registry.compiled(),
            awaited,
        };
        (snapshot, status)
    }

    /// Services whose endpoints were there when the gateway started, and are not found yet. None any more once all are, or nothing comes.
    pub(super) fn awaited(&mut self) -> Vec<String> {
        let Some(first) = &mut self.first_pass else { return Vec::new() };
        let (missing, now) = (self.runner.missing().count(), Instant::now());
        if missing != first.missing {
            (first.missing, first.heard) = (missing, now);
        }
        if missing == 0 || now >= first.until() {
            self.first_pass = None;
            return Vec::new();
        }
        let mut names: Vec<&Key> = self.runner.missing().collect();
        names.sort_unstable();
        let shown = names.iter().take(AWAITED_NAMES).map(|key| format!("{}/{}", key.namespace, key.name));
        shown.chain((missing > AWAITED_NAMES).then(|| format!("and {} more", missing - AWAITED_NAMES))).collect()
    }

    /// Services whose endpoints could not be found, and why; where the configuration does not fit the plugin's schema, at its fields.
    pub(super) fn discovery_faults(&self) -> Vec<Fault> {
        let failed = self.runner.failures().filter_map(|(key, reason)| {
            let service = self.planner.service(&key.namespace, &key.name)?;
            Some((service, &service.ports.first()?.discovery, reason))
        });
        let faults = failed.flat_map(|(service, used, reason)| {
            let error = PluginError { plugin: used.plugin.as_str().into(), stage: Stage::Configure, reason: reason.to_owned() };
            refused(used, &error, &self.registry).into_iter().map(|mut fault| {
                fault.place = fault.place.or_else(|| Some(service.object.origin.place("metadata.name")));
                fault.object = Some(service.object.key.to_string());
                fault
            })
        });
        faults.collect()
    }

    /// New pools where endpoints' health has changed; nothing else is compiled or assembled. True if there is more to say: other addresses
    /// than before could not be bound.
    pub(super) fn publish_health(&mut self, changed: &HashSet<PortId>, publish: &Publish) -> bool {
        let snapshot = self.assembler.refresh(changed, &self.options.settings.here);
        snapshot.is_some_and(|snapshot| publish(snapshot) != self.unbound)
    }

    /// When to try again, if an address could not be bound or the allocations not be saved.
    pub(super) fn publish(&mut self, status: &ArcSwap<Status>, publish: &Publish, unsaved: Option<Fault>) -> Option<Instant> {
        let (snapshot, mut now) = self.assemble();
        now.faults.extend(unsaved);
        self.health.sync_probes();
        self.unbound = publish(snapshot);
        let refused = self.unbound.iter().filter_map(|unbound| Some((unbound.at?, unbound.message.clone()))).collect();
        if *self.statuses.unbound() != refused {
            self.statuses = Arc::new(self.statuses.with_unbound(refused));
            now.objects = Some(self.statuses.clone());
        }
        let bind_again = (!self.unbound.is_empty()).then_some(BIND_AGAIN);
        let save_again = self.allocator.unsaved().then_some(SAVE_AGAIN);
        self.read_again = if self.registry.unread() { (self.read_again * 2).clamp(READ_AGAIN, READ_AGAIN_AT_LAST) } else { Duration::ZERO };
        let read_again = (!self.read_again.is_zero()).then_some(self.read_again);
        let again = bind_again.into_iter().chain(save_again).chain(read_again).min().map(|pause| Instant::now() + pause);
        let again = again.into_iter().chain(self.first_pass.as_ref().map(FirstPass::until)).min();
        for message in self.unbound.iter().map(|unbound| unbound.message.clone()) {
            now.faults.push(Fault { severity: Severity::Error, place: None, object: None, message, expected: None });
        }
        for fault in now.faults.iter().filter(|f| !self.reported.contains(f)) {
            match fault.severity {
                Severity::Error => tracing::error!("{}", fault.summary()),
                Severity::Warning => tracing::warn!("{}", fault.summary()),
            }
        }
        self.reported = now.faults.iter().cloned().collect();
        status.store(Arc::new(now));
        again
    }
}
