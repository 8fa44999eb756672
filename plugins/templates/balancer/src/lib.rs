//! A balancer that picks the quicker of two random endpoints.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Pick};

/// What a policy may set under `loadBalancer.config`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Config {
    /// Endpoints with a lower share of successes are passed over if the other one does better.
    min_success: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { min_success: 0.5 }
    }
}

struct Quicker {
    config: Config,
    /// Indices of the endpoints that take traffic.
    candidates: Vec<usize>,
}

impl Balancer for Quicker {
    type Config = Config;

    fn open(config: Config) -> Result<Self, String> {
        Ok(Self { config, candidates: Vec::new() })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        // Endpoints of weight 0 take no traffic, unless all have it.
        let all = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        self.candidates = (0..endpoints.len()).filter(|i| all || endpoints[*i].weight > 0).collect();
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let draw = || self.candidates.get(pick.below(self.candidates.len())).copied();
        let cost = |i: &usize| (pick.success(*i) < self.config.min_success, pick.latency_us(*i));
        [draw()?, draw()?].into_iter().min_by_key(cost)
    }
}

sluicegate_sdk::export_balancer!(Quicker);

#[test]
fn the_quicker_one_is_picked_most() {
    let host = sluicegate_sdk::testing::FakeHost { latency_us: vec![900, 100], ..Default::default() };
    let mut quicker = Quicker { config: Config::default(), candidates: vec![0, 1] };
    let picks = (0..1000).filter(|_| quicker.pick(&Pick::fake(&host)) == Some(1)).count();
    assert!((700..800).contains(&picks), "{picks}");
}
