//! Balancer `random`: each pick is random by itself, in proportion to the weights. There is no order, so many gateways cannot fall into step.
//!
//! A pick is a binary search in the running sums of the weights (inverse transform sampling: Knuth, The Art of Computer Programming,
//! volume 2, §3.4.1).

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `random`, which is empty.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The balancer of one pool: the running sums of its weights.
#[derive(Debug, Default)]
pub struct Random {
    /// The sum of the weights up to and with each endpoint.
    sums: Vec<u64>,
}

impl Balancer for Random {
    type Config = Config;

    fn open(_: Config) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        self.sums.clear();
        self.sums.extend(endpoints.iter().scan(0u64, |sum, endpoint| {
            *sum += if all_zero { 1 } else { u64::from(endpoint.weight) };
            Some(*sum)
        }));
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let total = *self.sums.last()?;
        // Multiply-shift gives a uniform number below the total, without the slow 128-bit division that `%` would be for large totals.
        let point = ((u128::from(pick.random()) * u128::from(total)) >> 64) as u64;
        // The first sum above the point is taken. An endpoint of weight 0 repeats the sum before it, so it is never the first.
        Some(self.sums.partition_point(|&sum| sum <= point))
    }
}

sluicegate_sdk::export_balancer!(Random);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn counts(weights: &[u32], n: usize) -> Vec<usize> {
        seed(3);
        let mut balancer = Random::default();
        let endpoint = |(i, &weight)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        balancer.update(&weights.iter().enumerate().map(endpoint).collect::<Vec<_>>());
        let pick = Pick::fake(&FakeHost::default());
        let mut counts = vec![0; weights.len()];
        for _ in 0..n {
            counts[balancer.pick(&pick).expect("the pool is not empty")] += 1;
        }
        counts
    }

    #[test]
    fn picks_follow_the_weights() {
        let counts = counts(&[1, 2, 0, 7], 100_000);
        assert_eq!(counts[2], 0);
        for (count, expected) in counts.into_iter().zip([10_000usize, 20_000, 0, 70_000]) {
            assert!(count.abs_diff(expected) <= 1_000, "{count} is not about {expected}");
        }
    }

    #[test]
    fn weight_zero_is_picked_only_if_all_are_zero() {
        assert_eq!(counts(&[0, 1, 0], 1_000), [0, 1_000, 0]);
        assert!(counts(&[0, 0], 1_000).into_iter().all(|n| n > 400));
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        assert!(counts(&[u32::MAX; 4], 10_000).into_iter().all(|n| n > 2_000));
    }

    #[test]
    fn an_empty_pool_has_nothing_to_pick() {
        let mut balancer = Random::default();
        assert_eq!(balancer.pick(&Pick::fake(&FakeHost::default())), None);
    }
}
