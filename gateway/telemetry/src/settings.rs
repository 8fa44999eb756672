//! What is exported, and to where.

use std::time::Duration;

use crate::target::TargetSettings;

/// What is exported, and to where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The name of this service; none: as the environment says, else `sluicegate`.
    pub service_name: Option<String>,
    /// What describes this process, besides its name and what the environment says.
    pub resource: Vec<(String, String)>,
    /// Traces; none: there are none.
    pub traces: Option<Traces>,
    /// Metrics; none: they are not exported.
    pub metrics: Option<Metrics>,
    /// Records of the access log; none: there are none.
    pub logs: Option<Logs>,
}

/// Traces.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Where they go.
    pub to: TargetSettings,
    /// The share of traces that are recorded, from 0 to 1.
    pub ratio: f64,
    /// Whether what a client says of a trace decides first.
    pub by_parent: bool,
    /// How they wait.
    pub queue: Batch,
}

/// Metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where they go.
    pub to: TargetSettings,
    /// How often they are exported.
    pub interval: Duration,
}

/// Records of the access log.
#[derive(Clone, Debug)]
pub struct Logs {
    /// Where they go.
    pub to: TargetSettings,
    /// How they wait.
    pub queue: Batch,
}

/// How values wait to be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many may wait; more are dropped.
    pub room: usize,
    /// How many are exported together.
    pub most: usize,
    /// How long is waited for more.
    pub delay: Duration,
}

impl Batch {
    /// What OpenTelemetry's SDK has for spans (`OTEL_BSP_*`).
    pub const SPANS: Self = Self { room: 2048, most: 512, delay: Duration::from_secs(5) };
    /// What it has for log records (`OTEL_BLRP_*`), but with room for a second of many.
    pub const RECORDS: Self = Self { room: 8192, most: 512, delay: Duration::from_secs(1) };
}
