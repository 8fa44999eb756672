//! How a worker decides: by the same failure ladder as the data plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_decide::ladder::{self, Balancers, Question};
use sluicegate_host::balancer::Instance;
use sluicegate_model::plugin::{Balancer, PluginError, QUARANTINE_AFTER, QUARANTINE_WINDOW};
use sluicegate_model::pool::Pool;

use crate::generate::Random;

/// What all workers note of the plugin.
#[derive(Debug, Default)]
pub(super) struct Trust {
    pub(super) failures: u64,
    pub(super) fallbacks: u64,
    /// The text of the first failure.
    pub(super) reason: Option<String>,
    /// The times of the last failures, by the simulation's clock; a gateway goes by its own.
    recent: Vec<u64>,
    quarantined: bool,
}

impl Trust {
    fn failed(&mut self, now: u64, reason: String) {
        self.failures += 1;
        self.reason.get_or_insert(reason);
        let window = QUARANTINE_WINDOW.as_nanos() as u64;
        self.recent.retain(|at| now - at <= window);
        self.recent.push(now);
        self.quarantined |= self.recent.len() as u64 >= QUARANTINE_AFTER;
    }
}

pub(super) struct Worker {
    pub(super) instance: Instance,
    /// The pool as the worker knows it: pools reach workers one after the other.
    pub(super) pool: Arc<Pool>,
    pub(super) random: Random,
}

impl Worker {
    /// The index of an endpoint in the pool, and whether the plugin wants to know the outcome.
    pub(super) fn pick(
        &mut self,
        config: &Arc<str>,
        hash: u64,
        tried: &[SocketAddr],
        now: u64,
        trust: &mut Trust,
    ) -> Option<(usize, bool)> {
        let Self { instance, pool, random } = self;
        let question = Question { pool, config, hash: Some(hash), tried, random: None, fail_closed: false };
        let chosen = ladder::pick(&question, &mut OnTrust { instance, now, trust }, || random).ok()?;
        Some((chosen.index, chosen.wants_report))
    }

    pub(super) fn report(&mut self, pool: &Arc<Pool>, index: usize, success: bool, latency: Duration, now: u64, trust: &mut Trust) {
        if let Err(error) = self.instance.report(pool, index, success, latency) {
            trust.failed(now, error.to_string());
        }
    }
}

/// The one generation that is simulated, and what is noted of it.
struct OnTrust<'a> {
    instance: &'a mut Instance,
    now: u64,
    trust: &'a mut Trust,
}

impl Balancers for OnTrust<'_> {
    fn count(&self) -> usize {
        1
    }

    fn is_quarantined(&self, _rung: usize) -> bool {
        self.trust.quarantined
    }

    fn balancer(&mut self, _rung: usize) -> Result<&mut dyn Balancer, PluginError> {
        Ok(self.instance)
    }

    fn failed(&mut self, _rung: usize, error: &PluginError) {
        self.trust.failed(self.now, error.to_string());
    }

    fn fell_back(&mut self) {
        self.trust.fallbacks += 1;
    }
}
