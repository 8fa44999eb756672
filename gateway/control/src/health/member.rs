//! What is remembered of one endpoint of one service port: its results of probes, its ejections, and since when it warms up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate_model::health::Checked;
use sluicegate_model::settings::{ActiveCheck, Passive};
use sluicegate_model::stats::EndpointStats;

pub(super) struct Member {
    pub(super) stats: Arc<EndpointStats>,
    pub(super) run: Run,
    pub(super) ejections: Ejections,
    /// Since when the endpoint's weight grows.
    pub(super) warming: Option<Instant>,
}

impl Member {
    pub(super) fn new(stats: Arc<EndpointStats>) -> Self {
        Self { stats, run: Run::default(), ejections: Ejections::default(), warming: None }
    }

    /// Resets the endpoint's health, as nobody watches it any more.
    pub(super) fn release(&self) {
        let health = &self.stats.health;
        health.set_checked(Checked::Passing);
        health.readmit();
        health.set_share(100);
        health.tell(|detail| *detail = Default::default());
    }
}

/// Results of probes in a row that agree.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    passed: bool,
    length: u32,
}

impl Run {
    /// What probes say of the endpoint after one more result. An endpoint that has joined is judged by its first result alone.
    pub(super) fn after(&mut self, passed: bool, before: Checked, check: &ActiveCheck) -> Checked {
        self.length = if self.length > 0 && self.passed == passed { self.length.saturating_add(1) } else { 1 };
        self.passed = passed;
        match (before, passed) {
            (Checked::Pending, true) => Checked::Passing,
            (Checked::Pending, false) => Checked::Failing,
            (Checked::Passing, false) if self.length >= check.unhealthy_threshold => Checked::Failing,
            (Checked::Failing, true) if self.length >= check.healthy_threshold => Checked::Passing,
            _ => before,
        }
    }
}

/// How often an endpoint was ejected lately, and until when it is. After Envoy ("Outlier detection", §"Ejection algorithm"): an ejection lasts
/// the base time multiplied by their number, and the number shrinks by one with each interval that the endpoint is not ejected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ejections {
    lately: u32,
    pub(super) until: Option<Instant>,
    readmitted: Option<Instant>,
}

impl Ejections {
    /// Begins an ejection.
    pub(super) fn begin(&mut self, rules: &Passive, now: Instant) -> Duration {
        self.lately = self.lately.saturating_add(1);
        let lasts = rules.base_ejection_time.saturating_mul(self.lately).min(rules.max_ejection_time);
        self.until = now.checked_add(lasts);
        lasts
    }

    /// Ends the ejection.
    pub(super) fn end(&mut self, now: Instant) {
        self.until = None;
        self.readmitted = Some(now);
    }

    /// Notes that an interval has passed.
    pub(super) fn interval(&mut self, rules: &Passive, now: Instant) {
        let quiet = self.readmitted.is_none_or(|at| now.saturating_duration_since(at) >= rules.interval);
        if self.until.is_none() && quiet {
            self.lately = self.lately.saturating_sub(1);
        }
    }
}
