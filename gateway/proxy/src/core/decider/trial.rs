//! Picks while a candidate is on trial beside the live generation: in its shadow, or as a canary. If the candidate fails, traffic does not: then the live
//! generation picks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_decide::ladder::{NoPick, just_ejected};
use sluicegate_model::plugin::PickContext;
use sluicegate_model::rollout::{Phase, Side as Generation, Trial};
use sluicegate_model::snapshot::{BalancerTrial, ServicePort, Side};

use super::{Chosen, Decider};

/// For which generation the outcome of a pick counts.
#[derive(Clone)]
pub(super) struct Tried {
    trial: Arc<Trial>,
    side: Generation,
}

impl Tried {
    pub(super) fn note(&self, success: bool, latency: Duration) {
        self.trial.note(self.side, success, latency);
    }
}

impl Decider {
    /// Takes the place of [`Decider::climb`] for the first try of an exchange. Further tries are the live generation's.
    pub(super) fn choose_on_trial(
        &mut self,
        service: &ServicePort,
        on: &BalancerTrial,
        side: Side,
        hash: Option<u64>,
        tried: &[SocketAddr],
    ) -> Result<Chosen, NoPick> {
        if !tried.is_empty() || on.generation.generation().stats.quarantined() {
            return self.climb(service, side, hash, tried, None);
        }
        match on.trial.phase {
            Phase::Shadow(_) => self.shadowed(service, on, side, hash),
            Phase::Canary(_) => self.by_canary(service, on, side, hash),
        }
    }

    /// Asks both the same, with the same random bits, too. The live generation's answer counts.
    fn shadowed(&mut self, service: &ServicePort, on: &BalancerTrial, side: Side, hash: Option<u64>) -> Result<Chosen, NoPick> {
        let random = Some(rand::random());
        let begun = Instant::now();
        let mut chosen = self.climb(service, side, hash, &[], random);
        let between = Instant::now();
        match self.ask(service, on, side, PickContext { hash, attempt: 0, random }) {
            Some((index, reports)) => {
                let live = chosen.as_ref().ok().map(|chosen| chosen.index);
                on.trial.compare(index == live, between - begun, between.elapsed());
                if let Ok(chosen) = &mut chosen {
                    chosen.shadow = reports.then(|| on.generation.generation().id);
                }
            }
            None => on.trial.compare(false, between - begun, between.elapsed()),
        }
        chosen
    }

    fn by_canary(&mut self, service: &ServicePort, on: &BalancerTrial, side: Side, hash: Option<u64>) -> Result<Chosen, NoPick> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        if on.trial.takes(hash, turn) {
            let pool = service.pool(side);
            match self.ask(service, on, side, PickContext { hash, attempt: 0, random: None }) {
                Some((Some(index), reports)) if pool.endpoints.get(index).is_some_and(|e| !just_ejected(pool, e)) => {
                    let report = reports.then(|| on.generation.generation().id);
                    let tried = Some(Tried { trial: on.trial.clone(), side: Generation::Candidate });
                    return Ok(Chosen { index, report, shadow: None, tried });
                }
                // It was ejected a moment ago, which the pool does not show yet.
                Some((Some(_), _)) => {}
                // It failed, or wants none of a pool that is not empty.
                Some((None, _)) | None => on.trial.note(Generation::Candidate, false, Duration::ZERO),
            }
            return self.climb(service, side, hash, &[], None);
        }
        let mut chosen = self.climb(service, side, hash, &[], None)?;
        chosen.tried = Some(Tried { trial: on.trial.clone(), side: Generation::Live });
        Ok(chosen)
    }

    /// What the candidate picks, and whether it wants a report; none if it failed.
    fn ask(&mut self, service: &ServicePort, on: &BalancerTrial, side: Side, context: PickContext) -> Option<(Option<usize>, bool)> {
        let asked = self.instance(&on.generation).and_then(|candidate| {
            let picked = candidate.pick(service.pool(side), &service.balancer_config, context)?;
            Ok((picked, candidate.wants_report()))
        });
        asked.inspect_err(|error| self.warn(error)).ok()
    }
}
