//! What became of what is exported to collectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What became of the spans, records or metrics that go to a collector.
#[derive(Debug, Default)]
pub struct SignalStats {
    /// Whether the signal is exported.
    pub on: AtomicBool,
    /// Those that a collector took.
    pub exported: AtomicU64,
    /// Those that were dropped, as too many waited.
    pub dropped_full: AtomicU64,
    /// Those that were dropped, as no collector took them in time.
    pub dropped_failed: AtomicU64,
    /// Those that a collector took and refused.
    pub dropped_refused: AtomicU64,
    /// Requests to collectors that failed, each of which may be repeated.
    pub failures: AtomicU64,
}

impl SignalStats {
    /// All that were dropped.
    pub fn dropped(&self) -> u64 {
        [&self.dropped_full, &self.dropped_failed, &self.dropped_refused].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// The same for each signal.
#[derive(Debug, Default)]
pub struct TelemetryStats {
    /// Spans; those of an exchange count as one while they wait.
    pub traces: Arc<SignalStats>,
    /// Points of metrics.
    pub metrics: Arc<SignalStats>,
    /// Records of the access log.
    pub logs: Arc<SignalStats>,
}

impl TelemetryStats {
    /// The signals that are exported, by their names.
    pub fn signals(&self) -> impl Iterator<Item = (&'static str, &SignalStats)> {
        let all: [(_, &SignalStats); 3] = [("traces", &self.traces), ("metrics", &self.metrics), ("logs", &self.logs)];
        all.into_iter().filter(|(_, stats)| stats.on.load(Ordering::Relaxed))
    }
}
