//! Balancer `maglev`: the same hash goes to the same endpoint, on every worker and every gateway, and a change of the pool moves few keys.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4): each endpoint has its own
//! permutation of the slots of a table, and the endpoints take turns at claiming the next free slot of theirs. A pick is one read of the table.
//! A heavier endpoint claims more slots in each turn. Without a hash the pick is random, in proportion to the weights.

mod table;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

use table::Table;

/// The configuration of `maglev`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// The number of slots of the table, which must be prime. A pool of more than half as many endpoints has a larger table. With about a hundred slots for
    /// each endpoint, shares are right within a few percent; the paper's table has 65537 slots. Each pool holds 4 bytes for each slot, and a change of the pool
    /// costs filling the table.
    #[schemars(range(min = 3, max = 1_048_573))]
    pub table_size: u32,
}

impl Default for Config {
    fn default() -> Self {
        // The paper's 65537 would take 256 KiB a pool, and there may be thousands of pools in one instance.
        Self { table_size: 4099 }
    }
}

/// The balancer of one pool.
#[derive(Debug)]
pub struct Maglev {
    table_size: u32,
    table: Table,
}

impl Balancer for Maglev {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        let size = config.table_size;
        if !(3..=1_048_573).contains(&size) || !is_prime(size) {
            return Err(format!("config: tableSize: {size} is not a prime number from 3 to 1048573; 4099, 16411 and 65537 are"));
        }
        Ok(Self { table_size: size, table: Table::default() })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        self.table = Table::fill(self.table_size, endpoints);
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        match pick.hash {
            Some(hash) => self.table.nth_different(hash, pick.attempt),
            None => self.table.at(pick.random()),
        }
    }
}

/// Whether a number is prime, by trial division: this takes at most 512 steps for the sizes that are allowed.
fn is_prime(n: u32) -> bool {
    n == 2 || (n > 2 && n % 2 == 1 && (3..).step_by(2).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d)))
}

sluicegate_sdk::export_balancer!(Maglev);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn pool(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight)| Endpoint { weight, ..Endpoint::new(format!("10.0.{}.{}:80", i / 250, i % 250)) };
        weights.iter().enumerate().map(endpoint).collect()
    }

    fn maglev(endpoints: &[Endpoint]) -> Maglev {
        let mut maglev = Maglev::open(Config::default()).expect("the default size is prime");
        maglev.update(endpoints);
        maglev
    }

    fn at(hash: u64, attempt: u32) -> Pick {
        let mut pick = Pick::fake(&FakeHost::default());
        pick.hash = Some(hash);
        pick.attempt = attempt;
        pick
    }

    /// The addresses to which 20,000 keys go.
    fn keys(maglev: &mut Maglev, endpoints: &[Endpoint]) -> Vec<String> {
        let address = |key: u64| endpoints[maglev.pick(&at(table::mix(key), 0)).expect("the pool is not empty")].address.clone();
        (0..20_000).map(address).collect()
    }

    #[test]
    fn keys_are_spread_evenly_and_by_weight() {
        for weights in [vec![1; 10], vec![1, 2, 3, 4], vec![1, 0, 9]] {
            let endpoints = pool(&weights);
            let placed = keys(&mut maglev(&endpoints), &endpoints);
            let total: u32 = weights.iter().sum();
            for endpoint in &endpoints {
                let count = placed.iter().filter(|address| **address == endpoint.address).count();
                let expected = 20_000 * endpoint.weight as usize / total as usize;
                assert!(count.abs_diff(expected) <= expected / 10, "{count} is not about {expected} for {weights:?}");
            }
        }
    }

    #[test]
    fn a_pool_that_is_larger_than_the_table_leaves_nobody_out() {
        for (size, weight) in [(3_000, 1), (10_000, 1), (10_000, 7)] {
            let mut endpoints = pool(&vec![weight; size]);
            endpoints[0].weight = 7;
            let table = table::Table::fill(4099, &endpoints);
            let held: std::collections::BTreeSet<_> = (0..1_048_573).filter_map(|hash| table.at(hash)).collect();
            assert_eq!(held.len(), size, "{size} of weight {weight}");
        }
    }

    #[test]
    fn one_heavy_endpoint_makes_an_update_no_slower_than_the_table_is_large() {
        let mut endpoints = pool(&vec![1; 10_000]);
        endpoints[5_000].weight = u32::MAX;
        let begun = std::time::Instant::now();
        let table = table::Table::fill(4099, &endpoints);
        assert!((0..100).all(|hash| table.at(table::mix(hash)) == Some(5_000)), "it holds nearly all slots");
        // Turn by turn, this took 650 million steps.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_removal_moves_few_keys_of_the_others() {
        let endpoints = pool(&[1; 20]);
        let mut fewer = endpoints.clone();
        let removed = fewer.remove(7).address;
        let before = keys(&mut maglev(&endpoints), &endpoints);
        let after = keys(&mut maglev(&fewer), &fewer);
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != removed && b != a).count();
        // The keys of the removed endpoint must move (about 1,000). Of the other 19,000, a few percent move by the paper's figure 12.
        assert!(moved < 1_200, "{moved} keys moved that need not have");
    }

    #[test]
    fn the_order_of_the_pool_does_not_matter() {
        let endpoints = pool(&[1, 1, 3, 1, 1]);
        let mut turned = endpoints.clone();
        turned.rotate_left(2);
        assert_eq!(keys(&mut maglev(&endpoints), &endpoints), keys(&mut maglev(&turned), &turned));
    }

    #[test]
    fn each_retry_goes_to_another_endpoint() {
        let mut maglev = maglev(&pool(&[1, 1, 1, 1]));
        for key in 0..200 {
            let mut tried: Vec<_> = (0..4).map(|attempt| maglev.pick(&at(table::mix(key), attempt))).collect();
            tried.sort_unstable();
            assert_eq!(tried, [Some(0), Some(1), Some(2), Some(3)]);
            // After the last endpoint the first one comes again.
            assert_eq!(maglev.pick(&at(table::mix(key), 4)), maglev.pick(&at(table::mix(key), 0)));
        }
    }

    #[test]
    fn without_a_hash_the_pick_is_random() {
        seed(9);
        let mut maglev = maglev(&pool(&[1, 3]));
        let pick = Pick::fake(&FakeHost::default());
        let heavy = (0..10_000).filter(|_| maglev.pick(&pick) == Some(1)).count();
        assert!(heavy.abs_diff(7_500) < 200, "{heavy}");
    }

    #[test]
    fn weight_zero_is_picked_only_if_all_are_zero() {
        let mut some = maglev(&pool(&[0, 1]));
        assert!((0..100).all(|key| some.pick(&at(table::mix(key), 0)) == Some(1)));
        let mut none = maglev(&pool(&[0, 0]));
        assert!((0..100).any(|key| none.pick(&at(table::mix(key), 0)) == Some(0)));
        assert_eq!(maglev(&[]).pick(&at(1, 0)), None);
    }

    #[test]
    fn the_size_is_a_prime() {
        for size in [0, 2, 4, 4097, 65536, u32::MAX] {
            assert!(Maglev::open(Config { table_size: size }).is_err(), "{size}");
        }
        assert!(Maglev::open(Config { table_size: 65537 }).is_ok());
    }

    #[test]
    fn more_endpoints_than_slots_fill_the_table_and_end() {
        let mut small = Maglev::open(Config { table_size: 7 }).expect("7 is prime");
        small.update(&pool(&vec![u32::MAX; 300]));
        assert!(small.pick(&at(3, 0)).is_some());
        assert!(small.pick(&at(3, 250)).is_some());
    }
}
