//! The failure ladder: the live generation of a plugin is asked, then the previous good one, and for an endpoint at last a native random choice. The caller
//! brings the instances and notes the failures.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::Rng;
use sluicegate_model::native::{ASK_AGAIN, random_choice, untried};
use sluicegate_model::plugin::{Balancer, PickContext, PluginError, Router, RouterGeneration};
use sluicegate_model::pool::{EmptyReason, Endpoint, Pool};
use sluicegate_model::route::{Decision, RouteView};
use sluicegate_model::snapshot::{RouterBinding, RouterRung};

/// The instances of routers.
pub trait Routers {
    /// The instance of a generation.
    ///
    /// # Errors
    /// It could not be made.
    fn router(&mut self, generation: &Arc<dyn RouterGeneration>) -> Result<&mut dyn Router, PluginError>;

    /// Is told that a generation failed, and the next one is asked.
    fn failed(&mut self, rung: &RouterRung, error: &PluginError);
}

/// The decision and the rung that made it; none when no generation could.
pub fn route<'a>(binding: &'a RouterBinding, view: &RouteView<'_>, routers: &mut impl Routers) -> Option<(&'a RouterRung, Decision)> {
    for rung in binding.ladder.iter().filter(|rung| !rung.generation.generation().stats.quarantined()) {
        match routers.router(&rung.generation).and_then(|router| router.route(&rung.table, view)) {
            Ok(decision) => return Some((rung, decision)),
            Err(error) => routers.failed(rung, &error),
        }
    }
    None
}

/// The generations of one service port's balancer, the live one first.
pub trait Balancers {
    /// The number of generations.
    fn count(&self) -> usize;

    /// Whether a generation is quarantined, so that nothing is asked of it.
    fn is_quarantined(&self, rung: usize) -> bool;

    /// The instance of a generation.
    ///
    /// # Errors
    /// It could not be made.
    fn balancer(&mut self, rung: usize) -> Result<&mut dyn Balancer, PluginError>;

    /// Is told that a generation failed, and the next one is asked.
    fn failed(&mut self, rung: usize, error: &PluginError);

    /// Is told, once a pick, that the live generation does not decide but what comes after it.
    fn fell_back(&mut self);
}

/// What is asked of a balancer.
#[derive(Clone, Copy)]
pub struct Question<'q> {
    /// The pool to pick from.
    pub pool: &'q Arc<Pool>,
    /// The balancer's configuration.
    pub config: &'q Arc<str>,
    /// The hash of what the service's hash key names.
    pub hash: Option<u64>,
    /// The endpoints that were tried for this exchange already.
    pub tried: &'q [SocketAddr],
    /// Random bits for the first question; none: the host draws them.
    pub random: Option<u64>,
    /// Whether there is no native choice (`failurePolicy: Fail`).
    pub fail_closed: bool,
}

/// The endpoint that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The index of the endpoint in the pool.
    pub index: usize,
    /// The generation that chose it; none: it was the native choice.
    pub rung: Option<usize>,
    /// Whether that generation wants to know the outcome.
    pub wants_report: bool,
}

/// Why no endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPick {
    /// The pool is empty, or the balancer wants none of its endpoints.
    Empty,
    /// There are endpoints, but none on this node, and the traffic policy is Local.
    NoLocal,
    /// The balancer failed, and its policy allows no other choice.
    Failed,
}

/// Why a pool has no endpoints; none if it has some.
pub fn without_endpoints(pool: &Pool) -> Option<NoPick> {
    let why = if pool.empty == Some(EmptyReason::NoLocalEndpoints) { NoPick::NoLocal } else { NoPick::Empty };
    pool.endpoints.is_empty().then_some(why)
}

/// Whether an endpoint was ejected after its pool was made. It takes control up to a second to make another pool. In a panic all endpoints are used.
pub fn just_ejected(pool: &Pool, endpoint: &Endpoint) -> bool {
    !pool.panic && endpoint.stats.health.is_ejected()
}

/// Picks an endpoint that was not tried, or any if all were. `random`: for the native choice.
///
/// # Errors
/// There is no endpoint to be had.
pub fn pick<R: Rng>(question: &Question<'_>, balancers: &mut impl Balancers, random: impl FnOnce() -> R) -> Result<Chosen, NoPick> {
    let &Question { pool, config, hash, tried, fail_closed, .. } = question;
    if let Some(why) = without_endpoints(pool) {
        return Err(why);
    }
    let tried_already = |index: usize| pool.endpoints.get(index).is_none_or(|e| tried.contains(&e.address) || just_ejected(pool, e));
    let native = || {
        let random = &mut random();
        let index = untried(pool.endpoints.len(), tried_already, random).or_else(|| random_choice(pool, random));
        index.map(|index| Chosen { index, rung: None, wants_report: false }).ok_or(NoPick::Empty)
    };
    let first = u32::try_from(tried.len()).unwrap_or(u32::MAX);
    for rung in 0..balancers.count() {
        // A pick that goes down the ladder is counted once, at the second rung.
        if rung == 1 {
            balancers.fell_back();
        }
        if balancers.is_quarantined(rung) {
            continue;
        }
        let balancer = match balancers.balancer(rung) {
            Ok(balancer) => balancer,
            Err(error) => {
                balancers.failed(rung, &error);
                continue;
            }
        };
        let mut failed = None;
        for attempt in first..first.saturating_add(ASK_AGAIN) {
            let context = PickContext { hash, attempt, random: question.random.filter(|_| attempt == first) };
            match balancer.pick(pool, config, context) {
                Ok(None) => return Err(NoPick::Empty),
                Ok(Some(index)) if !tried_already(index) => {
                    return Ok(Chosen { index, rung: Some(rung), wants_report: balancer.wants_report() });
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        match failed {
            Some(error) => balancers.failed(rung, &error),
            // The balancer insists on endpoints that were tried. That is no failure, and the native choice is among the others.
            None => return native(),
        }
    }
    if fail_closed {
        return Err(NoPick::Failed);
    }
    if balancers.count() == 1 {
        balancers.fell_back();
    }
    native()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use sluicegate_model::plugin::Stage;

    use super::*;

    /// What a generation does when it is asked.
    #[derive(Clone, Copy)]
    enum Does {
        Picks(Option<usize>),
        Fails,
        IsQuarantined,
    }

    struct Fake(Does);

    fn failure() -> PluginError {
        PluginError { plugin: "fake".into(), stage: Stage::Pick, reason: "as asked".to_owned() }
    }

    impl Balancer for Fake {
        fn pick(&mut self, _pool: &Arc<Pool>, _config: &Arc<str>, _context: PickContext) -> Result<Option<usize>, PluginError> {
            match self.0 {
                Does::Picks(index) => Ok(index),
                Does::Fails | Does::IsQuarantined => Err(failure()),
            }
        }

        fn retain(&mut self, _live: &dyn Fn(u64) -> bool) {}
    }

    /// The generations, the failures that were told, and how often the live one did not decide.
    struct Fakes {
        all: Vec<Fake>,
        failed: Vec<usize>,
        fell_back: usize,
    }

    impl Balancers for Fakes {
        fn count(&self) -> usize {
            self.all.len()
        }

        fn is_quarantined(&self, rung: usize) -> bool {
            matches!(self.all[rung].0, Does::IsQuarantined)
        }

        fn balancer(&mut self, rung: usize) -> Result<&mut dyn Balancer, PluginError> {
            Ok(&mut self.all[rung])
        }

        fn failed(&mut self, rung: usize, _error: &PluginError) {
            self.failed.push(rung);
        }

        fn fell_back(&mut self) {
            self.fell_back += 1;
        }
    }

    /// The choice from three endpoints, the rungs that failed, and how often the live generation did not decide.
    fn asked(generations: &[Does], tried: &[usize], fail_closed: bool) -> (Result<Chosen, NoPick>, Vec<usize>, usize) {
        let address = |index: usize| SocketAddr::from(([192, 0, 2, 1], u16::try_from(index).unwrap()));
        let endpoints = (0..3).map(|index| Endpoint::new(address(index))).collect();
        let pool = Arc::new(Pool { id: 1, version: 1, endpoints, draining: Vec::new(), panic: false, empty: None });
        let tried: Vec<SocketAddr> = tried.iter().copied().map(address).collect();
        let question = Question { pool: &pool, config: &"".into(), hash: None, tried: &tried, random: None, fail_closed };
        let mut fakes = Fakes { all: generations.iter().copied().map(Fake).collect(), failed: Vec::new(), fell_back: 0 };
        let chosen = pick(&question, &mut fakes, rand::rng);
        (chosen, fakes.failed, fakes.fell_back)
    }

    #[test]
    fn each_generation_is_asked_in_turn_and_then_none() {
        use Does::{Fails, IsQuarantined, Picks};
        let by = |index, rung| Ok(Chosen { index, rung: Some(rung), wants_report: false });
        assert_eq!(asked(&[Picks(Some(2)), Fails], &[], false), (by(2, 0), vec![], 0));
        assert_eq!(asked(&[Fails, Picks(Some(1))], &[], false), (by(1, 1), vec![0], 1));
        assert_eq!(asked(&[IsQuarantined, Picks(Some(1))], &[], false), (by(1, 1), vec![], 1));
        assert_eq!(asked(&[Picks(None), Picks(Some(1))], &[], false), (Err(NoPick::Empty), vec![], 0), "its word counts");
        let (native, failed, fell_back) = asked(&[Fails, Fails], &[], false);
        assert_eq!((native.unwrap().rung, failed, fell_back), (None, vec![0, 1], 1));
        assert_eq!(asked(&[Fails], &[], true), (Err(NoPick::Failed), vec![0], 0));
        assert_eq!(asked(&[Fails], &[], false).2, 1);
    }

    #[test]
    fn who_insists_on_what_was_tried_is_not_asked_for_ever_and_has_not_failed() {
        let (native, failed, fell_back) = asked(&[Does::Picks(Some(0))], &[0, 1], false);
        assert_eq!((native, failed, fell_back), (Ok(Chosen { index: 2, rung: None, wants_report: false }), vec![], 0));
        assert!(asked(&[Does::Picks(Some(0))], &[0, 1, 2], false).0.is_ok(), "where all were tried, any of them");
    }
}
