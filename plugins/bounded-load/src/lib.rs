//! Balancer `bounded-load`: the same hash goes to the same endpoint, unless that endpoint has more than its share to do.
//!
//! Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018): no endpoint may have more than `balance` times the
//! average under way; a key whose endpoint is full goes to the next one on the ring that is not. With 1.25 few keys move, and a hot key spreads
//! over as many endpoints as it needs. Weights scale both points and shares. Without a hash the pick is random, within the same bound.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_ring::{Ring, weighted};
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `bounded-load`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// How many times its fair share an endpoint may have under way. A value near 1 is more even; a larger one moves fewer keys.
    #[schemars(range(min = 1.01, max = 100.0))]
    pub balance: f64,
    /// The average number of points on the ring for each endpoint.
    #[schemars(range(min = 1, max = 4096))]
    pub points_per_endpoint: u32,
}

impl Default for Config {
    /// The `balance` is Vimeo's figure for HAProxy ("Improving load balancing with a new consistent-hashing algorithm", 2016), and the number of points is
    /// ketama's.
    fn default() -> Self {
        Self { balance: 1.25, points_per_endpoint: 160 }
    }
}

/// How many endpoints' loads are read again with each pick, besides those on the key's way.
const READ_ANEW: usize = 4;
/// How many endpoints are looked at on a key's way at most. Each look is a call of the host.
const MOST_LOOKS: usize = 64;

/// The balancer of one pool.
#[derive(Debug)]
pub struct BoundedLoad {
    config: Config,
    ring: Ring,
    /// For each index, the endpoint's share of all, from 0 to 1.
    shares: Vec<f64>,
    /// For each index, what was under way when it was last looked at. Reading all of them for each pick would cost a call for each endpoint.
    loads: Vec<u32>,
    total: u64,
    next: usize,
}

impl BoundedLoad {
    fn look(&mut self, index: usize, pick: &Pick) -> u32 {
        let load = pick.in_flight(index);
        self.total = self.total - u64::from(self.loads[index]) + u64::from(load);
        self.loads[index] = load;
        load
    }
}

impl Balancer for BoundedLoad {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        if !(1.01..=100.0).contains(&config.balance) {
            return Err(format!("config: balance: {} is not from 1.01 to 100", config.balance));
        }
        if !(1..=4096).contains(&config.points_per_endpoint) {
            return Err(format!("config: pointsPerEndpoint: {} is not from 1 to 4096", config.points_per_endpoint));
        }
        Ok(Self { config, ring: Ring::default(), shares: Vec::new(), loads: Vec::new(), total: 0, next: 0 })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        // The old ring is freed first, as there is no memory for two of the largest size.
        self.ring = Ring::default();
        self.ring = Ring::new(endpoints, self.config.points_per_endpoint);
        let chosen = weighted(endpoints);
        let all: f64 = chosen.iter().map(|&(_, weight)| f64::from(weight)).sum();
        self.shares = vec![0.0; endpoints.len()];
        chosen.into_iter().for_each(|(index, weight)| self.shares[index] = f64::from(weight) / all);
        (self.loads, self.total, self.next) = (vec![0; endpoints.len()], 0, 0);
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let key = pick.hash.unwrap_or_else(|| pick.random());
        let first = self.ring.nth_different(key, pick.attempt)?;
        for _ in 0..READ_ANEW.min(self.loads.len()) {
            self.look(self.next, pick);
            self.next = (self.next + 1) % self.loads.len();
        }
        // The ring is borrowed while loads are written, so it is taken out.
        let ring = std::mem::take(&mut self.ring);
        let mut seen = None;
        let way = std::iter::once(first).chain(ring.from(key)).filter(|index| seen.replace(*index) != Some(*index));
        let found = way.take(MOST_LOOKS).find(|&index| {
            let load = self.look(index, pick);
            // The exchange that is being placed is counted, so that an idle pool has room.
            let bound = (self.config.balance * self.shares[index] * (self.total + 1) as f64).ceil();
            f64::from(load) < bound
        });
        self.ring = ring;
        // All endpoints can only seem full while the total is out of date.
        Some(found.unwrap_or(first))
    }
}

sluicegate_sdk::export_balancer!(BoundedLoad);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_ring::mix;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn pool(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight): (usize, &u32)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        weights.iter().enumerate().map(endpoint).collect()
    }

    /// Places exchanges that never end; returns how many each endpoint has.
    fn place(weights: &[u32], keys: impl Iterator<Item = u64>) -> Vec<u32> {
        seed(3);
        let mut balancer = BoundedLoad::open(Config::default()).expect("the default is in range");
        balancer.update(&pool(weights));
        let mut host = FakeHost { in_flight: vec![0; weights.len()], ..FakeHost::default() };
        for key in keys {
            let mut pick = Pick::fake(&host);
            pick.hash = Some(mix(key));
            let index = balancer.pick(&pick).expect("the pool is not empty");
            host.in_flight[index] += 1;
        }
        host.in_flight
    }

    #[test]
    fn no_endpoint_has_more_than_its_bound_even_of_one_key() {
        for loads in [place(&[1; 10], 0..10_000), place(&[1; 10], std::iter::repeat_n(7, 10_000))] {
            assert!(loads.iter().all(|&load| load <= 1_260), "{loads:?}");
        }
        let loads = place(&[1, 3], std::iter::repeat_n(7, 4_000));
        assert!(loads[0] <= 1_260 && loads[1] <= 3_760, "{loads:?}");
    }

    #[test]
    fn with_little_to_do_a_key_stays_where_it_is() {
        let mut balancer = BoundedLoad::open(Config::default()).expect("the default is in range");
        balancer.update(&pool(&[1; 10]));
        let host = FakeHost { in_flight: vec![3; 10], ..FakeHost::default() };
        for key in (0..500).map(mix) {
            let mut pick = Pick::fake(&host);
            pick.hash = Some(key);
            // Several rounds, so that all loads are known.
            for _ in 0..3 {
                balancer.pick(&pick);
            }
            assert_eq!(balancer.pick(&pick), balancer.ring.nth_different(key, 0));
        }
    }

    #[test]
    fn a_full_endpoint_gives_its_keys_to_the_next_and_gets_them_back() {
        let mut balancer = BoundedLoad::open(Config::default()).expect("the default is in range");
        balancer.update(&pool(&[1; 4]));
        let key = mix(9);
        let own = balancer.ring.nth_different(key, 0).expect("the pool is not empty");
        let mut host = FakeHost { in_flight: vec![10; 4], ..FakeHost::default() };
        let mut ask = |host: &FakeHost| {
            let mut pick = Pick::fake(host);
            pick.hash = Some(key);
            balancer.pick(&pick)
        };
        host.in_flight[own] = 40;
        assert_ne!(ask(&host), Some(own));
        host.in_flight[own] = 10;
        assert_eq!(ask(&host), Some(own));
    }

    #[test]
    fn what_is_out_of_range_is_refused_and_an_empty_pool_has_nothing() {
        assert!(BoundedLoad::open(Config { balance: 1.0, ..Config::default() }).is_err());
        assert!(BoundedLoad::open(Config { balance: f64::NAN, ..Config::default() }).is_err());
        let mut balancer = BoundedLoad::open(Config::default()).expect("the default is in range");
        balancer.update(&[]);
        assert_eq!(balancer.pick(&Pick::fake(&FakeHost::default())), None);
    }
}
