//! Which endpoint: affinity, then the failure ladder: the live generation, the previous one, a native random choice. Which rule: likewise.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rustc_hash::FxBuildHasher;
use sluicegate_model::native::random_choice;
use sluicegate_model::plugin::{Balancer, PickContext, PluginError, Router};
use sluicegate_model::pool::Endpoint;
use sluicegate_model::route::{Decision, RouteView};
use sluicegate_model::snapshot::{Front, RouterBinding, RouterRung, ServicePort, Side, Snapshot, Target};
use sluicegate_model::stats::count;

/// How often a balancer is asked again when it names an endpoint that was tried already.
const ASK_AGAIN: u32 = 3;

/// A worker's plugin instances.
#[derive(Default)]
pub(crate) struct Decider {
    balancers: HashMap<u64, Box<dyn Balancer>, FxBuildHasher>,
    routers: HashMap<u64, Box<dyn Router>, FxBuildHasher>,
    warned: Option<Instant>,
}

impl Decider {
    /// Drops the instances and pools that the snapshot no longer holds.
    pub(crate) fn retain(&mut self, snapshot: &Snapshot) {
        let generations: Vec<u64> = snapshot.services.iter().flat_map(|s| &s.balancers).map(|b| b.generation().id).collect();
        let pools: Vec<u64> = snapshot.services.iter().flat_map(|s| [s.internal.id, s.external.id]).collect();
        self.balancers.retain(|id, _| generations.contains(id));
        for balancer in self.balancers.values_mut() {
            balancer.retain(&|id| pools.contains(&id));
        }
        let targets = snapshot.listeners.iter().flat_map(|l| match &l.front {
            Front::Tcp(target) => vec![target],
            Front::Http(hosts) => hosts.iter().map(|h| &h.target).collect(),
        });
        let rungs: Vec<&RouterRung> =
            targets.filter_map(|t| if let Target::Router(r) = t { Some(&r.ladder) } else { None }).flatten().collect();
        self.routers.retain(|id, _| rungs.iter().any(|r| r.generation.generation().id == *id));
        for router in self.routers.values_mut() {
            router.retain(&|id| rungs.iter().any(|r| r.table.id == id));
        }
    }

    /// An endpoint that is not among `tried`, or any when all were tried; none when the pool is empty or its balancer will have none.
    pub(crate) fn pick(
        &mut self,
        service: &ServicePort,
        side: Side,
        client: IpAddr,
        hash: Option<u64>,
        tried: &[SocketAddr],
    ) -> Option<Endpoint> {
        let pool = service.pool(side);
        if let Some(affinity) = &service.affinity
            && tried.is_empty()
            && let Some(bound) = affinity.lookup(client, Instant::now())
            && let Ok(at) = pool.endpoints.binary_search_by_key(&bound, |e| e.address)
        {
            return Some(pool.endpoints[at].clone());
        }
        let index = self.choose(service, side, hash, tried)?;
        let endpoint = pool.endpoints.get(index)?.clone();
        if let Some(affinity) = &service.affinity {
            affinity.bind(client, endpoint.address, Instant::now());
        }
        Some(endpoint)
    }

    fn choose(&mut self, service: &ServicePort, side: Side, hash: Option<u64>, tried: &[SocketAddr]) -> Option<usize> {
        let pool = service.pool(side);
        if pool.endpoints.is_empty() {
            return None;
        }
        let mut attempt = u32::try_from(tried.len()).unwrap_or(u32::MAX);
        for generation in service.balancers.iter().filter(|b| !b.generation().stats.quarantined()) {
            let balancer = match self.balancers.entry(generation.generation().id) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => match generation.instantiate() {
                    Ok(made) => entry.insert(made),
                    Err(error) => {
                        self.warn(&error);
                        count(&service.stats.fallbacks);
                        continue;
                    }
                },
            };
            let mut failed = None;
            for _ in 0..ASK_AGAIN {
                match balancer.pick(pool, &service.balancer_config, PickContext { hash, attempt }) {
                    Ok(None) => return None,
                    Ok(Some(index)) if !tried.contains(&pool.endpoints[index].address) => return Some(index),
                    Ok(Some(_)) => attempt = attempt.saturating_add(1),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            match failed {
                Some(error) => {
                    self.warn(&error);
                    count(&service.stats.fallbacks);
                }
                // It insists on endpoints that were tried.
                None => break,
            }
        }
        let untried: Vec<usize> = (0..pool.endpoints.len()).filter(|i| !tried.contains(&pool.endpoints[*i].address)).collect();
        if untried.is_empty() {
            return random_choice(pool, &mut rand::rng());
        }
        use rand::RngExt as _;
        untried.get(rand::rng().random_range(0..untried.len())).copied()
    }

    /// The decision and the rung that made it; none when no generation could.
    pub(crate) fn route<'a>(&mut self, binding: &'a RouterBinding, view: &RouteView<'_>) -> Option<(&'a RouterRung, Decision)> {
        for rung in binding.ladder.iter().filter(|r| !r.generation.generation().stats.quarantined()) {
            let router = match self.routers.entry(rung.generation.generation().id) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => match rung.generation.instantiate() {
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

    /// At most one line a second: a failing plugin fails for every request.
    fn warn(&mut self, error: &PluginError) {
        if self.warned.is_none_or(|at| at.elapsed().as_secs() >= 1) {
            self.warned = Some(Instant::now());
            tracing::warn!(%error, "a plugin failed; the next rung of the ladder decides");
        }
    }
}
