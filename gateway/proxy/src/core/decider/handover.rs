//! Hands what balancers know of their pools from one instance to the next: to a newer generation when a worker takes a snapshot, and to a later start of the
//! gateway by the [`StateStore`]. It happens between two requests, and the time that it takes is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use sluicegate_model::plugin::BalancerGeneration;
use sluicegate_model::pool::Pool;
use sluicegate_model::snapshot::ServicePort;
use sluicegate_model::state_store::{Slot, StateStore};

use super::Decider;
use crate::core::delta::Delta;

/// How long handing over all pools may keep a worker from its requests. Pools that are not reached begin with nothing.
const HAND_OVER: Duration = Duration::from_millis(50);
/// For how many pools the state is kept each second.
const PUT_ASIDE: usize = 32;
/// How long a stopping worker may take for keeping states.
const AT_THE_END: Duration = Duration::from_secs(2);

/// The pools of a service port, each once.
fn pools(service: &ServicePort) -> impl Iterator<Item = (&Pool, &'static str)> {
    let external = (service.external.id != service.internal.id).then_some((&*service.external, "external"));
    std::iter::once((&*service.internal, "internal")).chain(external)
}

/// The generations that begin with what another one knows: the live one, and one on trial.
fn receivers(service: &ServicePort) -> impl Iterator<Item = &Arc<dyn BalancerGeneration>> {
    service.balancers.first().into_iter().chain(service.trial.as_ref().map(|on| &on.generation))
}

/// Where the state of a pool is kept, if its plugin asks for that.
fn slot(service: &ServicePort, side: &str, worker: usize) -> Option<Slot> {
    let kept = service.kept_as.as_ref()?;
    let plugin = service.balancers.first()?.generation().plugin.to_string();
    Some(Slot { plugin, pool: format!("{kept}/{side}"), worker })
}

impl Decider {
    /// Is called before a snapshot takes the place of the last one. Pools whose balancer has another generation now, or one on trial, begin there with what the
    /// live one before knows; pools that are new begin with what an earlier start has left.
    pub(crate) fn hand_over(&mut self, delta: &Delta<'_>, state_store: &StateStore, worker: usize) {
        // Of what differs in the last snapshot: each pool's live generation, and which pools have met which generations, on trial or not.
        let mut live_before = HashMap::<u64, &Arc<dyn BalancerGeneration>, FxBuildHasher>::default();
        let mut met = HashSet::<(u64, u64), FxBuildHasher>::default();
        for service in delta.before() {
            for (pool, _) in pools(service) {
                met.extend(receivers(service).map(|generation| (pool.id, generation.generation().id)));
                live_before.extend(service.balancers.first().map(|live| (pool.id, live)));
            }
        }
        let begun = Instant::now();
        let mut late = 0_usize;
        for service in delta.after() {
            for (receiver, (pool, side)) in receivers(service).flat_map(|receiver| pools(service).map(move |pool| (receiver, pool))) {
                if met.contains(&(pool.id, receiver.generation().id)) {
                    continue;
                }
                if begun.elapsed() > HAND_OVER {
                    late += 1;
                    continue;
                }
                let saved = match live_before.get(&pool.id) {
                    // A quarantined generation is not asked for anything any more.
                    Some(from) if from.generation().stats.quarantined() => None,
                    Some(from) => self.balancers.get_mut(&from.generation().id).and_then(|balancer| balancer.save(pool.id)),
                    None => slot(service, side, worker).and_then(|slot| state_store.find(&slot)),
                };
                let Some(saved) = saved else { continue };
                match self.instance(receiver) {
                    Ok(balancer) => balancer.inherit(pool.id, saved),
                    Err(error) => self.warn(&error),
                }
            }
        }
        if late > 0 {
            tracing::warn!(pools = late, "the state of these pools was not handed over: it took too long; they begin cold");
        }
    }

    /// Keeps the state of some pools, in turn.
    pub(crate) fn put_aside(&mut self, state_store: &StateStore, worker: usize) {
        let some: Vec<_> = self.kept.range(self.aside..).take(PUT_ASIDE + 1).map(|(index, service)| (*index, service.clone())).collect();
        // The rest follows next; if there is none, it begins anew.
        self.aside = some.get(PUT_ASIDE).map_or(0, |(index, _)| *index);
        some.iter().take(PUT_ASIDE).for_each(|(_, service)| self.put(service, state_store, worker));
    }

    /// Keeps the state of all pools for which there is time.
    pub(crate) fn put_all_aside(&mut self, state_store: &StateStore, worker: usize) {
        let begun = Instant::now();
        for service in std::mem::take(&mut self.kept).values() {
            if begun.elapsed() > AT_THE_END {
                tracing::warn!("the state of some pools was not put aside: it took too long");
                return;
            }
            self.put(service, state_store, worker);
        }
    }

    fn put(&mut self, service: &ServicePort, state_store: &StateStore, worker: usize) {
        let Some(live) = service.balancers.first() else { return };
        for (pool, side) in pools(service) {
            let Some(balancer) = self.balancers.get_mut(&live.generation().id) else { return };
            if let (Some(slot), Some(saved)) = (slot(service, side, worker), balancer.save(pool.id)) {
                state_store.put(slot, saved);
            }
        }
    }
}
