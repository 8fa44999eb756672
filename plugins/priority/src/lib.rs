//! Balancer `priority`: the endpoints of the first level serve. When too many of them fail, those of the next level take over what they cannot do.
//!
//! Envoy's priority levels ("Priority levels" and "Overprovisioning factor", Envoy documentation, Load Balancing): a level can serve 1.4 times the
//! share of its endpoints that are healthy, up to all of the traffic; the rest goes to the levels after it, in their order. An endpoint is
//! healthy while its share of successes, which the host counts over all workers, is high enough. When no level can take what is left, the shares are
//! scaled up, so that traffic is spread over whatever still works; one pick in 64 tries an unhealthy endpoint, as nothing else would show
//! that it has recovered. Within a level the less busy of two serves.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// The configuration of `priority`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// The label of pods that has their level: a number, 0 being the first. Pods without it have level 0.
    pub label: String,
    /// The share of successes from which on an endpoint is healthy.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub healthy_success: f32,
    /// How much more than its share an endpoint can take.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub overprovisioning: f32,
}

impl Default for Config {
    /// The factor 1.4 is Envoy's: up to 28 % of a level may fail before another one is asked.
    fn default() -> Self {
        Self { label: "sluicegate.dev/priority".to_owned(), healthy_success: 0.5, overprovisioning: 1.4 }
    }
}

/// The number of picks of which one goes to an unhealthy endpoint.
const PROBE: usize = 64;

/// The endpoints of one level, each with its index in the pool and its weight.
#[derive(Debug, Default)]
struct Level {
    members: Vec<(usize, u64)>,
    healthy: Vec<(usize, u64)>,
    /// The level's share of all traffic, from 0 to 1.
    share: f32,
}

/// The balancer of one pool.
#[derive(Debug)]
pub struct Priority {
    config: Config,
    levels: Vec<Level>,
    unhealthy: Vec<usize>,
    /// The number of picks until health is looked at again. It begins with the number of endpoints, so that looking at all costs one look for each pick.
    due: usize,
    size: usize,
}

impl Priority {
    fn look(&mut self, pick: &Pick) {
        self.due = self.size;
        self.unhealthy.clear();
        let mut left = 1.0_f32;
        for level in &mut self.levels {
            level.healthy.clear();
            for &(index, weight) in &level.members {
                if pick.success(index) >= self.config.healthy_success {
                    level.healthy.push((index, weight));
                } else {
                    self.unhealthy.push(index);
                }
            }
            let able = self.config.overprovisioning * level.healthy.len() as f32 / level.members.len() as f32;
            level.share = able.min(left);
            left -= level.share;
        }
        // Traffic that no level can take is spread over all. If no endpoint is healthy, the first level takes it, as it would if all were healthy.
        let taken = 1.0 - left;
        if taken > 0.0 {
            self.levels.iter_mut().for_each(|level| level.share /= taken);
        } else if let Some(first) = self.levels.first_mut() {
            first.share = 1.0;
            first.healthy.clone_from(&first.members);
        }
    }
}

/// Of two random endpoints, the one that is less busy for its weight (Mitzenmacher, 2001).
fn less_busy(of: &[(usize, u64)], pick: &Pick) -> Option<usize> {
    let n = of.len();
    if n < 2 {
        return of.first().map(|&(index, _)| index);
    }
    let first = pick.below(n);
    let second = (first + 1 + pick.below(n - 1)) % n;
    let (a, b) = (of[first], of[second]);
    let cost = |one: (usize, u64), other: (usize, u64)| (u128::from(pick.in_flight(one.0)) + 1) * u128::from(other.1);
    Some(if cost(a, b) <= cost(b, a) { a.0 } else { b.0 })
}

impl Balancer for Priority {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&config.healthy_success) {
            return Err(format!("config: healthySuccess: {} is not from 0 to 1", config.healthy_success));
        }
        if !(1.0..=100.0).contains(&config.overprovisioning) {
            return Err(format!("config: overprovisioning: {} is not from 1 to 100", config.overprovisioning));
        }
        Ok(Self { config, levels: Vec::new(), unhealthy: Vec::new(), due: 0, size: 0 })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let level = |endpoint: &Endpoint| {
            let label = endpoint.labels.iter().find(|(name, _)| *name == self.config.label);
            label.and_then(|(_, value)| value.parse::<u32>().ok()).unwrap_or(0)
        };
        let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        let weight = |endpoint: &Endpoint| if all_zero { 1 } else { u64::from(endpoint.weight) };
        let mut sorted: Vec<(u32, usize, u64)> = endpoints.iter().enumerate().map(|(i, e)| (level(e), i, weight(e))).collect();
        sorted.retain(|&(_, _, weight)| weight > 0);
        sorted.sort_unstable();
        let of_one = |chunk: &[(u32, usize, u64)]| Level {
            members: chunk.iter().map(|&(_, index, weight)| (index, weight)).collect(),
            healthy: Vec::with_capacity(chunk.len()),
            share: 0.0,
        };
        self.levels = sorted.chunk_by(|a, b| a.0 == b.0).map(of_one).collect();
        // There is room for all endpoints, so that picks do not allocate.
        self.unhealthy = Vec::with_capacity(sorted.len());
        (self.size, self.due) = (sorted.len(), 0);
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        if self.due == 0 {
            self.look(pick);
        }
        self.due = self.due.saturating_sub(1);
        if !self.unhealthy.is_empty() && pick.attempt == 0 && pick.below(PROBE) == 0 {
            return Some(self.unhealthy[pick.below(self.unhealthy.len())]);
        }
        // An `f32` holds 24 random bits.
        let mut drawn = (pick.random() >> 40) as f32 / (1u32 << 24) as f32;
        let mut last = None;
        for level in self.levels.iter().filter(|level| level.share > 0.0) {
            last = Some(level);
            if drawn < level.share {
                break;
            }
            drawn -= level.share;
        }
        less_busy(&last?.healthy, pick)
    }
}

sluicegate_sdk::export_balancer!(Priority);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    /// How many of 10,000 picks each endpoint gets, given the level and the share of successes of each.
    fn shares(config: Config, endpoints: &[(&str, f32)]) -> Vec<usize> {
        seed(11);
        let label = config.label.clone();
        let mut balancer = Priority::open(config).expect("in range");
        let endpoint = |(i, (level, _)): (usize, &(&str, f32))| Endpoint {
            labels: vec![(label.clone(), (*level).to_owned())],
            ..Endpoint::new(format!("10.0.0.{i}:80"))
        };
        balancer.update(&endpoints.iter().enumerate().map(endpoint).collect::<Vec<_>>());
        let host = FakeHost { success: endpoints.iter().map(|(_, success)| *success).collect(), ..FakeHost::default() };
        let mut counts = vec![0; endpoints.len()];
        (0..10_000).for_each(|_| counts[balancer.pick(&Pick::fake(&host)).expect("the pool is not empty")] += 1);
        counts
    }

    #[test]
    fn the_first_level_has_all_while_it_can() {
        assert_eq!(shares(Config::default(), &[("1", 1.0), ("0", 1.0), ("2", 1.0)]), [0, 10_000, 0]);
        // Three of four endpoints are enough: 1.4 * 3/4 > 1. The fourth gets one pick in 64.
        let counts = shares(Config::default(), &[("0", 1.0), ("0", 1.0), ("0", 1.0), ("0", 0.0), ("1", 1.0)]);
        assert_eq!(counts[4], 0);
        assert!((100..220).contains(&counts[3]), "one in 64: {counts:?}");
    }

    #[test]
    fn what_it_cannot_do_the_next_takes_over() {
        // 1.4 * 1/2 = 70 %, the rest to level 1, nothing to level 7.
        let counts = shares(Config::default(), &[("0", 1.0), ("0", 0.1), ("1", 1.0), ("7", 1.0)]);
        assert!(counts[0].abs_diff(6_890) < 200 && counts[2].abs_diff(2_953) < 200, "{counts:?}");
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn when_no_level_can_take_all_they_share_it() {
        // 1.4 * 1/4 = 35 % each: half of all each.
        let failing = [("0", 1.0), ("0", 0.0), ("0", 0.0), ("0", 0.0), ("1", 1.0), ("1", 0.0), ("1", 0.0), ("1", 0.0)];
        let counts = shares(Config::default(), &failing);
        assert!(counts[0].abs_diff(4_920) < 200 && counts[4].abs_diff(4_920) < 200, "{counts:?}");
    }

    #[test]
    fn when_all_fail_the_first_level_serves() {
        let counts = shares(Config::default(), &[("0", 0.0), ("0", 0.0), ("1", 0.0)]);
        assert!(counts[0] > 4_000 && counts[1] > 4_000 && counts[2] < 150, "{counts:?}");
    }

    #[test]
    fn endpoints_without_a_level_are_of_the_first_and_odd_settings_are_refused() {
        assert_eq!(shares(Config::default(), &[("x", 1.0), ("1", 1.0)]), [10_000, 0]);
        assert!(Priority::open(Config { healthy_success: 1.1, ..Config::default() }).is_err());
        assert!(Priority::open(Config { overprovisioning: f32::NAN, ..Config::default() }).is_err());
        let mut empty = Priority::open(Config::default()).expect("in range");
        empty.update(&[]);
        assert_eq!(empty.pick(&Pick::fake(&FakeHost::default())), None);
    }
}
