//! The health of a service port's endpoints together: how many are ejected and how many may be, and what is counted.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{EndpointHealth, Outcome, Reason};
use crate::settings::Passive;

/// The outcome of a probe, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The endpoint gave the right answer.
    Passed,
    /// There was no connection, or it broke.
    Unreachable,
    /// No answer came in time.
    TimedOut,
    /// The endpoint gave a wrong answer.
    Wrong,
}

impl Probed {
    /// All outcomes with their labels, in the order of [`ServiceHealth::probes`].
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Passed, "passed"), (Self::Unreachable, "unreachable"), (Self::TimedOut, "timed_out"), (Self::Wrong, "wrong")];
}

/// What is known of the endpoints of one service port together. Kept over snapshots.
#[derive(Debug, Default)]
pub struct ServiceHealth {
    /// The number of ejected endpoints, and of those that may be ejected.
    ejected: AtomicU32,
    limit: AtomicU32,
    /// The number of ejections, so that control sees at a glance that there are new ones.
    news: AtomicU32,
    /// Ejections by [`Reason`].
    pub ejections: [AtomicU64; 6],
    /// Ejections that were refused, as they would have passed the largest share.
    pub ejections_refused: AtomicU64,
    /// Probes by [`Probed`].
    pub probes: [AtomicU64; 4],
    /// Whether so few endpoints are usable that all are used.
    pub panic: AtomicBool,
}

impl ServiceHealth {
    /// Notes the outcome of a pick. It costs a few relaxed additions, and is called only where there are rules of ejection.
    pub fn note(&self, rules: &Passive, endpoint: &EndpointHealth, outcome: Outcome, latency: Duration) {
        if let Some(reason) = endpoint.note(rules, outcome, latency) {
            self.eject(endpoint, reason);
        }
    }

    /// Ejects an endpoint, unless too many are ejected. Returns whether it did. Control does the rest when it sees [`Self::news`].
    pub fn eject(&self, endpoint: &EndpointHealth, reason: Reason) -> bool {
        if endpoint.is_ejected() {
            return false;
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let within = |ejected: u32| (ejected < limit).then_some(ejected + 1);
        // The place is taken before the endpoint is marked, so that several workers at once keep within the limit together.
        if self.ejected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            self.ejections_refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if endpoint.ejected.compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.ejected.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.ejections[reason as usize - 1].fetch_add(1, Ordering::Relaxed);
        self.news.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// A number that changes with each ejection.
    pub fn news(&self) -> u32 {
        self.news.load(Ordering::Relaxed)
    }

    /// Sets how many endpoints are ejected and how many may be. Control counts them anew now and then.
    pub fn set_ejected(&self, ejected: u32, limit: u32) {
        self.ejected.store(ejected, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Counts a probe.
    pub fn probed(&self, result: Probed) {
        if let Some(at) = Probed::ALL.iter().position(|(r, _)| *r == result) {
            self.probes[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}
