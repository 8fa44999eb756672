//! One instance that is asked, and counts of what it answers.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use sluicegate_host::balancer::{Instance, WasmBalancer};
use sluicegate_model::plugin::{Balancer as _, PickContext};
use sluicegate_model::pool::Pool;

use crate::generate::{Random, stream};
use crate::subject::Subject;

/// How long an exchange takes that ends at once.
const LATENCY: Duration = Duration::from_millis(1);

/// Whether picks are given hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hashed {
    /// Picks have no hash.
    No,
    /// Each pick has a hash of its own.
    Yes,
}

pub(super) struct Asked<'s> {
    subject: &'s Subject,
    instance: Instance,
    /// The generator of hashes and random bits.
    pub(super) random: Random,
}

/// How often each endpoint of a pool was picked.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) of: Vec<u64>,
    pub(super) picks: u64,
    /// How often no endpoint was picked.
    pub(super) declined: u64,
}

impl Counts {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { of: vec![0; endpoints], picks: 0, declined: 0 }
    }

    pub(super) fn add(&mut self, picked: Option<usize>) {
        self.picks += 1;
        match picked {
            Some(endpoint) => self.of[endpoint] += 1,
            None => self.declined += 1,
        }
    }

    /// The share of the picks, from 0 to 1, that went to endpoints for which `is` holds.
    pub(super) fn share(&self, is: impl Fn(usize) -> bool) -> f64 {
        let count: u64 = self.of.iter().enumerate().filter(|(i, _)| is(*i)).map(|(_, count)| count).sum();
        count as f64 / self.picks.max(1) as f64
    }
}

impl<'s> Asked<'s> {
    /// `purpose`: what is drawn for one purpose is the same however much another one draws.
    pub(super) fn new(subject: &'s Subject, generation: &WasmBalancer, seed: u64, purpose: u64) -> Self {
        Self { subject, instance: generation.seeded(seed), random: stream(seed, purpose) }
    }

    /// The guest's linear memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.instance.memory()
    }

    /// What is left of the fuel, on an engine that counts.
    pub(super) fn fuel(&self) -> Option<u64> {
        self.instance.fuel()
    }

    /// Frees the pools that are not among these.
    pub(super) fn retain(&mut self, pools: &[&Arc<Pool>]) {
        self.instance.retain(&|id| pools.iter().any(|pool| pool.id == id));
    }

    /// Picks an endpoint. The error says what is wrong with the pick.
    pub(super) fn pick(&mut self, pool: &Arc<Pool>, context: PickContext) -> Result<Option<usize>, String> {
        let n = pool.endpoints.len();
        self.instance.pick(pool, &self.subject.config, context).map_err(|error| {
            let hash = if context.hash.is_some() { "with" } else { "without" };
            format!("pool of {n} endpoints, attempt {} {hash} a hash: stage {}: {}", context.attempt, error.stage, error.reason)
        })
    }

    /// Picks for an exchange that ends at once and well, and tells that to the endpoint's statistics and the plugin.
    pub(super) fn exchange(&mut self, pool: &Arc<Pool>, context: PickContext) -> Result<Option<usize>, String> {
        let picked = self.pick(pool, context)?;
        if let Some(endpoint) = picked {
            pool.endpoints[endpoint].stats.observe(true, LATENCY);
            self.report(pool, endpoint)?;
        }
        Ok(picked)
    }

    /// Tells the plugin that an exchange has ended well, if it wants to know.
    pub(super) fn report(&mut self, pool: &Arc<Pool>, endpoint: usize) -> Result<(), String> {
        if !self.instance.wants_report() {
            return Ok(());
        }
        let reported = self.instance.report(pool, endpoint, true, LATENCY);
        reported.map_err(|error| format!("pool of {} endpoints: stage {}: {}", pool.endpoints.len(), error.stage, error.reason))
    }

    /// The context of a pick.
    pub(super) fn context(&mut self, hashed: Hashed, attempt: u32) -> PickContext {
        let hash = (hashed == Hashed::Yes).then(|| self.random.next_u64());
        PickContext { hash, attempt, random: Some(self.random.next_u64()) }
    }

    /// Makes so many more exchanges.
    pub(super) fn exchanges(
        &mut self,
        pool: &Arc<Pool>,
        hashed: Hashed,
        attempt: u32,
        picks: u64,
        counts: &mut Counts,
    ) -> Result<(), String> {
        for _ in 0..picks {
            let context = self.context(hashed, attempt);
            counts.add(self.exchange(pool, context)?);
        }
        Ok(())
    }
}
