//! A worker's plugin instances, by which it goes down the failure ladder ([`sluicegate_decide::ladder`]): that of a router for a rule, and that of a balancer,
//! after session affinity, for an endpoint.

mod handover;
#[cfg(test)]
pub(crate) mod tests;
mod trial;
mod uses;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use sluicegate_decide::ladder::{self, Balancers, NoPick, Question, Routers, just_ejected, without_endpoints};
use sluicegate_model::health::Outcome;
use sluicegate_model::plugin::{Balancer, BalancerGeneration, PluginError, Router, RouterGeneration};
use sluicegate_model::pool::Pool;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::{RouterRung, ServiceIndex, ServicePort, Side};
use sluicegate_model::stats::{EndpointStats, ServiceStats, count};

use crate::core::View;
use crate::core::delta::Delta;
use trial::Tried;
use uses::{Retired, Uses};

/// The endpoint to use. Its strings are left in the pool, so that a pick allocates nothing.
#[derive(Clone)]
pub(crate) struct Picked {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<EndpointStats>,
    report: Option<Report>,
    tried: Option<Tried>,
}

/// The balancer that wants to know the outcome of a pick.
#[derive(Clone)]
struct Report {
    generation: Option<u64>,
    shadow: Option<u64>,
    pool: Arc<Pool>,
    endpoint: usize,
}

/// The endpoint that was chosen.
struct Chosen {
    index: usize,
    /// The generation that wants a report.
    report: Option<u64>,
    /// The generation in the shadow of the one that chose, if it wants a report.
    shadow: Option<u64>,
    /// For which generation the outcome counts, while a canary serves.
    tried: Option<Tried>,
}

impl Chosen {
    fn of(index: usize, report: Option<u64>) -> Self {
        Self { index, report, shadow: None, tried: None }
    }
}

/// A worker's plugin instances.
#[derive(Default)]
pub(crate) struct Decider {
    balancers: HashMap<u64, Box<dyn Balancer>, FxBuildHasher>,
    routers: HashMap<u64, Box<dyn Router>, FxBuildHasher>,
    warned: Option<Instant>,
    uses: Uses,
    retired: Retired,
    /// Service ports whose pools' state outlives the gateway.
    kept: BTreeMap<ServiceIndex, Arc<ServicePort>>,
    /// Among them, the one whose pools' state is kept next.
    aside: ServiceIndex,
    /// The number of exchanges that a canary might have had.
    turn: u64,
}

impl Decider {
    /// The snapshot of `view` is followed by one that differs by `delta`. Drops the instances, pools and tables to which it no longer refers.
    pub(crate) fn retain(&mut self, view: &Rc<View>, delta: &Delta<'_>) {
        self.uses.note(delta);
        for change in &delta.services {
            match change.after.filter(|service| service.kept_as.is_some()) {
                Some(kept) => _ = self.kept.insert(change.key, kept.clone()),
                None => _ = self.kept.remove(&change.key),
            }
        }
        // This is always done, as an exchange on an earlier snapshot may have made an instance since. There are not many.
        self.balancers.retain(|id, _| self.uses.balancers.contains(*id));
        self.routers.retain(|id, _| self.uses.routers.contains(*id));
        let gone = delta.pools_gone();
        if !gone.is_empty() {
            self.balancers.values_mut().for_each(|balancer| balancer.retain(&|id| !gone.contains(&id)));
        }
        self.retired.note(view, &gone, delta);
        if !delta.listeners.is_empty() {
            self.routers.values_mut().for_each(|router| router.retain(&|id| self.uses.tables.contains(id)));
        }
    }

    /// Frees again what exchanges on earlier snapshots have asked for after it was gone.
    pub(crate) fn settle(&mut self) {
        let Some(settled) = self.retired.settle() else { return };
        if !settled.is_empty() {
            self.balancers.values_mut().for_each(|balancer| balancer.retain(&|id| !settled.contains(&id)));
        }
        self.balancers.retain(|id, _| self.uses.balancers.contains(*id));
        self.routers.retain(|id, _| self.uses.routers.contains(*id));
        self.routers.values_mut().for_each(|router| router.retain(&|id| self.uses.tables.contains(id)));
    }

    /// Picks an endpoint that is not among `tried`, or any when all were tried.
    pub(crate) fn pick(
        &mut self,
        service: &ServicePort,
        side: Side,
        client: IpAddr,
        hash: Option<u64>,
        tried: &[SocketAddr],
    ) -> Result<Picked, NoPick> {
        let pool = service.pool(side);
        let picked = |Chosen { index, report, shadow, tried }: Chosen| {
            let found = pool.endpoints.get(index).ok_or(NoPick::Empty)?;
            let wanted = report.is_some() || shadow.is_some();
            let report = wanted.then(|| Report { generation: report, shadow, pool: pool.clone(), endpoint: index });
            Ok(Picked { address: found.address, stats: found.stats.clone(), report, tried })
        };
        let Some(affinity) = &service.affinity else { return picked(self.choose(service, side, hash, tried)?) };
        if tried.is_empty()
            && let Some(bound) = affinity.lookup(client, Instant::now())
            && let Some(at) = pool.find(bound)
            && !just_ejected(pool, &pool.endpoints[at])
        {
            return picked(Chosen::of(at, None));
        }
        let picked = picked(self.choose(service, side, hash, tried)?)?;
        affinity.bind(client, picked.address, Instant::now());
        Ok(picked)
    }

    /// The endpoint that a session leads to, if it may still be picked. No balancer is asked or told.
    pub(crate) fn stay(&self, service: &ServicePort, side: Side, endpoint: SocketAddr) -> Option<Picked> {
        let pool = service.pool(side);
        let found = pool.endpoints.get(pool.find(endpoint)?).filter(|found| !just_ejected(pool, found))?;
        Some(Picked { address: found.address, stats: found.stats.clone(), report: None, tried: None })
    }

    /// Counts the outcome of a pick, ejects the endpoint if the rules say so, and tells the balancer if it wants to know.
    pub(crate) fn observe(
        &mut self,
        settings: &BackendSettings,
        stats: &ServiceStats,
        picked: &Picked,
        outcome: Outcome,
        latency: Duration,
    ) {
        stats.observe(settings.health.passive.as_ref(), &picked.stats, outcome, latency);
        if outcome == Outcome::Connected {
            return;
        }
        if let Some(tried) = &picked.tried {
            tried.note(outcome.is_success(), latency);
        }
        let Some(Report { generation, shadow, pool, endpoint }) = &picked.report else { return };
        for generation in [generation, shadow].into_iter().flatten() {
            if let Some(balancer) = self.balancers.get_mut(generation)
                && let Err(error) = balancer.report(pool, *endpoint, outcome.is_success(), latency)
            {
                self.warn(&error);
            }
        }
    }

    fn choose(&mut self, service: &ServicePort, side: Side, hash: Option<u64>, tried: &[SocketAddr]) -> Result<Chosen, NoPick> {
        let pool = service.pool(side);
        if let Some(why) = without_endpoints(pool) {
            return Err(why);
        }
        match &service.trial {
            None => self.climb(service, side, hash, tried, None),
            Some(on) => self.choose_on_trial(service, on, side, hash, tried),
        }
    }

    /// Goes down the ladder, for a pool that is not empty. `random`: for the first question to a balancer.
    fn climb(
        &mut self,
        service: &ServicePort,
        side: Side,
        hash: Option<u64>,
        tried: &[SocketAddr],
        random: Option<u64>,
    ) -> Result<Chosen, NoPick> {
        let pool = service.pool(side);
        let (config, fail_closed) = (&service.balancer_config, service.fail_closed);
        let question = Question { pool, config, hash, tried, random, fail_closed };
        let chosen = ladder::pick(&question, &mut OfService { decider: self, service }, rand::rng)?;
        let report = chosen.rung.filter(|_| chosen.wants_report).map(|rung| service.balancers[rung].generation().id);
        Ok(Chosen::of(chosen.index, report))
    }

    /// This worker's instance of a generation.
    fn instance(&mut self, generation: &Arc<dyn BalancerGeneration>) -> Result<&mut Box<dyn Balancer>, PluginError> {
        Ok(match self.balancers.entry(generation.generation().id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(generation.instantiate()?),
        })
    }

    /// Logs a failure, at most one line a second, as a failing plugin fails for every request.
    fn warn(&mut self, error: &PluginError) {
        if self.warned.is_none_or(|at| at.elapsed().as_secs() >= 1) {
            self.warned = Some(Instant::now());
            tracing::warn!(%error, "a plugin failed; the next rung of the ladder decides");
        }
    }
}

impl Routers for Decider {
    fn router(&mut self, generation: &Arc<dyn RouterGeneration>) -> Result<&mut dyn Router, PluginError> {
        Ok(match self.routers.entry(generation.generation().id) {
            Entry::Occupied(entry) => entry.into_mut().as_mut(),
            Entry::Vacant(entry) => entry.insert(generation.instantiate()?).as_mut(),
        })
    }

    fn failed(&mut self, _rung: &RouterRung, error: &PluginError) {
        self.warn(error);
    }
}

/// The generations of a service port's balancer, in this worker's instances.
struct OfService<'a> {
    decider: &'a mut Decider,
    service: &'a ServicePort,
}

impl Balancers for OfService<'_> {
    fn count(&self) -> usize {
        self.service.balancers.len()
    }

    fn is_quarantined(&self, rung: usize) -> bool {
        self.service.balancers[rung].generation().stats.quarantined()
    }

    fn balancer(&mut self, rung: usize) -> Result<&mut dyn Balancer, PluginError> {
        Ok(self.decider.instance(&self.service.balancers[rung])?.as_mut())
    }

    fn failed(&mut self, _rung: usize, error: &PluginError) {
        self.decider.warn(error);
    }

    fn fell_back(&mut self) {
        count(&self.service.stats.fallbacks);
    }
}
