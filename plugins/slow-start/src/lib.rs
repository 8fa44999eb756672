//! Balancer `slow-start`: an endpoint that joins gets little traffic at first, and more with every pick, until it has its share.
//!
//! After Envoy's slow start mode ("Slow start mode", Envoy documentation, Load Balancing) and nginx's `slow_start`: a process that has just begun
//! has cold caches and compiles its code, and falls over under a full share. An endpoint's factor is `max(minShare, p^(1 / aggression))`, `p` the part
//! of its warm-up that has passed. A balancer has no clock: where theirs count seconds, this one counts the picks of its pool, so that an endpoint
//! warms up by the work that it and its neighbours do, and not by waiting for some.
//!
//! An endpoint that is drawn is kept with the probability of its factor; otherwise another one is drawn. Of two endpoints that were found like this, the less
//! busy one serves (Mitzenmacher, 2001). `loadBalancer.slowStart` of a policy does something similar for every balancer, by time.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick, serde_json};
use sluicegate_two_choices::{Candidate, candidates, load};

/// The configuration of `slow-start`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// The number of picks of the pool, for each of its endpoints, after which an endpoint that joined has its whole share.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub warm_up_picks: u32,
    /// The factor with which an endpoint begins.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub min_share: f64,
    /// How the factor grows: 1 means evenly, and with more it grows faster at the beginning.
    #[schemars(range(min = 0.1, max = 10.0))]
    pub aggression: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { warm_up_picks: 500, min_share: 0.1, aggression: 1.0 }
    }
}

/// How many endpoints are drawn for one choice at most, so that a pool in which all are cold still answers.
const MOST_DRAWS: usize = 32;

#[derive(Debug)]
struct Member {
    address: String,
    /// The number of the pool's picks when the endpoint joined. `None`: it was there from the beginning.
    joined: Option<u64>,
}

/// The balancer of one pool in one worker.
#[derive(Debug)]
pub struct SlowStart {
    config: Config,
    members: Vec<Member>,
    candidates: Vec<Candidate>,
    picks: u64,
    /// Whether there was an update before. The endpoints of the first one are not new; it is this gateway that is.
    begun: bool,
}

impl SlowStart {
    fn factor(&self, index: usize) -> f64 {
        let Some(joined) = self.members[index].joined else { return 1.0 };
        let whole = self.members.len() as f64 * f64::from(self.config.warm_up_picks);
        let passed = self.picks.saturating_sub(joined) as f64 / whole;
        if passed >= 1.0 { 1.0 } else { passed.powf(1.0 / self.config.aggression).max(self.config.min_share) }
    }

    fn draw(&self, pick: &Pick) -> Candidate {
        let mut drawn = self.candidates[pick.below(self.candidates.len())];
        for _ in 1..MOST_DRAWS {
            let factor = self.factor(drawn.0);
            // A factor is compared with a random number from 0 to 1 of 53 bits.
            if factor >= 1.0 || ((pick.random() >> 11) as f64) < factor * (1u64 << 53) as f64 {
                break;
            }
            drawn = self.candidates[pick.below(self.candidates.len())];
        }
        drawn
    }
}

impl Balancer for SlowStart {
    type Config = Config;
    /// The state is a JSON list of addresses, each with the number of picks since it joined, if it is warming up.
    const STATE: Option<u32> = Some(1);

    fn open(config: Config) -> Result<Self, String> {
        if !(1..=1_000_000).contains(&config.warm_up_picks) {
            return Err(format!("config: warmUpPicks: {} is not from 1 to 1000000", config.warm_up_picks));
        }
        if !(0.01..=1.0).contains(&config.min_share) {
            return Err(format!("config: minShare: {} is not from 0.01 to 1", config.min_share));
        }
        if !(0.1..=10.0).contains(&config.aggression) {
            return Err(format!("config: aggression: {} is not from 0.1 to 10", config.aggression));
        }
        Ok(Self { config, members: Vec::new(), candidates: Vec::new(), picks: 0, begun: false })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let mut known = std::mem::take(&mut self.members);
        known.sort_by(|a, b| a.address.cmp(&b.address));
        let member = |endpoint: &Endpoint| {
            let old = known.binary_search_by(|member| member.address.cmp(&endpoint.address));
            let joined = old.map_or_else(|_| self.begun.then_some(self.picks), |at| known[at].joined);
            Member { address: endpoint.address.clone(), joined }
        };
        self.members = endpoints.iter().map(member).collect();
        self.candidates = candidates(endpoints).collect();
        self.begun = true;
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        self.picks += 1;
        if self.candidates.len() < 2 {
            return self.candidates.first().map(|&(index, _)| index);
        }
        // If the same endpoint is drawn twice there is only one choice, which is rare and does no harm.
        let (a, b) = (self.draw(pick), self.draw(pick));
        Some(if load(a, pick) <= load(b, pick) { a.0 } else { b.0 })
    }

    fn save(&self) -> Vec<u8> {
        let since = |joined: u64| self.picks.saturating_sub(joined);
        let members: Vec<(&str, Option<u64>)> = self.members.iter().map(|m| (m.address.as_str(), m.joined.map(since))).collect();
        serde_json::to_vec(&members).unwrap_or_default()
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        if version != 1 {
            return Err(format!("its form {version} is not known, 1 is"));
        }
        let members: Vec<(String, Option<u64>)> = serde_json::from_slice(state).map_err(|error| error.to_string())?;
        self.picks = members.iter().filter_map(|(_, since)| *since).max().unwrap_or(0);
        let member = |(address, since): (String, Option<u64>)| Member { address, joined: since.map(|since| self.picks - since) };
        self.members = members.into_iter().map(member).collect();
        self.begun = true;
        Ok(())
    }
}

sluicegate_sdk::export_balancer!(SlowStart);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn pool(n: usize) -> Vec<Endpoint> {
        (0..n).map(|i| Endpoint::new(format!("10.0.0.{i}:80"))).collect()
    }

    fn balancer(config: Config, endpoints: &[Endpoint]) -> SlowStart {
        seed(5);
        let mut balancer = SlowStart::open(config).expect("in range");
        balancer.update(endpoints);
        balancer
    }

    /// Makes picks of an idle pool, and returns how many went to endpoint `index`.
    fn share(balancer: &mut SlowStart, index: usize, picks: usize) -> usize {
        let pick = Pick::fake(&FakeHost::default());
        (0..picks).filter(|_| balancer.pick(&pick) == Some(index)).count()
    }

    #[test]
    fn who_joins_begins_with_little_and_ends_with_its_share() {
        let mut one = balancer(Config::default(), &pool(4));
        assert!(share(&mut one, 3, 4_000).abs_diff(1_000) < 120, "those of the beginning have theirs at once");
        one.update(&pool(5));
        // In a warm-up of 5 * 500 picks the factor rises from 0.1 to 1, by the same amount in each fifth of it.
        let fifths: Vec<usize> = (0..5).map(|_| share(&mut one, 4, 500)).collect();
        for (i, count) in fifths.iter().enumerate() {
            let factor = (i as f64 + 0.5) / 5.0;
            let expected = 500.0 * factor / (4.0 + factor);
            assert!((*count as f64 - expected).abs() < 4.0 * expected.sqrt(), "{count} is not about {expected}: {fifths:?}");
        }
        assert!(share(&mut one, 4, 5_000).abs_diff(1_000) < 120);
    }

    #[test]
    fn aggression_gives_most_of_it_soon() {
        let first = |aggression| {
            let mut one = balancer(Config { aggression, ..Config::default() }, &pool(4));
            one.update(&pool(5));
            share(&mut one, 4, 1_000)
        };
        let (gentle, even, hasty) = (first(0.5), first(1.0), first(4.0));
        assert!(gentle < even && even < hasty, "{gentle} {even} {hasty}");
    }

    #[test]
    fn a_cold_pool_still_answers_and_warms_up() {
        let mut one = balancer(Config { min_share: 0.01, ..Config::default() }, &pool(1));
        one.update(&[]);
        assert_eq!(one.pick(&Pick::fake(&FakeHost::default())), None);
        one.update(&pool(3));
        let counts: Vec<usize> = (0..3).map(|i| share(&mut one, i, 900)).collect();
        assert!(counts.iter().all(|count| count.abs_diff(300) < 90), "all are as cold: {counts:?}");
    }

    #[test]
    fn the_less_busy_one_is_preferred() {
        let mut one = balancer(Config::default(), &pool(2));
        let pick = Pick::fake(&FakeHost { in_flight: vec![9, 0], ..FakeHost::default() });
        let busy = (0..4_000).filter(|_| one.pick(&pick) == Some(0)).count();
        assert!(busy.abs_diff(1_000) < 130, "only when both draws were it: {busy}");
    }

    #[test]
    fn a_warm_up_goes_on_in_the_next_version() {
        let mut old = balancer(Config::default(), &pool(4));
        old.update(&pool(5));
        share(&mut old, 4, 1_250);
        let mut new = SlowStart::open(Config::default()).expect("in range");
        new.restore(1, &old.save()).expect("its own state");
        new.update(&pool(6));
        assert!((new.factor(4) - 1_250.0 / 3_000.0).abs() < 0.01, "{}", new.factor(4));
        assert_eq!((new.factor(0), new.factor(5)), (1.0, 0.1));
        assert!(new.restore(3, b"[]").is_err() && new.restore(1, b"x").is_err());
    }
}
