//! Sums of what service ports have counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{RefusalStats, RetryStats, ServiceStats};

impl ServiceStats {
    /// Adds what another port has counted, but its picks and what it has under way.
    pub fn absorb(&self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// Takes away what another port has counted, which may leave less than nothing until more is added.
    pub fn release(&self, other: &Self) {
        self.combine(other, u64::wrapping_sub);
    }

    fn combine(&self, other: &Self, with: fn(u64, u64) -> u64) {
        self.counters().into_iter().zip(other.counters()).for_each(|(own, other)| combine(own, other, with));
        for (own, other) in self.histograms().into_iter().zip(other.histograms()) {
            own.combine(other, with);
        }
        if let Some(other) = other.udp.get() {
            self.udp.combine(other, |own, other| combine(own, other, with));
        }
    }

    fn histograms(&self) -> [&super::Histogram; 3] {
        [&self.exchange_time, &self.connect_time, &self.connection_time]
    }

    /// All counters. A field that is added is named here, or this does not compile.
    fn counters(&self) -> Vec<&AtomicU64> {
        let Self {
            connections,
            responses,
            no_endpoint,
            no_local_endpoint,
            connect_failures,
            fallbacks,
            exchange_time: _,
            connect_time: _,
            connection_time: _,
            bytes_in,
            bytes_out,
            picks: _,
            load: _,
            retries,
            refused,
            tls_failures,
            udp: _,
            health,
        } = self;
        let RetryStats { tries, succeeded, exhausted, over_budget, not_replayable, lately: _ } = retries;
        let RefusalStats { pending, pending_timeout, connections: over, requests, rate, evicted, timeout, cut_off } = refused;
        let mut all: Vec<&AtomicU64> = responses.iter().chain(&health.ejections).chain(&health.probes).collect();
        all.extend([connections, no_endpoint, no_local_endpoint, connect_failures, fallbacks, bytes_in, bytes_out, tls_failures]);
        all.extend([tries, succeeded, exhausted, over_budget, not_replayable, &health.ejections_refused]);
        all.extend([pending, pending_timeout, over, requests, rate, evicted, timeout, cut_off]);
        all
    }
}

/// Nobody else writes to a sum.
pub(super) fn combine(own: &AtomicU64, other: &AtomicU64, with: fn(u64, u64) -> u64) {
    own.store(with(own.load(Ordering::Relaxed), other.load(Ordering::Relaxed)), Ordering::Relaxed);
}
