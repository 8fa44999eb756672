//! Balancer `round-robin`: picks each endpoint in turn, in proportion to its weight, spread as evenly as the weights allow.
//!
//! The algorithm is nginx's smooth weighted round-robin (commit 52327e0627, "Upstream: smooth weighted round-robin balancing", 2012): at each
//! pick every endpoint's credit grows by its weight, the one with the most credit is picked and pays the sum of all weights. Weights 5, 1, 1
//! give a a b a c a a, not a a a a a b c.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `round-robin`, which is empty.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The number of places in the order at which a new pool may begin.
const MOST_PLACES: usize = 64;

/// The balancer of one pool: the credits of its endpoints.
#[derive(Debug, Default)]
pub struct RoundRobin {
    turns: Vec<Turn>,
    total: i64,
}

#[derive(Debug)]
struct Turn {
    address: String,
    weight: i64,
    /// The credit, which stays between minus and plus `total`, so it cannot overflow.
    credit: i64,
}

impl Balancer for RoundRobin {
    type Config = Config;

    fn open(_: Config) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        let weight = |endpoint: &Endpoint| {
            if all_zero { 1 } else { i64::from(endpoint.weight) }
        };
        self.total = endpoints.iter().map(weight).sum();
        let fresh = self.turns.is_empty();
        let mut known: std::collections::BTreeMap<String, i64> = self.turns.drain(..).map(|turn| (turn.address, turn.credit)).collect();
        self.turns = endpoints
            .iter()
            .map(|endpoint| {
                // An endpoint that stays in the pool keeps its place in the order.
                let credit = known.remove(&endpoint.address).unwrap_or(0).clamp(-self.total, self.total);
                Turn { address: endpoint.address.clone(), weight: weight(endpoint), credit }
            })
            .collect();
        if fresh {
            // Workers begin at different places; otherwise all of them would send their first request to the same endpoint. Each place costs a look at every
            // endpoint, so their number is limited.
            let places = endpoints.len().clamp(1, MOST_PLACES) as u64;
            for _ in 0..sluicegate_sdk::random() % places {
                self.next();
            }
        }
    }

    fn pick(&mut self, _: &Pick) -> Option<usize> {
        self.next()
    }
}

impl RoundRobin {
    fn next(&mut self) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut most = i64::MIN;
        for (index, turn) in self.turns.iter_mut().enumerate() {
            if turn.weight == 0 {
                continue;
            }
            turn.credit += turn.weight;
            if turn.credit > most {
                most = turn.credit;
                best = Some(index);
            }
        }
        self.turns[best?].credit -= self.total;
        best
    }
}

sluicegate_sdk::export_balancer!(RoundRobin);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn pool(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        weights.iter().enumerate().map(endpoint).collect()
    }

    fn picks(balancer: &mut RoundRobin, n: usize) -> Vec<usize> {
        let pick = Pick::fake(&FakeHost::default());
        (0..n).map(|_| balancer.pick(&pick).expect("the pool is not empty")).collect()
    }

    #[test]
    fn each_round_is_exact_and_smooth() {
        for start in 0..8 {
            seed(start);
            let mut balancer = RoundRobin::default();
            balancer.update(&pool(&[5, 1, 1]));
            let round = picks(&mut balancer, 7);
            assert_eq!((0..3).map(|i| round.iter().filter(|&&p| p == i).count()).collect::<Vec<_>>(), [5, 1, 1]);
            let longest = picks(&mut balancer, 70).chunk_by(|a, b| a == b).map(<[usize]>::len).max();
            // A round is a a b a c a a, so the end of one and the beginning of the next give four in a row, and nothing gives more.
            assert!(longest <= Some(4), "{longest:?}");
        }
    }

    #[test]
    fn equal_weights_take_turns() {
        let mut balancer = RoundRobin::default();
        balancer.update(&pool(&[1, 1, 1]));
        let order = picks(&mut balancer, 6);
        assert_eq!(order[..3], order[3..]);
        assert_ne!(order[0], order[1]);
        assert_ne!(order[1], order[2]);
    }

    #[test]
    fn weight_zero_is_picked_only_if_all_are_zero() {
        let mut balancer = RoundRobin::default();
        balancer.update(&pool(&[0, 1]));
        assert_eq!(picks(&mut balancer, 3), [1, 1, 1]);
        balancer.update(&pool(&[0, 0]));
        let mut both = picks(&mut balancer, 2);
        both.sort_unstable();
        assert_eq!(both, [0, 1]);
    }

    #[test]
    fn an_update_keeps_the_place_in_the_order() {
        let mut balancer = RoundRobin::default();
        balancer.update(&pool(&[1, 1, 1, 1]));
        let before = picks(&mut balancer, 2);
        balancer.update(&pool(&[1, 1, 1, 1]));
        let after = picks(&mut balancer, 2);
        assert!(after.iter().all(|index| !before.contains(index)), "{before:?} {after:?}");
    }

    #[test]
    fn an_empty_pool_has_nothing_to_pick() {
        let mut balancer = RoundRobin::default();
        assert_eq!(balancer.pick(&Pick::fake(&FakeHost::default())), None);
        balancer.update(&[]);
        assert_eq!(balancer.pick(&Pick::fake(&FakeHost::default())), None);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let mut balancer = RoundRobin::default();
        balancer.update(&pool(&[u32::MAX; 8]));
        let mut round = picks(&mut balancer, 8);
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
