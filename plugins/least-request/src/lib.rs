//! Balancer `least-request`: of two random endpoints it picks the one with fewer exchanges under way for its weight.
//!
//! This is the power of two choices (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001): it is nearly as even as
//! asking all endpoints, at a constant cost, and not all workers run to whichever endpoint looks idlest.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `least-request`, which is empty.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The endpoints of one pool that may be picked.
#[derive(Debug, Default)]
pub struct LeastRequest {
    /// The index of each endpoint in the pool, and its weight.
    candidates: Vec<(usize, u64)>,
}

impl Balancer for LeastRequest {
    type Config = Config;

    fn open(_: Config) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        let weights = endpoints.iter().map(|endpoint| if all_zero { 1 } else { u64::from(endpoint.weight) });
        self.candidates.clear();
        self.candidates.extend(weights.enumerate().filter(|&(_, weight)| weight > 0));
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let n = self.candidates.len();
        if n < 2 {
            return self.candidates.first().map(|&(index, _)| index);
        }
        let first = pick.below(n);
        // The second is one of the others, so that two different endpoints are compared.
        let second = (first + 1 + pick.below(n - 1)) % n;
        let ((a, a_weight), (b, b_weight)) = (self.candidates[first], self.candidates[second]);
        // (a's load) / (a's weight) <= (b's load) / (b's weight), without dividing. The load counts the exchange that is being placed, so that
        // weights tell among idle endpoints too.
        let load = |index| u64::from(pick.in_flight(index)) + 1;
        let (a_cost, b_cost) = (u128::from(load(a)) * u128::from(b_weight), u128::from(load(b)) * u128::from(a_weight));
        Some(if a_cost <= b_cost { a } else { b })
    }
}

sluicegate_sdk::export_balancer!(LeastRequest);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn balancer(weights: &[u32]) -> LeastRequest {
        seed(5);
        let mut balancer = LeastRequest::default();
        let endpoint = |(i, &weight)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        balancer.update(&weights.iter().enumerate().map(endpoint).collect::<Vec<_>>());
        balancer
    }

    /// Places exchanges that never end; returns how many each endpoint got.
    fn place(weights: &[u32], exchanges: usize) -> Vec<u32> {
        let mut balancer = balancer(weights);
        let mut host = FakeHost { in_flight: vec![0; weights.len()], ..FakeHost::default() };
        for _ in 0..exchanges {
            let index = balancer.pick(&Pick::fake(&host)).expect("the pool is not empty");
            host.in_flight[index] += 1;
        }
        host.in_flight
    }

    #[test]
    fn the_busiest_endpoint_is_never_picked_against_another() {
        let mut balancer = balancer(&[1, 1, 1]);
        let pick = Pick::fake(&FakeHost { in_flight: vec![9, 0, 0], ..FakeHost::default() });
        assert!((0..1_000).all(|_| balancer.pick(&pick) != Some(0)));
    }

    #[test]
    fn load_is_much_more_even_than_chance() {
        // Random choice would be off by about sqrt(1000 ln 10) = 48 here; two choices are off by about ln ln n.
        let loads = place(&[1; 10], 10_000);
        assert!(loads.iter().all(|&load| load.abs_diff(1_000) <= 5), "{loads:?}");
    }

    #[test]
    fn load_follows_the_weights() {
        let loads = place(&[1, 2, 3], 6_000);
        for (load, expected) in loads.into_iter().zip([1_000u32, 2_000, 3_000]) {
            assert!(load.abs_diff(expected) <= 60, "{load} is not about {expected}");
        }
    }

    #[test]
    fn weight_zero_is_picked_only_if_all_are_zero() {
        assert_eq!(place(&[0, 1, 0], 10), [0, 10, 0]);
        assert_eq!(place(&[0, 0], 10), [5, 5]);
    }

    #[test]
    fn an_empty_pool_has_nothing_to_pick() {
        assert_eq!(balancer(&[]).pick(&Pick::fake(&FakeHost::default())), None);
    }
}
