//! Balancer `zone-aware`: traffic stays in the gateway's zone as long as endpoints there have room.
//!
//! After Envoy's zone aware routing ("Zone aware routing", Envoy documentation, Load Balancing), which computes by host counts what share of its traffic a zone
//! can keep. Here the exchanges under way decide: of two random local endpoints the less busy one serves, unless it has more under way, for its weight, than
//! `spillAt`. Then the less busy of two other endpoints serves, if it has less under way. So a zone with too few endpoints, or slow ones, gives away what it
//! cannot do, and takes it back by itself.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};
use sluicegate_two_choices::{Candidate, candidates, less_busy};

/// The configuration of `zone-aware`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// The gateway's zone, in which traffic is kept. If it is empty, all endpoints are alike.
    pub zone: String,
    /// The number of exchanges under way at a local endpoint of weight 1 from which on other endpoints are asked, too.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub spill_at: u32,
    /// The smallest number of local endpoints with which traffic is kept in the zone. With fewer, a single endpoint that fails could be all of the zone.
    #[schemars(range(min = 1, max = 100_000))]
    pub min_local_endpoints: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { zone: String::new(), spill_at: 100, min_local_endpoints: 1 }
    }
}

/// The balancer of one pool: its local endpoints and the others, each with its index in the pool and its weight.
#[derive(Debug)]
pub struct ZoneAware {
    config: Config,
    local: Vec<Candidate>,
    others: Vec<Candidate>,
}

impl Balancer for ZoneAware {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        if !(1..=1_000_000).contains(&config.spill_at) {
            return Err(format!("config: spillAt: {} is not from 1 to 1000000", config.spill_at));
        }
        if !(1..=100_000).contains(&config.min_local_endpoints) {
            return Err(format!("config: minLocalEndpoints: {} is not from 1 to 100000", config.min_local_endpoints));
        }
        Ok(Self { config, local: Vec::new(), others: Vec::new() })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let zone = &self.config.zone;
        let is_local = |&(index, _): &Candidate| !zone.is_empty() && endpoints[index].zone.as_deref() == Some(zone);
        (self.local, self.others) = candidates(endpoints).partition(is_local);
        if self.local.len() < self.config.min_local_endpoints as usize {
            self.others.append(&mut self.local);
            self.others.sort_unstable();
        }
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let Some((near, near_load)) = less_busy(&self.local, pick) else { return less_busy(&self.others, pick).map(|(index, _)| index) };
        // A retry may go anywhere, as the whole zone may have failed.
        if near_load <= f64::from(self.config.spill_at) && pick.attempt == 0 {
            return Some(near);
        }
        match less_busy(&self.others, pick) {
            Some((far, far_load)) if far_load < near_load || pick.attempt > 0 => Some(far),
            _ => Some(near),
        }
    }
}

sluicegate_sdk::export_balancer!(ZoneAware);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn balancer(config: Config, zones: &[&str]) -> ZoneAware {
        seed(5);
        let mut balancer = ZoneAware::open(config).expect("in range");
        let endpoint = |(i, zone): (usize, &&str)| Endpoint { zone: Some((*zone).to_owned()), ..Endpoint::new(format!("10.0.0.{i}:80")) };
        balancer.update(&zones.iter().enumerate().map(endpoint).collect::<Vec<_>>());
        balancer
    }

    fn here(spill_at: u32) -> Config {
        Config { zone: "a".to_owned(), spill_at, ..Config::default() }
    }

    /// Places exchanges that never end; returns how many each endpoint has.
    fn place(balancer: &mut ZoneAware, endpoints: usize, exchanges: usize) -> Vec<u32> {
        let mut host = FakeHost { in_flight: vec![0; endpoints], ..FakeHost::default() };
        for _ in 0..exchanges {
            let index = balancer.pick(&Pick::fake(&host)).expect("the pool is not empty");
            host.in_flight[index] += 1;
        }
        host.in_flight
    }

    #[test]
    fn what_the_zone_can_do_stays_in_it() {
        let loads = place(&mut balancer(here(100), &["a", "b", "a", "c"]), 4, 190);
        assert_eq!((loads[1], loads[3]), (0, 0), "{loads:?}");
        assert!(loads[0].abs_diff(loads[2]) <= 1, "{loads:?}");
    }

    #[test]
    fn what_it_cannot_do_goes_out_until_all_are_even() {
        let loads = place(&mut balancer(here(100), &["a", "b", "b", "c"]), 4, 4_000);
        // The local endpoint fills first. Then the others catch up with it.
        assert!(loads.iter().all(|load| load.abs_diff(1_000) < 60), "{loads:?}");
    }

    #[test]
    fn a_zone_without_endpoints_and_no_zone_at_all_use_what_there_is() {
        for config in [Config { zone: "z".to_owned(), ..Config::default() }, Config::default()] {
            let loads = place(&mut balancer(config, &["a", "b"]), 2, 1_000);
            assert!(loads[0].abs_diff(loads[1]) <= 2, "{loads:?}");
        }
    }

    #[test]
    fn too_few_local_endpoints_keep_nothing_to_themselves() {
        let config = Config { min_local_endpoints: 2, ..here(100) };
        let loads = place(&mut balancer(config, &["a", "b", "b"]), 3, 90);
        assert!(loads.iter().all(|load| load.abs_diff(30) <= 2), "{loads:?}");
    }

    #[test]
    fn a_retry_leaves_the_zone() {
        let mut balancer = balancer(here(100), &["a", "b"]);
        let mut pick = Pick::fake(&FakeHost::default());
        assert_eq!(balancer.pick(&pick), Some(0));
        pick.attempt = 1;
        assert_eq!(balancer.pick(&pick), Some(1));
        balancer.update(&[]);
        assert_eq!(balancer.pick(&pick), None);
    }
}
