//! What people are told about what is served: the [`Status`] that the admin API shows, with every [fault](faults) and the Services that are [awaited],
//! and a line in the log for each new fault.

mod awaited;
mod faults;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sluicegate_config::plan::{Plan, Planner};
use sluicegate_config::status::{Statuses, Uncertified, refused};
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::snapshot::At;
use sluicegate_model::status::{PluginState, Status};
use tokio::time::Instant;

use crate::assemble::Assembler;
use crate::discovery::Runner;
use crate::plugins::Registry;
use awaited::FirstPass;

/// What a status is made of.
pub(crate) struct Parts<'p> {
    /// The version of the snapshot that is served.
    pub(crate) snapshot: u64,
    /// What is wrong with objects, allocations and the plan.
    pub(crate) planned: &'p [Fault],
    pub(crate) planner: &'p Planner,
    pub(crate) assembler: &'p Assembler,
    pub(crate) registry: &'p Registry,
    pub(crate) runner: &'p Runner,
    /// Whether every source has told all that it had at first.
    pub(crate) complete: bool,
}

/// Keeps what was reported last.
pub(crate) struct Reporter {
    /// The status of the plan's objects, as the Gateway API defines it.
    statuses: Arc<Statuses>,
    /// The faults that are in the log already.
    logged: HashSet<Fault>,
    /// The time in which endpoints are looked for first; none once it is over.
    first_pass: Option<FirstPass>,
}

impl Reporter {
    /// A reporter that has reported nothing yet and awaits endpoints from now on.
    pub(crate) fn new() -> Self {
        Self { statuses: Arc::default(), logged: HashSet::new(), first_pass: Some(FirstPass::begin()) }
    }

    /// Takes in a new plan.
    pub(crate) fn planned(&mut self, plan: &Plan) {
        self.statuses = Arc::new(Statuses::new(plan));
    }

    /// The status of what is served now.
    pub(crate) fn status(&mut self, parts: &Parts<'_>) -> Status {
        let mut plugins = parts.registry.status();
        for plugin in &mut plugins {
            let failing = parts.runner.ended(&plugin.name).map(ToString::to_string).or_else(|| parts.runner.failing(&plugin.name));
            if let Some(reason) = failing {
                plugin.state = PluginState::Degraded;
                plugin.reason = Some(reason);
            }
        }
        let refused = refused(&faults::assembled(parts));
        if *self.statuses.refused() != refused {
            self.statuses = Arc::new(self.statuses.with_refused(refused));
        }
        Status {
            snapshot: parts.snapshot,
            services: parts.assembler.services().clone(),
            listeners: parts.assembler.shown_listeners().clone(),
            plugins,
            faults: faults::all(parts),
            objects: Some(self.statuses.clone()),
            compiled: parts.registry.compiled(),
            awaited: self.awaited(parts.runner),
            complete: parts.complete,
            acme: Arc::default(),
        }
    }

    fn awaited(&mut self, runner: &Runner) -> Vec<String> {
        let awaited = self.first_pass.as_mut().and_then(|first| first.awaited(runner));
        if awaited.is_none() {
            self.first_pass = None;
        }
        awaited.unwrap_or_default()
    }

    /// When the status changes although nothing else does, because the gateway then stops waiting for endpoints.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.first_pass.as_ref().map(FirstPass::until)
    }

    /// Takes in which listeners' addresses could not be bound, and why, and adds that to a status.
    pub(crate) fn unbound(&mut self, unbound: HashMap<At, String>, status: &mut Status) {
        if *self.statuses.unbound() != unbound {
            self.statuses = Arc::new(self.statuses.with_unbound(unbound));
            status.objects = Some(self.statuses.clone());
        }
    }

    /// Takes in which listeners wait for their first certificates, and adds that to a status.
    pub(crate) fn uncertified(&mut self, uncertified: Uncertified, status: &mut Status) {
        if *self.statuses.uncertified() != uncertified {
            self.statuses = Arc::new(self.statuses.with_uncertified(uncertified));
            status.objects = Some(self.statuses.clone());
        }
    }

    /// Writes faults to the log that it does not have yet.
    pub(crate) fn log(&mut self, faults: &[Fault]) {
        for fault in faults.iter().filter(|fault| !self.logged.contains(fault)) {
            match fault.severity {
                Severity::Error => tracing::error!("{}", fault.summary()),
                Severity::Warning => tracing::warn!("{}", fault.summary()),
            }
        }
        self.logged = faults.iter().cloned().collect();
    }
}
