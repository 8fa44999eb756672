//! Balancer `rendezvous`: every endpoint bids for a key, and the highest bid gets it. When an endpoint goes, only its own keys move.
//!
//! Highest random weight (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM ToN 6(1), 1998), with weights by the logarithmic
//! method (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005): the bid is `-weight / ln u`, `u` a uniform number made of the key and
//! the address. Shares are exact, there is nothing to tune, and no table. A pick costs a bid for each endpoint, so it suits pools of up to some hundreds.
//! Without a hash the pick is random, in proportion to the weights.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_ring::{hash, mix, weighted};
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `rendezvous`, which is empty.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

#[derive(Debug)]
struct Bidder {
    index: usize,
    address: u64,
    weight: f64,
}

/// The balancer of one pool: its bidders.
#[derive(Debug, Default)]
pub struct Rendezvous(Vec<Bidder>);

/// How many tries go to different endpoints. Later ones begin again with the first.
const MOST_TRIES: usize = 16;

impl Bidder {
    fn bid(&self, key: u64) -> f64 {
        // The number is from just above 0 to just below 1, so its logarithm is finite and not 0.
        let uniform = ((mix(key ^ self.address) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -self.weight / uniform.ln()
    }
}

impl Balancer for Rendezvous {
    type Config = Config;

    fn open(_: Config) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let bidder = |(index, weight)| Bidder { index, address: hash(endpoints[index].address.as_bytes()), weight: f64::from(weight) };
        self.0 = weighted(endpoints).into_iter().map(bidder).collect();
        // Equal bids are nearly impossible. If they occur, the order of the pool must not decide.
        self.0.sort_by_key(|bidder| bidder.address);
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let key = pick.hash.unwrap_or_else(|| pick.random());
        let tries = (pick.attempt as usize).checked_rem(self.0.len())?.min(MOST_TRIES);
        // The highest bid wins; for a retry, the highest below the one that was tried before.
        let (mut limit, mut winner) = (f64::INFINITY, None);
        for _ in 0..=tries {
            let bids = self.0.iter().map(|bidder| (bidder.bid(key), bidder.index)).filter(|(bid, _)| *bid < limit);
            let highest =
                bids.fold(None, |best: Option<(f64, usize)>, next| if best.is_some_and(|b| b.0 >= next.0) { best } else { Some(next) });
            let Some((bid, index)) = highest else { break };
            (limit, winner) = (bid, Some(index));
        }
        winner
    }
}

sluicegate_sdk::export_balancer!(Rendezvous);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::FakeHost;

    fn pool(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight): (usize, &u32)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        weights.iter().enumerate().map(endpoint).collect()
    }

    fn place(endpoints: &[Endpoint], key: u64, attempt: u32) -> usize {
        let mut balancer = Rendezvous::default();
        balancer.update(endpoints);
        let mut pick = Pick::fake(&FakeHost::default());
        (pick.hash, pick.attempt) = (Some(mix(key)), attempt);
        balancer.pick(&pick).expect("the pool is not empty")
    }

    fn keys(endpoints: &[Endpoint]) -> Vec<String> {
        (0..10_000).map(|key| endpoints[place(endpoints, key, 0)].address.clone()).collect()
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for weights in [vec![1; 10], vec![1, 2, 3, 4], vec![1, 0, 9], vec![1, 1000]] {
            let endpoints = pool(&weights);
            let (placed, total) = (keys(&endpoints), weights.iter().sum::<u32>());
            for endpoint in &endpoints {
                let count = placed.iter().filter(|address| **address == endpoint.address).count() as f64;
                let expected = 10_000.0 * f64::from(endpoint.weight) / f64::from(total);
                // The tolerance is four standard deviations of a binomial distribution.
                assert!((count - expected).abs() <= 4.0 * expected.sqrt(), "{count} is not about {expected} for {weights:?}");
            }
        }
    }

    #[test]
    fn a_removal_moves_only_the_keys_of_the_removed_and_a_weight_only_towards_it() {
        let endpoints = pool(&[1; 12]);
        let mut fewer = endpoints.clone();
        let removed = fewer.remove(7).address;
        let before = keys(&endpoints);
        assert!(before.iter().zip(keys(&fewer)).all(|(b, a)| *b == removed || *b == a));
        let mut heavier = endpoints.clone();
        heavier[3].weight = 2;
        assert!(before.iter().zip(keys(&heavier)).all(|(b, a)| *b == a || a == endpoints[3].address));
    }

    #[test]
    fn each_retry_goes_to_another_endpoint() {
        let endpoints = pool(&[1, 5, 1, 1]);
        for key in 0..200 {
            let mut tried: Vec<_> = (0..4).map(|attempt| place(&endpoints, key, attempt)).collect();
            assert_eq!(place(&endpoints, key, 4), tried[0], "they come round");
            tried.sort_unstable();
            assert_eq!(tried, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn an_empty_pool_has_nothing_to_pick() {
        assert_eq!(Rendezvous::default().pick(&Pick::fake(&FakeHost::default())), None);
        assert_eq!(place(&pool(&[0]), 1, 0), 0);
    }
}
