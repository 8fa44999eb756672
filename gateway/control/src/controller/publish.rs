//! From the plan and what discovery has found to a snapshot for the workers and a status for the admin API.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::snapshot::Snapshot;
use sluicegate_model::status::Status;
use tokio::time::Instant;

use super::{Controller, Publish};
use crate::assemble::Collaborators;
use crate::port::PortId;
use crate::status::Parts;

/// How soon an address that could not be bound is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// How soon allocations that could not be saved are saved again. No event tells that there is room.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// How soon a plugin's file that could not be read is read again; the pause doubles each time.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// The longest pause before such a file is read again.
const READ_AGAIN_AT_LAST: Duration = Duration::from_secs(30);
impl Controller {
    pub(super) fn assemble(&mut self) -> (Arc<Snapshot>, Status) {
        let mut changed = std::mem::take(&mut self.changed);
        self.looked_at_plugins = false;
        changed.services.extend(self.runner.take_changed());
        if changed.plan {
            self.reporter.planned(self.planner.plan());
        }
        let with = Collaborators { registry: &mut self.registry, health: &mut self.health, here: &self.options.settings.here };
        let snapshot = self.assembler.assemble(&self.planner, &changed, &self.runner, with);
        let status = self.reporter.status(&Parts {
            snapshot: snapshot.version,
            planned: &self.faults,
            planner: &self.planner,
            assembler: &self.assembler,
            registry: &self.registry,
            runner: &self.runner,
            complete: self.complete,
        });
        (snapshot, status)
    }

    /// Publishes new pools where endpoints' health has changed. Nothing else is compiled or assembled. Returns whether there is more to tell: that the addresses
    /// that cannot be bound have changed.
    pub(super) fn publish_health(&mut self, changed: &HashSet<PortId>, publish: &Publish) -> bool {
        let snapshot = self.assembler.refresh(changed, &self.options.settings.here);
        snapshot.is_some_and(|snapshot| publish(snapshot) != self.unbound)
    }

    /// Assembles, and prepares what is about to be listened on if that may be something else than before.
    pub(super) async fn prepared(&mut self) -> (Arc<Snapshot>, Status) {
        let moved = !self.changed.listeners.is_empty();
        let (snapshot, status) = self.assemble();
        if let Some(prepare) = self.prepare.as_ref().filter(|_| moved || self.prepared != Some(status.complete)) {
            self.prepared = Some(status.complete);
            prepare(&status).await;
        }
        (snapshot, status)
    }

    /// Publishes a snapshot and a status. Returns when to try again, if an address could not be bound, or the allocations not saved.
    pub(super) fn publish(
        &mut self,
        (snapshot, mut now): (Arc<Snapshot>, Status),
        status: &ArcSwap<Status>,
        publish: &Publish,
        unsaved: Option<Fault>,
    ) -> Option<Instant> {
        now.faults.extend(unsaved);
        self.health.sync_probes();
        self.unbound = publish(snapshot);
        let refused = self.unbound.iter().filter_map(|unbound| Some((unbound.at?, unbound.message.clone()))).collect();
        self.reporter.unbound(refused, &mut now);
        if let Some(acme) = &self.acme {
            // Only now are the listeners there at which a CA asks.
            acme.ask(self.assembler.asks().cloned().collect());
            now.faults.extend(acme.faults());
            now.acme = acme.acme().clone();
            self.reporter.uncertified(self.assembler.awaiting(), &mut now);
        }
        let bind_again = (!self.unbound.is_empty()).then_some(BIND_AGAIN);
        let save_again = self.allocator.unsaved().then_some(SAVE_AGAIN);
        self.read_again = if self.registry.unread() { (self.read_again * 2).clamp(READ_AGAIN, READ_AGAIN_AT_LAST) } else { Duration::ZERO };
        let read_again = (!self.read_again.is_zero()).then_some(self.read_again);
        let again = bind_again.into_iter().chain(save_again).chain(read_again).min().map(|pause| Instant::now() + pause);
        let again = again.into_iter().chain(self.reporter.until()).min();
        for message in self.unbound.iter().map(|unbound| unbound.message.clone()) {
            now.faults.push(Fault { severity: Severity::Error, place: None, object: None, message, expected: None });
        }
        self.reporter.log(&now.faults);
        status.store(Arc::new(now));
        again
    }
}
