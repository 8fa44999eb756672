//! A worker's deciding, as `proxy` does it with the same traits: the plugin is asked, and asked again when it names an endpoint that was tried;
//! where it fails, a random choice decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_host::balancer::Instance;
use sluicegate_model::native::{ASK_AGAIN, random_choice, untried};
use sluicegate_model::plugin::{Balancer as _, PickContext, QUARANTINE_AFTER, QUARANTINE_WINDOW};
use sluicegate_model::pool::Pool;

use crate::generate::Random;

/// What all workers note of the plugin.
#[derive(Debug, Default)]
pub(super) struct Trust {
    pub(super) failures: u64,
    pub(super) fallbacks: u64,
    /// The first failure's text.
    pub(super) reason: Option<String>,
    /// Times of the last failures. A gateway counts them by its own clock; here time is the simulation's.
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
    /// As it knows it: pools reach workers one after the other.
    pub(super) pool: Arc<Pool>,
    pub(super) random: Random,
}

impl Worker {
    /// An index in the pool, and whether the plugin wants to know what comes of it.
    pub(super) fn pick(
        &mut self,
        config: &Arc<str>,
        hash: u64,
        tried: &[SocketAddr],
        now: u64,
        trust: &mut Trust,
    ) -> Option<(usize, bool)> {
        let pool = &self.pool;
        if pool.endpoints.is_empty() {
            return None;
        }
        let tried_already = |index: usize| pool.endpoints.get(index).is_none_or(|e| tried.contains(&e.address));
        if !trust.quarantined {
            let first = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            let mut failed = false;
            for attempt in first..first.saturating_add(ASK_AGAIN) {
                match self.instance.pick(pool, config, PickContext { hash: Some(hash), attempt, random: None }) {
                    Ok(None) => return None,
                    Ok(Some(index)) if !tried_already(index) => return Some((index, self.instance.wants_report())),
                    Ok(Some(_)) => {}
                    Err(error) => {
                        trust.failed(now, error.to_string());
                        failed = true;
                        break;
                    }
                }
            }
            // It insists on endpoints that were tried: no failure of it.
            trust.fallbacks += u64::from(failed);
        } else {
            trust.fallbacks += 1;
        }
        let other = untried(pool.endpoints.len(), tried_already, &mut self.random).or_else(|| random_choice(pool, &mut self.random));
        other.map(|index| (index, false))
    }

    pub(super) fn report(&mut self, pool: &Arc<Pool>, index: usize, success: bool, latency: Duration, now: u64, trust: &mut Trust) {
        if let Err(error) = self.instance.report(pool, index, success, latency) {
            trust.failed(now, error.to_string());
        }
    }
}
