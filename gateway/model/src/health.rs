//! Whether an endpoint is used, and what workers note to decide it. Workers write counters, and eject an endpoint when errors follow each other. Probes,
//! comparisons and the ends of ejections are control's. All atomics are relaxed, as each is a figure or a verdict by itself.

mod service;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::settings::Passive;

pub use service::{Probed, ServiceHealth};

/// What came of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint accepted a connection; whether it serves is yet to be seen.
    Connected,
    /// At L4 the endpoint accepted a connection. To balancers that is a success; for ejection, the connection's end decides.
    Accepted,
    /// The endpoint served: it gave an answer that is not an error of its own; at L4, it did not reset the connection at once.
    Served,
    /// The endpoint answered 500, or another 5xx that is not a gateway's.
    ServerError,
    /// The endpoint answered 502, 503 or 504.
    GatewayError,
    /// The endpoint could not be connected to, reset the connection, or did not answer in time.
    Unreachable,
}

impl Outcome {
    /// The outcome of an answer with this status.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            502..=504 => Self::GatewayError,
            500..=599 => Self::ServerError,
            _ => Self::Served,
        }
    }

    /// Whether the endpoint did what was asked of it.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Connected | Self::Accepted | Self::Served)
    }
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Reason {
    /// There were responses 5xx in a row.
    Consecutive5xx = 1,
    /// There were responses 502, 503 or 504 in a row.
    ConsecutiveGatewayErrors,
    /// There were failures in a row to reach the endpoint.
    ConsecutiveLocalOriginFailures,
    /// The endpoint's success rate is far below the mean of all.
    SuccessRate,
    /// The endpoint had too large a share of failures.
    FailurePercentage,
    /// The endpoint's latency is far above the median of all.
    Latency,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGatewayErrors,
        Self::ConsecutiveLocalOriginFailures,
        Self::SuccessRate,
        Self::FailurePercentage,
        Self::Latency,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The value of the label `reason` in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayErrors => "consecutive_gateway_errors",
            Self::ConsecutiveLocalOriginFailures => "consecutive_local_origin_failures",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::Latency => "latency",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consecutive5xx => "5xx responses in a row",
            Self::ConsecutiveGatewayErrors => "502, 503 or 504 in a row",
            Self::ConsecutiveLocalOriginFailures => "could not be reached several times in a row",
            Self::SuccessRate => "its success rate is far below the others'",
            Self::FailurePercentage => "too large a share of failures",
            Self::Latency => "its latency is far above the others'",
        })
    }
}

/// What probes say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Checked {
    /// Nothing speaks against the endpoint. This counts for endpoints that are not probed, too.
    Passing = 0,
    /// The endpoint has joined, and its first probe is not back yet.
    Pending = 1,
    /// The endpoint has failed as many probes as the threshold says.
    Failing = 2,
}

/// The condition of an endpoint, the worst one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The endpoint's probes fail.
    Unhealthy,
    /// The endpoint is ejected, as its exchanges failed.
    Ejected,
    /// The endpoint waits for its first probe.
    Pending,
    /// The endpoint is used, and its weight still grows.
    Warming,
    /// The endpoint is used with its whole weight.
    Healthy,
}

/// What is known of one endpoint, shared by all workers and control.
#[derive(Debug)]
pub struct EndpointHealth {
    checked: AtomicU8,
    /// The number of the [`Reason`] for which the endpoint is ejected; 0 if it is not.
    ejected: AtomicU8,
    /// The share of the endpoint's weight that counts, in percent.
    share: AtomicU8,
    errors_in_row: AtomicU32,
    gateway_errors_in_row: AtomicU32,
    unreached_in_row: AtomicU32,
    /// What the endpoint answered.
    answers: Results,
    /// Whether the endpoint could be reached, where that is counted apart.
    reached: Results,
    /// The sum of the latencies of what the endpoint served, in microseconds.
    latency: AtomicU64,
    /// Why the endpoint is not used, if there is a reason. It is boxed, as there mostly is none.
    detail: Mutex<Option<Box<Detail>>>,
}

/// The exchanges of an interval.
#[derive(Debug, Default)]
struct Results {
    all: AtomicU32,
    failed: AtomicU32,
}

/// Details for the admin API, which are never read on a request's path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// What the last failed probe saw, or what the ejection was for.
    pub why: String,
    /// When the ejection ends.
    pub until: Option<Instant>,
}

/// What was counted of an endpoint in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The number of answers, and how many of them were failures. Failures to reach the endpoint are among them unless they are counted apart.
    pub answers: (u32, u32),
    /// The number of attempts to reach the endpoint, and how many failed, if they are counted apart.
    pub reached: (u32, u32),
    /// The sum of the latencies of the exchanges that did not fail, in microseconds.
    pub latency_us: u64,
}

impl Default for EndpointHealth {
    fn default() -> Self {
        Self {
            checked: AtomicU8::new(Checked::Passing as u8),
            ejected: AtomicU8::new(0),
            share: AtomicU8::new(100),
            errors_in_row: AtomicU32::new(0),
            gateway_errors_in_row: AtomicU32::new(0),
            unreached_in_row: AtomicU32::new(0),
            answers: Results::default(),
            reached: Results::default(),
            latency: AtomicU64::new(0),
            detail: Mutex::default(),
        }
    }
}

impl EndpointHealth {
    /// What probes say of the endpoint.
    pub fn checked(&self) -> Checked {
        match self.checked.load(Ordering::Relaxed) {
            0 => Checked::Passing,
            1 => Checked::Pending,
            _ => Checked::Failing,
        }
    }

    /// Sets what probes say of the endpoint.
    pub fn set_checked(&self, checked: Checked) {
        self.checked.store(checked as u8, Ordering::Relaxed);
    }

    /// Whether the endpoint is ejected.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed) != 0
    }

    /// What the endpoint is ejected for; none if it is not.
    pub fn ejected_for(&self) -> Option<Reason> {
        Reason::from_number(self.ejected.load(Ordering::Relaxed))
    }

    /// Ends an ejection, and forgets the errors before it. Returns whether there was one.
    pub fn readmit(&self) -> bool {
        for counter in [&self.errors_in_row, &self.gateway_errors_in_row, &self.unreached_in_row] {
            counter.store(0, Ordering::Relaxed);
        }
        self.ejected.swap(0, Ordering::Relaxed) != 0
    }

    /// The share of its weight that the endpoint takes now, in percent.
    pub fn share(&self) -> u8 {
        self.share.load(Ordering::Relaxed)
    }

    /// Sets the share of the endpoint's weight. Returns whether it was another one.
    pub fn set_share(&self, percent: u8) -> bool {
        self.share.swap(percent, Ordering::Relaxed) != percent
    }

    /// The endpoint's condition now.
    pub fn condition(&self) -> Condition {
        match self.checked() {
            Checked::Failing => Condition::Unhealthy,
            _ if self.is_ejected() => Condition::Ejected,
            Checked::Pending => Condition::Pending,
            Checked::Passing if self.share() < 100 => Condition::Warming,
            Checked::Passing => Condition::Healthy,
        }
    }

    /// Sets what [`Self::condition`] returns, for endpoints that do not exist, as in a simulation. No ejection is counted.
    pub(crate) fn show(&self, condition: Condition) {
        self.set_checked(match condition {
            Condition::Unhealthy => Checked::Failing,
            Condition::Pending => Checked::Pending,
            _ => Checked::Passing,
        });
        let reason = if condition == Condition::Ejected { Reason::Latency as u8 } else { 0 };
        self.ejected.store(reason, Ordering::Relaxed);
        self.set_share(if condition == Condition::Warming { 50 } else { 100 });
    }

    /// The details of the endpoint.
    pub fn detail(&self) -> Detail {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).as_deref().cloned().unwrap_or_default()
    }

    /// Changes the details of the endpoint.
    pub fn tell(&self, change: impl FnOnce(&mut Detail)) {
        let mut told = self.detail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut detail = told.take().unwrap_or_default();
        change(&mut detail);
        *told = (*detail != Detail::default()).then_some(detail);
    }

    /// What was counted since the last call. The counters begin anew.
    pub fn take_sample(&self) -> Sample {
        let take = |results: &Results| (results.all.swap(0, Ordering::Relaxed), results.failed.swap(0, Ordering::Relaxed));
        Sample { answers: take(&self.answers), reached: take(&self.reached), latency_us: self.latency.swap(0, Ordering::Relaxed) }
    }

    /// Notes an outcome by the rules, and says what to eject the endpoint for, if it is to be ejected. Failures to reach an endpoint count
    /// as errors 503 and 504 of its own unless they are split off (Envoy, "Outlier detection", §"Error types").
    fn note(&self, rules: &Passive, outcome: Outcome, latency: Duration) -> Option<Reason> {
        if outcome == Outcome::Accepted {
            return None;
        }
        if rules.split_local_errors {
            let unreachable = outcome == Outcome::Unreachable;
            // An answer over a kept connection is not a new attempt to reach the endpoint, though it was reached.
            if matches!(outcome, Outcome::Connected | Outcome::Unreachable) {
                self.reached.add(unreachable);
            }
            if unreachable {
                let crossed = in_row(&self.unreached_in_row, rules.consecutive_local_failures);
                return crossed.then_some(Reason::ConsecutiveLocalOriginFailures);
            }
        }
        // A connection alone says nothing of how the endpoint serves, as each may be reset.
        if outcome == Outcome::Connected {
            return None;
        }
        if rules.split_local_errors {
            clear(&self.unreached_in_row);
        }
        self.answers.add(!outcome.is_success());
        if outcome.is_success() {
            self.latency.fetch_add(u64::try_from(latency.as_micros()).unwrap_or(0), Ordering::Relaxed);
            clear(&self.errors_in_row);
            clear(&self.gateway_errors_in_row);
            return None;
        }
        let errors = in_row(&self.errors_in_row, rules.consecutive_5xx);
        if outcome == Outcome::ServerError {
            clear(&self.gateway_errors_in_row);
        } else if in_row(&self.gateway_errors_in_row, rules.consecutive_gateway_errors) {
            return Some(Reason::ConsecutiveGatewayErrors);
        }
        errors.then_some(Reason::Consecutive5xx)
    }
}

impl Results {
    fn add(&self, failed: bool) {
        self.all.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts one more in a row, and returns whether there are as many as wanted; then the counter begins anew. 0: never.
fn in_row(counter: &AtomicU32, wanted: u32) -> bool {
    let crossed = wanted > 0 && counter.fetch_add(1, Ordering::Relaxed) + 1 >= wanted;
    if crossed {
        counter.store(0, Ordering::Relaxed);
    }
    crossed
}

/// Sets a counter to 0. It is read first: mostly it is 0 already, and a read leaves the cache line shared.
fn clear(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
