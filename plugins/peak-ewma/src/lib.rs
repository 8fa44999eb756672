//! Balancer `peak-ewma`: of two random endpoints it picks the one that is expected to answer sooner.
//!
//! This is Finagle's `Balancers.p2cPeakEwma` (Twitter, 2015; linkerd has it, too): the cost of an endpoint is its moving mean latency times the number of its
//! exchanges under way, including the one to be placed. The mean is sensitive to peaks: a slow answer raises it at once, and quick ones lower it little by
//! little, so a stall is noticed within one answer. As only two endpoints are compared, not all workers run to the cheapest one (Mitzenmacher, 2001).
//!
//! A balancer has no clock. Where Finagle's mean decays with time, this one decays with picks: after n picks of the pool for each endpoint, `exp(-n / decay)`
//! of it is left. So an endpoint that is not picked any more is tried again after a while.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Outcome, Pick, serde_json};

/// The configuration of `peak-ewma`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// How fast a peak is forgotten: the number of picks for each endpoint after which a third of it is left.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub decay_picks: u32,
    /// A failure counts as an answer that took this long, in milliseconds: an endpoint that fails fast must not look quick.
    #[schemars(range(min = 1, max = 60_000))]
    pub failure_penalty_milliseconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { decay_picks: 50, failure_penalty_milliseconds: 1000 }
    }
}

#[derive(Clone, Debug)]
struct Peer {
    /// The address, by which the endpoint is found again after a change of the pool.
    address: String,
    weight: u32,
    /// The mean latency in microseconds; 0 before the first answer.
    mean: f64,
    /// The number of the pool's picks at the endpoint's last answer.
    at: u64,
}

/// The balancer of one pool in one worker.
#[derive(Debug)]
pub struct PeakEwma {
    config: Config,
    peers: Vec<Peer>,
    /// The indices of the endpoints that take traffic.
    candidates: Vec<usize>,
    picks: u64,
}

impl PeakEwma {
    /// The share of a peer's mean that is left after the picks since its last answer.
    fn left(&self, peer: &Peer) -> f64 {
        let rounds = self.peers.len() as f64 * f64::from(self.config.decay_picks);
        // This is at least one pick, so that an answer always has some weight.
        let passed = self.picks.saturating_sub(peer.at).max(1) as f64;
        (-passed / rounds).exp()
    }

    fn cost(&self, index: usize, pick: &Pick) -> f64 {
        let peer = &self.peers[index];
        // Until its first answer in this worker, an endpoint has the latency that all workers together have measured. If there is none, it is tried before the
        // others.
        let mean = if peer.mean > 0.0 { peer.mean * self.left(peer) } else { f64::from(pick.latency_us(index)) };
        (mean + 1.0) * (f64::from(pick.in_flight(index)) + 1.0) / f64::from(peer.weight.max(1))
    }
}

impl Balancer for PeakEwma {
    type Config = Config;
    const REPORTS: bool = true;
    /// The state is a JSON list of addresses, each with what is left of its mean in microseconds.
    const STATE: Option<u32> = Some(1);

    fn open(config: Config) -> Result<Self, String> {
        if !(1..=1_000_000).contains(&config.decay_picks) {
            return Err(format!("config: decayPicks: {} is not from 1 to 1000000", config.decay_picks));
        }
        if !(1..=60_000).contains(&config.failure_penalty_milliseconds) {
            return Err(format!("config: failurePenaltyMilliseconds: {} is not from 1 to 60000", config.failure_penalty_milliseconds));
        }
        Ok(Self { config, peers: Vec::new(), candidates: Vec::new(), picks: 0 })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        let mut known: Vec<Peer> = std::mem::take(&mut self.peers);
        known.sort_by(|a, b| a.address.cmp(&b.address));
        let peer = |endpoint: &Endpoint| {
            let old = known.binary_search_by(|peer| peer.address.cmp(&endpoint.address)).ok().map(|at| &known[at]);
            let (mean, at) = old.map_or((0.0, self.picks), |old| (old.mean, old.at));
            Peer { address: endpoint.address.clone(), weight: endpoint.weight, mean, at }
        };
        self.peers = endpoints.iter().map(peer).collect();
        let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        self.candidates = (0..endpoints.len()).filter(|&i| all_zero || endpoints[i].weight > 0).collect();
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        self.picks += 1;
        let n = self.candidates.len();
        if n < 2 {
            return self.candidates.first().copied();
        }
        let first = pick.below(n);
        // The second is one of the others, so that two different endpoints are compared.
        let second = (first + 1 + pick.below(n - 1)) % n;
        let (a, b) = (self.candidates[first], self.candidates[second]);
        Some(if self.cost(a, pick) <= self.cost(b, pick) { a } else { b })
    }

    fn save(&self) -> Vec<u8> {
        let known = self.peers.iter().filter(|peer| peer.mean > 0.0);
        let means: Vec<(&str, f64)> = known.map(|peer| (peer.address.as_str(), peer.mean * self.left(peer))).collect();
        // Numbers and texts can always be written as JSON.
        serde_json::to_vec(&means).unwrap_or_default()
    }

    /// Takes the means of a former instance. Those of endpoints that are gone are dropped at the next update.
    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        if version != 1 {
            return Err(format!("its form {version} is not known, 1 is"));
        }
        let means: Vec<(String, f64)> = serde_json::from_slice(state).map_err(|error| error.to_string())?;
        if let Some((address, mean)) = means.iter().find(|(_, mean)| !(0.0..=f64::from(u32::MAX)).contains(mean)) {
            return Err(format!("{address} cannot have a mean of {mean} µs"));
        }
        self.peers = means.into_iter().map(|(address, mean)| Peer { address, weight: 1, mean, at: self.picks }).collect();
        Ok(())
    }

    fn report(&mut self, outcome: Outcome) {
        let penalty = f64::from(self.config.failure_penalty_milliseconds) * 1000.0;
        let Some(old) = self.peers.get(outcome.endpoint).map(|peer| self.left(peer)) else { return };
        let peer = &mut self.peers[outcome.endpoint];
        let latency = f64::from(outcome.latency_us);
        let sample = if outcome.success { latency } else { latency.max(penalty) };
        peer.mean = if sample > peer.mean { sample } else { peer.mean * old + sample * (1.0 - old) };
        peer.at = self.picks;
    }
}

sluicegate_sdk::export_balancer!(PeakEwma);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, seed};

    fn balancer(weights: &[u32]) -> PeakEwma {
        seed(5);
        let mut balancer = PeakEwma::open(Config::default()).expect("the defaults are in range");
        let endpoint = |(i, &weight): (usize, &u32)| Endpoint { weight, ..Endpoint::new(format!("10.0.0.{i}:80")) };
        balancer.update(&weights.iter().enumerate().map(endpoint).collect::<Vec<_>>());
        balancer
    }

    /// Makes exchanges one after the other, each as long as its endpoint takes. Returns how many each endpoint got.
    fn run(balancer: &mut PeakEwma, exchanges: usize, latency: impl Fn(usize) -> (bool, u32)) -> Vec<usize> {
        let mut counts = vec![0; balancer.peers.len()];
        for _ in 0..exchanges {
            let endpoint = balancer.pick(&Pick::fake(&FakeHost::default())).expect("the pool is not empty");
            let (success, latency_us) = latency(endpoint);
            balancer.report(Outcome { endpoint, success, latency_us });
            counts[endpoint] += 1;
        }
        counts
    }

    #[test]
    fn a_stall_is_met_within_one_answer() {
        let mut balancer = balancer(&[1, 1]);
        run(&mut balancer, 1_000, |_| (true, 1_000));
        balancer.report(Outcome { endpoint: 0, success: true, latency_us: 500_000 });
        let pick = Pick::fake(&FakeHost::default());
        assert!((0..100).all(|_| balancer.pick(&pick) == Some(1)));
    }

    #[test]
    fn what_it_knows_of_endpoints_that_stay_goes_over_to_the_next_one() {
        let mut old = balancer(&[1, 1, 1]);
        run(&mut old, 300, |i| (true, if i == 0 { 90_000 } else { 1_000 }));
        let mut new = PeakEwma::open(Config::default()).expect("the defaults are in range");
        new.restore(1, &old.save()).expect("its own state");
        new.update(&[Endpoint::new("10.0.0.0:80"), Endpoint::new("10.0.0.2:80"), Endpoint::new("10.0.0.9:80")]);
        let means: Vec<f64> = new.peers.iter().map(|peer| peer.mean).collect();
        assert!(means[0] > 10.0 * means[1] && means[1] > 0.0 && means[2] == 0.0, "{means:?}");
    }

    #[test]
    fn what_is_not_its_state_is_refused() {
        let mut balancer = balancer(&[1]);
        for (version, state) in [(2, "[]"), (1, ""), (1, "{}"), (1, r#"[["10.0.0.1:80", -1.0]]"#), (1, r#"[["10.0.0.1:80", 1e300]]"#)] {
            assert!(balancer.restore(version, state.as_bytes()).is_err(), "{version} {state}");
        }
    }

    #[test]
    fn a_slow_endpoint_gets_least_and_comes_back_when_it_is_quick_again() {
        let mut balancer = balancer(&[1; 4]);
        let slow = run(&mut balancer, 8_000, |i| (true, if i == 0 { 50_000 } else { 1_000 }));
        // The slow endpoint is tried again each time that its mean has fallen from 50 ms to the 1 ms of the others: after about ln(50) * 200 = 782 picks.
        assert!((5..30).contains(&slow[0]), "{slow:?}");
        let after = run(&mut balancer, 8_000, |_| (true, 1_000));
        assert!(after[0] > 1_500, "{after:?}");
    }

    #[test]
    fn an_endpoint_that_fails_fast_does_not_look_quick() {
        let counts = run(&mut balancer(&[1, 1, 1]), 3_000, |i| if i == 0 { (false, 10) } else { (true, 20_000) });
        assert!(counts[0] < 30, "{counts:?}");
    }

    #[test]
    fn equal_endpoints_get_equal_shares_and_load_counts() {
        let counts = run(&mut balancer(&[1; 5]), 10_000, |_| (true, 1_000));
        assert!(counts.iter().all(|count| count.abs_diff(2_000) < 250), "{counts:?}");
        let mut balancer = balancer(&[1, 1, 1]);
        run(&mut balancer, 1_000, |_| (true, 1_000));
        let busy = Pick::fake(&FakeHost { in_flight: vec![9, 0, 0], ..FakeHost::default() });
        assert!((0..1_000).all(|_| balancer.pick(&busy) != Some(0)));
    }

    #[test]
    fn what_is_known_outlives_a_change_of_the_pool() {
        let mut balancer = balancer(&[1, 1]);
        run(&mut balancer, 100, |i| (true, if i == 0 { 90_000 } else { 1_000 }));
        let mean = balancer.peers[0].mean;
        balancer.update(&[Endpoint::new("10.0.0.9:80"), Endpoint::new("10.0.0.0:80")]);
        assert_eq!((balancer.peers[1].mean, balancer.peers[0].mean), (mean, 0.0));
        // A report about an index that is gone changes nothing.
        balancer.report(Outcome { endpoint: 7, success: true, latency_us: 1 });
    }

    #[test]
    fn weight_zero_is_picked_only_if_all_are_zero() {
        assert_eq!(run(&mut balancer(&[0, 1, 0]), 50, |_| (true, 1)), [0, 50, 0]);
        assert!(run(&mut balancer(&[0, 0]), 50, |_| (true, 1)).iter().all(|&count| count > 0));
        assert_eq!(balancer(&[]).pick(&Pick::fake(&FakeHost::default())), None);
    }
}
