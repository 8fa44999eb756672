//! The figures of one second, from which every viewer is served.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use sluicegate_model::snapshot::{BoundRule, Snapshot};
use sluicegate_model::stats::ServiceStats;
use sluicegate_model::status::Status;

use super::index::Index;

/// How many seconds the curves of the whole gateway show.
pub(super) const CURVE: usize = 120;

/// What was read in one second. Rates are means of the last seconds.
pub(crate) struct Sample {
    /// When, in milliseconds since 1970.
    pub(super) at: u64,
    pub(super) status: Arc<Status>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) index: Arc<Index>,
    pub(super) totals: Totals,
    pub(super) curve: VecDeque<Point>,
    /// By the addresses of the counters, which the status keeps from being given to others.
    pub(super) ports: HashMap<usize, Figures>,
    /// By the addresses of the rules, which the snapshot keeps.
    pub(super) rules: HashMap<usize, RuleFigures>,
    pub(super) plugins: HashMap<String, PluginFigures>,
    /// Answers of the gateway's own, by reason, a second.
    pub(super) own_answers: Vec<(&'static str, f32)>,
}

/// Where something stands in memory, by which it is found again. Nobody goes there.
pub(super) fn address<T>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).addr()
}

impl Sample {
    /// The figures of a service port.
    pub(super) fn port(&self, stats: &Arc<ServiceStats>) -> Figures {
        self.ports.get(&address(stats)).copied().unwrap_or_default()
    }

    /// The figures of a rule.
    pub(super) fn rule(&self, rule: &Arc<BoundRule>) -> RuleFigures {
        self.rules.get(&address(rule)).cloned().unwrap_or_default()
    }
}

/// The whole gateway.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    /// HTTP exchanges begun, a second.
    pub(super) requests: f32,
    /// Exchanges that ended in a 5xx of an endpoint, what was refused for want of one, and answers of the gateway's own that are failures, a second.
    pub(super) errors: f32,
    /// Answers of the gateway's own, with those that rules ask for, a second.
    pub(super) own_answers: f32,
    /// Client connections accepted, a second.
    pub(super) connections: f32,
    /// Client connections open now.
    pub(super) open: u64,
    /// Exchanges, connections and flows under way at endpoints.
    pub(super) in_flight: u64,
    /// Bytes from clients, a second.
    pub(super) bytes_in: f32,
    /// Bytes to clients, a second.
    pub(super) bytes_out: f32,
    /// Times of HTTP exchanges, in milliseconds; none: there was none of late.
    pub(super) p50: Option<f32>,
    pub(super) p99: Option<f32>,
    pub(super) services: usize,
    pub(super) service_ports: usize,
    pub(super) endpoints: usize,
    pub(super) ready_endpoints: usize,
    /// Service ports of which no endpoint is ready.
    pub(super) without_endpoint: usize,
}

/// One second of the curves: requests and errors a second, quantiles in milliseconds, connections open.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Point(pub(super) f32, pub(super) f32, pub(super) Option<f32>, pub(super) Option<f32>, pub(super) u64);

/// One service port.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    /// Exchanges, connections or flows, a second.
    pub(super) rate: f32,
    /// Exchanges that ended in a 5xx of an endpoint, and what was refused for want of one, a second.
    pub(super) errors: f32,
    pub(super) connect_failures: f32,
    pub(super) bytes_in: f32,
    pub(super) bytes_out: f32,
    /// Times of exchanges, or of connecting where bytes are forwarded, in milliseconds.
    pub(super) p50: Option<f32>,
    pub(super) p99: Option<f32>,
    pub(super) in_flight: u32,
    pub(super) ready: u32,
    pub(super) endpoints: u32,
    /// So few endpoints are healthy that all are used.
    pub(super) panic: bool,
}

impl Figures {
    /// Whether an operator should look at it: not all endpoints are there, or one exchange in a hundred fails.
    pub(super) fn is_troubled(&self) -> bool {
        let failing = self.errors + self.connect_failures;
        self.ready < self.endpoints || self.endpoints == 0 || self.panic || failing > (self.rate * 0.01).max(0.005)
    }
}

/// One rule of a router.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleFigures {
    /// Exchanges, connections or flows that it took, a second.
    pub(super) rate: f32,
    /// Those of them that went to each of its backends.
    pub(super) backends: Box<[f32]>,
}

/// One plugin.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PluginFigures {
    /// Calls a second.
    pub(super) rate: f32,
    /// Calls that failed, a second.
    pub(super) failures: f32,
    /// The mean time of a call in nanoseconds, of those that were timed in the last seconds, else of all there have been; none: none was timed.
    pub(super) nanos: Option<f32>,
}
