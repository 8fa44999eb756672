//! Endpoints that are not alike: what a balancer that goes by weights, zones, labels or annotations must be shown to be tried at all.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sluicegate_config::manifest;
use sluicegate_config::object::plain;
use sluicegate_model::fault::Fault;
use sluicegate_model::pool::Endpoint;

/// What one endpoint is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The endpoint's weight in the pool.
    pub weight: u32,
    /// The zone in which it runs.
    pub zone: Option<String>,
    /// The node on which it runs.
    pub node: Option<String>,
    /// The labels of its pod.
    pub labels: BTreeMap<String, String>,
    /// The annotations of its pod.
    pub annotations: BTreeMap<String, String>,
    /// How many times as fast as `latency` the endpoint is, in simulations.
    pub speed: f64,
    /// How many requests the endpoint works on at once in simulations, in place of the settings' number.
    pub concurrency: Option<usize>,
    /// How many requests may wait at the endpoint in simulations, in place of the settings' number.
    pub queue: Option<usize>,
}

impl Default for Profile {
    fn default() -> Self {
        let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
        Self { weight: 1, zone: None, node: None, labels, annotations, speed: 1.0, concurrency: None, queue: None }
    }
}

impl Profile {
    /// The endpoint with this profile.
    pub fn on(&self, endpoint: Endpoint) -> Endpoint {
        let pairs = |of: &BTreeMap<String, String>| of.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut made = endpoint;
        made.weight = self.weight;
        made.zone = self.zone.clone().or_else(|| made.zone.clone());
        made.node = self.node.clone().or_else(|| made.node.clone());
        made.labels = pairs(&self.labels);
        made.annotations = pairs(&self.annotations);
        made
    }

    fn check(&self) -> Result<(), String> {
        if !(0.001..=1000.0).contains(&self.speed) {
            return Err(format!("speed: {} is not from 0.001 to 1000", self.speed));
        }
        if self.concurrency.is_some_and(|places| !(1..=1_000_000).contains(&places)) {
            return Err("concurrency is not from 1 to 1000000".to_owned());
        }
        if self.queue.is_some_and(|queue| queue > 1_000_000) {
            return Err("queue is above 1000000".to_owned());
        }
        Ok(())
    }
}

/// The profiles that endpoints have in turn: after the last one comes the first again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Profiles(Vec<Profile>);

impl Default for Profiles {
    /// One plain profile for all.
    fn default() -> Self {
        Self(vec![Profile::default()])
    }
}

#[derive(Deserialize)]
struct File {
    endpoints: Vec<Profile>,
}

impl Profiles {
    /// Reads a YAML file with a list `endpoints`. The error shows every fault with its place.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Self::parse(file, &text)
    }

    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, String> {
        let parsed = manifest::parse(file, text);
        let told = |faults: &[Fault]| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n");
        if !parsed.faults.is_empty() {
            return Err(told(&parsed.faults));
        }
        let [document] = parsed.documents.as_slice() else {
            return Err(format!("{}: one document is wanted, with a list `endpoints`", file.display()));
        };
        match plain::<File>(document) {
            (Some(File { endpoints }), faults) if faults.is_empty() => {
                if endpoints.is_empty() {
                    return Err(format!("{}: endpoints: at least one is wanted", file.display()));
                }
                for (i, profile) in endpoints.iter().enumerate() {
                    profile.check().map_err(|wrong| format!("{}: endpoints[{i}]: {wrong}", file.display()))?;
                }
                Ok(Self(endpoints))
            }
            (_, faults) => Err(told(&faults)),
        }
    }

    /// The profile of the endpoint with this number.
    pub fn of(&self, number: usize) -> &Profile {
        // There is at least one, as each way to make this sees to it.
        &self.0[number % self.0.len()]
    }

    /// Whether all profiles are plain, and so the same.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The number of profiles.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::generate::{address, endpoint};

    fn parse(text: &str) -> Result<Profiles, String> {
        Profiles::parse(Path::new("profiles.yaml"), text)
    }

    #[test]
    fn endpoints_are_like_the_profiles_in_turn() {
        let profiles =
            parse("endpoints:\n- {weight: 5, zone: a, labels: {tier: gold}, annotations: {cost: '3'}}\n- {speed: 0.5}\n").unwrap();
        let made = |i: usize| profiles.of(i).on(endpoint(address(i), 1));
        assert_eq!((made(2).weight, made(2).zone.as_deref(), made(3).weight), (5, Some("a"), 1));
        assert_eq!(made(0).labels, [("tier".to_owned(), "gold".to_owned())]);
        assert_eq!(made(0).annotations, [("cost".to_owned(), "3".to_owned())]);
        assert!(!profiles.is_plain() && Profiles::default().is_plain());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("endpoints: [{wieght: 1}]", "profiles.yaml:1:22: error: endpoints[0].wieght"),
            ("endpoints: [{speed: 0}]", "endpoints[0]: speed: 0 is not from"),
            ("endpoints: []", "at least one is wanted"),
            ("endpoints: [{weight: -1}]", "profiles.yaml:1:"),
            ("", "one document is wanted"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
