//! Balancer `ring-hash`: the same hash goes to the same endpoint. When an endpoint goes, only its own keys move.
//!
//! Consistent hashing (Karger et al., "Consistent Hashing and Random Trees", STOC 1997) with the layout of ketama (Jones, last.fm 2007): many
//! points for each endpoint, in proportion to its weight. Compared with `maglev`, a change moves no key that it need not move, the shares are
//! less even, and a pick is a binary search. Without a hash the pick is random, in proportion to the weights.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_ring::Ring;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `ring-hash`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// The average number of points on the ring for each endpoint. Shares are off by about 1 / sqrt(points), which is 8 % for ketama's 160. Each point takes 16
    /// bytes.
    #[schemars(range(min = 1, max = 4096))]
    pub points_per_endpoint: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { points_per_endpoint: 160 }
    }
}

/// The balancer of one pool.
#[derive(Debug)]
pub struct RingHash {
    points: u32,
    ring: Ring,
}

impl Balancer for RingHash {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        let points = config.points_per_endpoint;
        if !(1..=4096).contains(&points) {
            return Err(format!("config: pointsPerEndpoint: {points} is not from 1 to 4096"));
        }
        Ok(Self { points, ring: Ring::default() })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        // The old ring is freed first, as there is no memory for two of the largest size.
        self.ring = Ring::default();
        self.ring = Ring::new(endpoints, self.points);
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        self.ring.nth_different(pick.hash.unwrap_or_else(|| pick.random()), pick.attempt)
    }
}

sluicegate_sdk::export_balancer!(RingHash);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_ring::mix;
    use sluicegate_sdk::testing::FakeHost;

    fn pool(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight): (usize, &u32)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        weights.iter().enumerate().map(endpoint).collect()
    }

    /// The addresses to which 20,000 keys go.
    fn keys(endpoints: &[Endpoint]) -> Vec<String> {
        let mut balancer = RingHash::open(Config::default()).expect("the default is in range");
        balancer.update(endpoints);
        let mut pick = Pick::fake(&FakeHost::default());
        let mut place = |key| {
            pick.hash = Some(mix(key));
            endpoints[balancer.pick(&pick).expect("the pool is not empty")].address.clone()
        };
        (0..20_000).map(&mut place).collect()
    }

    #[test]
    fn keys_are_spread_by_weight() {
        for weights in [vec![1; 10], vec![1, 2, 3, 4], vec![1, 0, 9]] {
            let endpoints = pool(&weights);
            let (placed, total) = (keys(&endpoints), weights.iter().sum::<u32>());
            for endpoint in &endpoints {
                let count = placed.iter().filter(|address| **address == endpoint.address).count();
                let expected = 20_000 * endpoint.weight as usize / total as usize;
                assert!(count.abs_diff(expected) <= expected * 3 / 10, "{count} is not about {expected} for {weights:?}");
            }
        }
    }

    #[test]
    fn a_removal_moves_only_the_keys_of_the_removed() {
        let endpoints = pool(&[1; 20]);
        let mut fewer = endpoints.clone();
        let removed = fewer.remove(7).address;
        let (before, after) = (keys(&endpoints), keys(&fewer));
        assert!(before.iter().zip(&after).all(|(b, a)| *b == removed || b == a));
        let heirs: std::collections::BTreeSet<_> = before.iter().zip(&after).filter(|(b, _)| **b == removed).map(|(_, a)| a).collect();
        assert!(heirs.len() > 10, "many inherit them: {heirs:?}");
    }

    #[test]
    fn the_order_of_the_pool_does_not_matter() {
        let endpoints = pool(&[1, 1, 3, 1, 1]);
        let mut turned = endpoints.clone();
        turned.rotate_left(2);
        assert_eq!(keys(&endpoints), keys(&turned));
    }

    #[test]
    fn the_points_are_in_range() {
        for points_per_endpoint in [0, 4097] {
            assert!(RingHash::open(Config { points_per_endpoint }).is_err());
        }
    }
}
