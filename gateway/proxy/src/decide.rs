//! Which endpoint: affinity, then the failure ladder: the live generation, the previous one, a native random choice. Which rule: likewise.

mod handover;
mod trial;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use sluicegate_model::health::Outcome;
use sluicegate_model::native::{ASK_AGAIN, random_choice, untried};
use sluicegate_model::plugin::{Balancer, BalancerGeneration, PickContext, PluginError, Router};
use sluicegate_model::pool::{EmptyReason, Endpoint, Pool};
use sluicegate_model::route::{Decision, RouteView};
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::{RouterBinding, RouterRung, ServicePort, Side, Snapshot, Target};
use sluicegate_model::stats::{EndpointStats, ServiceStats, count};

use trial::Tried;

type Ids = HashSet<u64, FxBuildHasher>;

/// The endpoint to use. Its strings are left in the pool: a pick allocates nothing.
#[derive(Clone)]
pub(crate) struct Picked {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<EndpointStats>,
    report: Option<Report>,
    tried: Option<Tried>,
}

/// Which balancer wants to know what comes of a pick.
#[derive(Clone)]
struct Report {
    generation: Option<u64>,
    shadow: Option<u64>,
    pool: Arc<Pool>,
    endpoint: usize,
}

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// The pool is empty, or its balancer will have none.
    Empty,
    /// There are endpoints, but none on this node, and the traffic policy is Local.
    NoLocal,
    /// The balancer failed, and its policy wants no other choice.
    Failed,
}

/// A choice.
struct Chosen {
    index: usize,
    /// The generation that wants a report of it.
    report: Option<u64>,
    /// The generation in its shadow, if it wants one.
    shadow: Option<u64>,
    /// To whom its outcome is put down, while a canary serves.
    tried: Option<Tried>,
}

impl Chosen {
    fn of(index: usize, report: Option<u64>) -> Self {
        Self { index, report, shadow: None, tried: None }
    }
}

/// Whether an endpoint was ejected after its pool was made, which takes control up to a second. In a panic all are used.
fn just_ejected(pool: &Pool, endpoint: &Endpoint) -> bool {
    !pool.panic && endpoint.stats.health.is_ejected()
}

/// A worker's plugin instances.
#[derive(Default)]
pub(crate) struct Decider {
    balancers: HashMap<u64, Box<dyn Balancer>, FxBuildHasher>,
    routers: HashMap<u64, Box<dyn Router>, FxBuildHasher>,
    warned: Option<Instant>,
    /// The service whose pools are put aside next.
    aside: usize,
    /// Exchanges that a canary might have had.
    turn: u64,
}

impl Decider {
    /// Drops the instances and pools that the snapshot no longer holds.
    pub(crate) fn retain(&mut self, snapshot: &Snapshot) {
        let on_trial = snapshot.services.iter().filter_map(|s| s.trial.as_ref()).map(|on| &on.generation);
        let generations: Ids = snapshot.services.iter().flat_map(|s| &s.balancers).chain(on_trial).map(|b| b.generation().id).collect();
        self.balancers.retain(|id, _| generations.contains(id));
        if !self.balancers.is_empty() {
            let pools = Self::pools(snapshot);
            for balancer in self.balancers.values_mut() {
                balancer.retain(&|id| pools.contains(&id));
            }
        }
        let targets = snapshot.listeners.iter().flat_map(|l| l.front.targets());
        let (mut generations, mut tables) = (Ids::default(), Ids::default());
        for rung in targets.filter_map(|t| if let Target::Router(r) = t { Some(&r.ladder) } else { None }).flatten() {
            generations.insert(rung.generation.generation().id);
            tables.insert(rung.table.id);
        }
        self.routers.retain(|id, _| generations.contains(id));
        for router in self.routers.values_mut() {
            router.retain(&|id| tables.contains(&id));
        }
    }

    /// An endpoint that is not among `tried`, or any when all were tried.
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
            && let Ok(at) = pool.endpoints.binary_search_by_key(&bound, |e| e.address)
            && !just_ejected(pool, &pool.endpoints[at])
        {
            return picked(Chosen::of(at, None));
        }
        let picked = picked(self.choose(service, side, hash, tried)?)?;
        affinity.bind(client, picked.address, Instant::now());
        Ok(picked)
    }

    /// Counts what came of a pick, ejects the endpoint if the rules want it, and tells the balancer if it wants to know.
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
        if pool.endpoints.is_empty() {
            let elsewhere = pool.empty == Some(EmptyReason::NoLocalEndpoints);
            return Err(if elsewhere { NoPick::NoLocal } else { NoPick::Empty });
        }
        match &service.trial {
            None => self.climb(service, side, hash, tried, None),
            Some(on) => self.choose_on_trial(service, on, side, hash, tried),
        }
    }

    /// Down the ladder, from a pool that is not empty. `random`: for the first question to a balancer.
    fn climb(
        &mut self,
        service: &ServicePort,
        side: Side,
        hash: Option<u64>,
        tried: &[SocketAddr],
        random: Option<u64>,
    ) -> Result<Chosen, NoPick> {
        let pool = service.pool(side);
        let tried_already = |index: usize| pool.endpoints.get(index).is_none_or(|e| tried.contains(&e.address) || just_ejected(pool, e));
        let native = || {
            let random = &mut rand::rng();
            let index = untried(pool.endpoints.len(), tried_already, random).or_else(|| random_choice(pool, random));
            index.map(|i| Chosen::of(i, None)).ok_or(NoPick::Empty)
        };
        let first = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        for (rung, generation) in service.balancers.iter().enumerate() {
            // A pick that goes down the ladder is counted once, at its second rung.
            if rung == 1 {
                count(&service.stats.fallbacks);
            }
            if generation.generation().stats.quarantined() {
                continue;
            }
            let balancer = match self.instance(generation) {
                Ok(balancer) => balancer,
                Err(error) => {
                    self.warn(&error);
                    continue;
                }
            };
            let mut failed = None;
            for attempt in first..first.saturating_add(ASK_AGAIN) {
                let context = PickContext { hash, attempt, random: random.filter(|_| attempt == first) };
                match balancer.pick(pool, &service.balancer_config, context) {
                    Ok(None) => return Err(NoPick::Empty),
                    Ok(Some(index)) if !tried_already(index) => {
                        return Ok(Chosen::of(index, balancer.wants_report().then(|| generation.generation().id)));
                    }
                    Ok(Some(_)) => {}
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            match failed {
                Some(error) => self.warn(&error),
                // It insists on endpoints that were tried: that is no failure, and the native choice is among the others.
                None => return native(),
            }
        }
        if service.fail_closed {
            return Err(NoPick::Failed);
        }
        if service.balancers.len() == 1 {
            count(&service.stats.fallbacks);
        }
        native()
    }

    /// The decision and the rung that made it; none when no generation could.
    pub(crate) fn route<'a>(&mut self, binding: &'a RouterBinding, view: &RouteView<'_>) -> Option<(&'a RouterRung, Decision)> {
        for rung in binding.ladder.iter().filter(|r| !r.generation.generation().stats.quarantined()) {
            let router = match self.routers.entry(rung.generation.generation().id) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => match rung.generation.instantiate() {
                    Ok(made) => entry.insert(made),
                    Err(error) => {
                        self.warn(&error);
                        continue;
                    }
                },
            };
            match router.route(&rung.table, view) {
                Ok(decision) => return Some((rung, decision)),
                Err(error) => self.warn(&error),
            }
        }
        None
    }

    /// This worker's instance of a generation.
    fn instance(&mut self, generation: &Arc<dyn BalancerGeneration>) -> Result<&mut Box<dyn Balancer>, PluginError> {
        Ok(match self.balancers.entry(generation.generation().id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(generation.instantiate()?),
        })
    }

    /// At most one line a second: a failing plugin fails for every request.
    fn warn(&mut self, error: &PluginError) {
        if self.warned.is_none_or(|at| at.elapsed().as_secs() >= 1) {
            self.warned = Some(Instant::now());
            tracing::warn!(%error, "a plugin failed; the next rung of the ladder decides");
        }
    }
}
