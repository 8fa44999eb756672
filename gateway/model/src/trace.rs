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

/// The version of the format, which `begin` names. Traces of other versions are not read.
pub const VERSION: &str = "sluicegate.dev/trace/v1";

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Line {
    /// The first line.
    Begin(Begin),
    /// A pool, as the picks behind this line know it.
    Pool(PoolLine),
    /// A decision.
    Pick(PickLine),
    /// The outcome of a decision.
    Report(ReportLine),
    /// The last line. If it is missing, the recording was cut off.
    End(EndLine),
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// The version of the format: [`VERSION`].
    pub version: String,
    /// The plugin's name.
    pub plugin: String,
    /// Of how many picks of each instance one is recorded; 1: all are.
    pub every: u64,
    /// The largest number of picks that are recorded in a second.
    pub rate: u64,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolLine {
    /// The number of the pool, which stays the same over all its changes.
    pub id: u64,
    /// The version of the pool, which is another one after each change.
    pub version: u64,
    /// The plugin's configuration for the pool, JSON.
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
    /// The topology zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The node that the endpoint's pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The labels of the endpoint's pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// The annotations of the endpoint's pod.
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
    /// The instance, of which each worker and generation has one: its picks stand in their order.
    pub instance: u64,
    /// The number of the generation.
    pub generation: u64,
    /// The pool's id and version.
    pub pool: (u64, u64),
    /// The hash of what the policy names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hex>,
    /// The number of the try: 0 for the first.
    pub attempt: u32,
    /// Random bits: those of the context first, then those that the plugin drew.
    pub random: Vec<Hex>,
    /// Statistics by the endpoint's index: those that the plugin read, and of small pools the others as well.
    pub seen: Vec<SightLine>,
    /// Whether the plugin read more than is kept of one pick.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The index of the endpoint that was picked; none: no endpoint would do.
    pub picked: Option<usize>,
    /// Why the plugin failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// How long the call took.
    pub nanoseconds: u64,
}

/// The statistics of an endpoint: its index, exchanges in flight, latency in microseconds, share of successes, and condition.
pub type SightLine = (u32, u32, u32, f32, Condition);

/// What came of a pick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportLine {
    /// The instance that was told of it: see [`PickLine::instance`].
    pub instance: u64,
    /// The pool's id and version.
    pub pool: (u64, u64),
    /// The index of the endpoint.
    pub endpoint: usize,
    /// Whether the endpoint served.
    pub success: bool,
    /// How long the exchange took.
    pub latency_microseconds: u64,
}

/// The end of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndLine {
    /// The number of picks that were recorded.
    pub picks: u64,
    /// The number of picks that were dropped, as too many came at once.
    pub dropped: u64,
    /// Which limit ended the recording: `time` or `size`.
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

/// Writes the statistics of an endpoint.
pub fn sight_line(index: u32, sight: Sight) -> SightLine {
    (index, sight.in_flight, sight.latency_us, sight.success, sight.condition)
}

/// Reads the statistics of an endpoint.
pub fn sight_of(line: &SightLine) -> Sight {
    Sight { in_flight: line.1, latency_us: line.2, success: line.3, condition: line.4 }
}

impl PoolLine {
    /// The line for a pool, as it is served.
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
