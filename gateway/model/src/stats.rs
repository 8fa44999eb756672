//! Counters that workers write and everybody reads. All are relaxed atomics: they are figures, not synchronization.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What the host knows of one endpoint, for balancers.
#[derive(Debug)]
pub struct EndpointStats {
    in_flight: AtomicU32,
    latency_us: AtomicU32,
    /// Share of successes in 1/2^16.
    success: AtomicU32,
    /// Picks that went to this endpoint.
    pub picks: AtomicU64,
}

impl Default for EndpointStats {
    fn default() -> Self {
        Self { in_flight: AtomicU32::new(0), latency_us: AtomicU32::new(0), success: AtomicU32::new(1 << 16), picks: AtomicU64::new(0) }
    }
}

impl EndpointStats {
    /// Exchanges or connections under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Mean latency in microseconds, 0 before the first.
    pub fn latency_us(&self) -> u32 {
        self.latency_us.load(Ordering::Relaxed)
    }

    /// Share of successes, 0 to 1.
    pub fn success(&self) -> f32 {
        self.success.load(Ordering::Relaxed) as f32 / 65536.0
    }

    /// An exchange or connection begins.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.picks.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Weighs one observation 1/8, as TCP's smoothed round-trip time does (RFC 6298 §2). Two workers at once may lose one observation.
    pub fn observe(&self, success: bool, latency: Duration) {
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1);
        let old = self.latency_us.load(Ordering::Relaxed);
        let new = if old == 0 { sample } else { old - old / 8 + sample / 8 };
        self.latency_us.store(new.max(1), Ordering::Relaxed);
        let old = self.success.load(Ordering::Relaxed);
        self.success.store(old - old / 8 + if success { 1 << 13 } else { 0 }, Ordering::Relaxed);
    }
}

/// Counters of one service port.
#[derive(Debug, Default)]
pub struct ServiceStats {
    /// TCP connections accepted for it (L4).
    pub connections: AtomicU64,
    /// HTTP exchanges forwarded to it, by status class (index 0: 1xx … 4: 5xx).
    pub responses: [AtomicU64; 5],
    /// Connections refused or answered 503 for want of an endpoint.
    pub no_endpoint: AtomicU64,
    /// Connection attempts to endpoints that failed.
    pub connect_failures: AtomicU64,
    /// Picks that went down the failure ladder.
    pub fallbacks: AtomicU64,
}

/// Counters of the whole data plane.
#[derive(Debug, Default)]
pub struct ProxyStats {
    /// Client connections accepted.
    pub accepted: AtomicU64,
    /// Client connections open now.
    pub open: AtomicU64,
    /// HTTP exchanges begun.
    pub requests: AtomicU64,
    /// Answers the gateway made itself, by status.
    pub own_answers: AtomicU64,
    /// Client connections closed at once, since as many were open as descriptors allow.
    pub refused: AtomicU64,
    /// Accepts that failed.
    pub accept_errors: AtomicU64,
    /// The newest snapshot version that every worker serves.
    pub serving: AtomicU64,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
