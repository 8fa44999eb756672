//! The lines of a trace: decisions of a balancer, with all that they depended on. `sluicegate plugin record` writes them, `plugin replay` reads
//! them. JSON, one object a line, each with one field that says what it is:
//!
//! | line | what |
//! | --- | --- |
//! | `begin` | the first one: version, plugin, which of its picks are sampled |
//! | `pool` | a pool's endpoints and configuration, before the first pick from it and after each change |
//! | `pick` | one decision: context, random bits, statistics, and the endpoint that was picked |
//! | `report` | what came of a pick, where the plugin asks for it and every pick is recorded |
//! | `end` | the last one: counts, and why it ended |
//!
//! Numbers of 64 bits are hexadecimal strings, since JSON's readers may have no more than 53.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::health::Condition;
use crate::pool::{Endpoint, Pool};
use crate::stats::Sight;

/// What `begin` names. Another one is not read.
pub const VERSION: &str = "sluicegate.dev/trace/v1";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Line {
    /// The first one.
    Begin(Begin),
    /// A pool, as the picks after it know it.
    Pool(PoolLine),
    /// A decision.
    Pick(PickLine),
    /// What came of one.
    Report(ReportLine),
    /// The last one; where it is missing, the recording was cut off.
    End(EndLine),
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// [`VERSION`].
    pub version: String,
    /// The plugin's name.
    pub plugin: String,
    /// Of each instance one pick in so many; 1: all of them.
    pub every: u64,
    /// Picks a second that are recorded, at most.
    pub rate: u64,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolLine {
    /// The pool's number, which stays the same over all its changes.
    pub id: u64,
    /// The version of the pool, which is another one after each change.
    pub version: u64,
    /// The plugin's configuration for it, JSON.
    pub config: String,
    /// The endpoints, as the plugin was told of them.
    pub endpoints: Vec<EndpointLine>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointLine {
    /// The endpoint's address.
    pub address: SocketAddr,
    /// The weight that counted then.
    pub weight: u32,
    /// Topology zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The node its pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Labels of its pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// Annotations of its pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<(String, String)>,
    /// Whether the endpoint is being removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminating: bool,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickLine {
    /// The instance, one of each worker and generation: its picks stand in their order.
    pub instance: u64,
    /// Its generation's number.
    pub generation: u64,
    /// The pool's id and version.
    pub pool: (u64, u64),
    /// The hash of what the policy names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hex>,
    /// 0 for the first try.
    pub attempt: u32,
    /// Random bits: those of the context first, then those the plugin drew.
    pub random: Vec<Hex>,
    /// Statistics by index: what the plugin read, and of small pools the rest as well.
    pub seen: Vec<SightLine>,
    /// Whether the plugin read more than is kept of one pick.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The index; none: no endpoint would do.
    pub picked: Option<usize>,
    /// Why the plugin failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// How long the call took.
    pub nanoseconds: u64,
}

/// An endpoint's index, exchanges in flight, latency in microseconds, share of successes, and condition.
pub type SightLine = (u32, u32, u32, f32, Condition);

/// What came of a pick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportLine {
    /// The instance that was told of it: see [`PickLine::instance`].
    pub instance: u64,
    /// The pool's id and version.
    pub pool: (u64, u64),
    /// Index of the endpoint.
    pub endpoint: usize,
    /// Whether it served.
    pub success: bool,
    /// How long the exchange took.
    pub latency_microseconds: u64,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndLine {
    /// Picks that were recorded.
    pub picks: u64,
    /// That should have been, and were too many at once.
    pub dropped: u64,
    /// `time` or `size`: which limit ended it.
    pub why: String,
}

/// 64 bits as a hexadecimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("{text:?} is no hexadecimal number of 64 bits")))
    }
}

/// One endpoint's statistics.
pub fn sight_line(index: u32, sight: Sight) -> SightLine {
    (index, sight.in_flight, sight.latency_us, sight.success, sight.condition)
}

/// The same, read.
pub fn sight_of(line: &SightLine) -> Sight {
    Sight { in_flight: line.1, latency_us: line.2, success: line.3, condition: line.4 }
}

impl PoolLine {
    /// Of a pool, as it is served.
    pub fn of(pool: &Pool, config: &str) -> Self {
        let endpoint = |e: &Endpoint| EndpointLine {
            address: e.address,
            weight: e.weight,
            zone: e.zone.clone(),
            node: e.node.clone(),
            labels: e.labels.clone(),
            annotations: e.annotations.clone(),
            terminating: e.terminating,
        };
        Self { id: pool.id, version: pool.version, config: config.to_owned(), endpoints: pool.endpoints.iter().map(endpoint).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_is_and_reads_as_it_was_written() {
        let pick = Line::Pick(PickLine {
            instance: 3,
            generation: 1,
            pool: (7, 12),
            hash: Some(Hex(u64::MAX)),
            attempt: 0,
            random: vec![Hex(10)],
            seen: vec![sight_line(1, Sight { success: 0.875, ..Sight::default() })],
            cut: false,
            picked: Some(1),
            failed: None,
            nanoseconds: 250,
        });
        let text = serde_json::to_string(&pick).expect("JSON");
        let wanted = r#"{"pick":{"instance":3,"generation":1,"pool":[7,12],"hash":"ffffffffffffffff","attempt":0,"random":["a"],"seen":[[1,0,0,0.875,"healthy"]],"picked":1,"nanoseconds":250}}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<Line>(&text).expect("a line"), pick);
        assert!(serde_json::from_str::<Line>(r#"{"guess":{}}"#).is_err());
    }
}
