//! Counters that workers write and everybody reads. All are relaxed atomics: they are figures, not synchronization.

mod histogram;
mod labels;
mod reset;
mod tls;
mod udp;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

pub use histogram::{BOUNDS_US, Histogram};
pub use labels::{ByLabel, MOST_LABELS};
pub use reset::Reset;
pub use tls::{TlsFailure, TlsStats};
pub use udp::{UdpDrop, UdpStats};
pub use window::RetryWindow;

use crate::counters::{Counted, Counters};
use crate::health::{Condition, EndpointHealth, Outcome, ServiceHealth};
use crate::lazy::Lazy;
use crate::settings::Passive;
use crate::slots::Slots;

/// What the host knows of one endpoint, for balancers. There are 100,000 of them.
#[derive(Debug)]
pub struct EndpointStats {
    in_flight: AtomicU32,
    latency_us: AtomicU32,
    /// Share of successes in 1/2^16.
    success: AtomicU32,
    /// Picks that went to this endpoint.
    pub picks: AtomicU64,
    /// Connections to it; counted while a breaker limits them.
    pub connections: Lazy<Slots>,
    /// Whether it is used.
    pub health: EndpointHealth,
}

impl Default for EndpointStats {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            latency_us: AtomicU32::new(0),
            success: AtomicU32::new(1 << 16),
            picks: AtomicU64::new(0),
            connections: Lazy::default(),
            health: EndpointHealth::default(),
        }
    }
}

/// What balancers see of one endpoint at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// Exchanges or connections under way.
    pub in_flight: u32,
    /// Microseconds, 0 before the first answer.
    pub latency_us: u32,
    /// Share of successes, 0 to 1.
    pub success: f32,
    /// Whether it is fit.
    pub condition: Condition,
}

impl Default for Sight {
    /// Of an endpoint that nothing is known of.
    fn default() -> Self {
        Self { in_flight: 0, latency_us: 0, success: 1.0, condition: Condition::Healthy }
    }
}

/// Picks.
impl Counted<1> for EndpointStats {
    fn counts(&self) -> [u64; 1] {
        [self.picks.load(Ordering::Relaxed)]
    }
}

impl EndpointStats {
    /// What balancers see now.
    pub fn sight(&self) -> Sight {
        let (in_flight, latency_us, success) = (self.in_flight(), self.latency_us(), self.success());
        Sight { in_flight, latency_us, success, condition: self.health.condition() }
    }

    /// Has balancers see this. For endpoints that there are none of: traffic counts for itself.
    pub fn show(&self, sight: Sight) {
        self.in_flight.store(sight.in_flight, Ordering::Relaxed);
        self.latency_us.store(sight.latency_us, Ordering::Relaxed);
        self.success.store((sight.success.clamp(0.0, 1.0) * 65536.0) as u32, Ordering::Relaxed);
        self.health.show(sight.condition);
    }

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
    /// Those of them that would have found an endpoint on another node: the traffic policy is Local.
    pub no_local_endpoint: AtomicU64,
    /// Connection attempts to endpoints that failed.
    pub connect_failures: AtomicU64,
    /// Picks that went down the failure ladder.
    pub fallbacks: AtomicU64,
    /// HTTP exchanges, from the request's head to the end of the response.
    pub exchange_time: Histogram,
    /// Connection attempts to endpoints that succeeded.
    pub connect_time: Histogram,
    /// TCP connections (L4), from accept to close.
    pub connection_time: Histogram,
    /// Bytes from clients: content of requests (L7), all (L4).
    pub bytes_in: AtomicU64,
    /// Bytes to clients, likewise.
    pub bytes_out: AtomicU64,
    /// Picks, over all endpoints there have been.
    pub picks: Counters<EndpointStats, 1>,
    /// What is under way.
    pub load: ServiceLoad,
    /// What became of further tries.
    pub retries: RetryStats,
    /// What breakers and limits refused.
    pub refused: RefusalStats,
    /// TLS handshakes with endpoints that failed.
    pub tls_failures: AtomicU64,
    /// What became of datagrams, at a UDP port.
    pub udp: Lazy<UdpStats>,
    /// The health of its endpoints together.
    pub health: ServiceHealth,
}

impl ServiceStats {
    /// Notes what came of a pick: always for balancers, and by the rules of ejection where there are some.
    pub fn observe(&self, rules: Option<&Passive>, endpoint: &EndpointStats, outcome: Outcome, latency: Duration) {
        // A connection alone says nothing of how the endpoint serves.
        if outcome != Outcome::Connected {
            endpoint.observe(outcome.is_success(), latency);
        }
        if let Some(rules) = rules {
            self.health.note(rules, &endpoint.health, outcome, latency);
        }
    }
}

impl ServiceStats {
    /// Exchanges that were answered, by endpoints or for want of their answer.
    pub fn exchanges(&self) -> u64 {
        self.responses.iter().map(|class| class.load(Ordering::Relaxed)).sum()
    }
}

/// What a service port has under way; counted while a breaker or a budget limits it. What began before that is not counted.
#[derive(Debug, Default)]
pub struct ServiceLoad {
    /// Connections to endpoints, idle ones too.
    pub connections: Lazy<Slots>,
    /// Exchanges.
    pub requests: Lazy<Slots>,
    /// Tries after the first.
    pub retries: Lazy<Slots>,
}

/// What became of exchanges that wanted another try.
#[derive(Debug, Default)]
pub struct RetryStats {
    /// Tries after the first.
    pub tries: AtomicU64,
    /// Exchanges that one of them saved.
    pub succeeded: AtomicU64,
    /// Exchanges for which there was no other try left.
    pub exhausted: AtomicU64,
    /// Exchanges for which the budget or the breaker allowed none.
    pub over_budget: AtomicU64,
    /// Exchanges that cannot be sent again: not idempotent, or their content was not kept.
    pub not_replayable: AtomicU64,
    /// Tries of the last seconds.
    pub lately: RetryWindow,
}

/// What breakers and limits of a service port refused.
#[derive(Debug, Default)]
pub struct RefusalStats {
    /// No connection was free, nor a place to wait for one.
    pub pending: AtomicU64,
    /// No connection became free in time.
    pub pending_timeout: AtomicU64,
    /// L4 connections, for which nothing waits.
    pub connections: AtomicU64,
    /// Too many exchanges.
    pub requests: AtomicU64,
    /// Rate limits.
    pub rate: AtomicU64,
    /// Buckets of rate limits that were given to another client while in use.
    pub evicted: AtomicU64,
    /// Exchanges that took longer than they may, before their response began.
    pub timeout: AtomicU64,
    /// Exchanges that took longer than they may, after their response had begun.
    pub cut_off: AtomicU64,
}

/// What became of lines of a log.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Lines that were written.
    pub lines: AtomicU64,
    /// Lines for which the writer had no room, or their file or reader none.
    pub dropped: AtomicU64,
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
    /// Answers the gateway made itself, by reason.
    pub own_answers: ByLabel,
    /// Client connections closed at once, since as many were open as descriptors allow.
    pub refused: AtomicU64,
    /// Client connections that spoke HTTP/2.
    pub http2_connections: AtomicU64,
    /// Those among them that were ended because they sent more control frames than any purpose needs.
    pub http2_floods: AtomicU64,
    /// Exchanges that became another protocol, WebSockets for the most part.
    pub upgrades: AtomicU64,
    /// Accepts that failed.
    pub accept_errors: AtomicU64,
    /// Datagrams for a listener that leads nowhere.
    pub unrouted_datagrams: AtomicU64,
    /// The newest snapshot version that every worker serves.
    pub serving: AtomicU64,
    /// Lines of the access log.
    pub access_log: Arc<LogStats>,
    /// What limits of clients refused or ended.
    pub clients: ClientStats,
    /// Memory and descriptors.
    pub overload: OverloadStats,
    /// Client connections reset, by [`Reset`].
    pub resets: [AtomicU64; Reset::ALL.len()],
    /// TLS with clients.
    pub tls: TlsStats,
    /// What snapshots changed.
    pub changes: ChangeStats,
}

/// What snapshots changed: the work that they made. A worker that missed some counts what differs in the end.
#[derive(Debug, Default)]
pub struct ChangeStats {
    /// Service ports that were new, changed or gone, by each worker.
    pub services: AtomicU64,
    /// Listeners likewise.
    pub listeners: AtomicU64,
    /// Sockets of listeners on which settings were set, at first or because they changed.
    pub socket_options: AtomicU64,
}

/// What limits of clients refused or ended.
#[derive(Debug, Default)]
pub struct ClientStats {
    /// Connections beyond a listener's limit.
    pub over_listener: AtomicU64,
    /// Connections beyond a client's limit.
    pub over_client: AtomicU64,
    /// Requests refused by rate limits of listeners.
    pub rate: AtomicU64,
    /// Buckets of them that were given to another client while in use.
    pub evicted: AtomicU64,
    /// Requests with more content than they may have.
    pub large_content: AtomicU64,
    /// Connections that ended because they were idle.
    pub idle: AtomicU64,
    /// Connections that ended because a request's head did not come in time.
    pub slow_head: AtomicU64,
    /// Connections that ended because a request did not come in time.
    pub slow_request: AtomicU64,
    /// Exchanges that ended because nothing moved in them.
    pub stalled: AtomicU64,
    /// Exchanges that ended because they lasted too long.
    pub long: AtomicU64,
    /// Exchanges that ended because their client sent or read too slowly.
    pub slow_rate: AtomicU64,
    /// Exchanges given up whose client had closed its sending side for too long.
    pub half_closed: AtomicU64,
}

/// Memory and descriptors of the process.
#[derive(Debug, Default)]
pub struct OverloadStats {
    /// 1 while new work is refused.
    pub refusing: AtomicU64,
    /// Times it came to that.
    pub times: AtomicU64,
    /// Connections that were refused for it.
    pub connections: AtomicU64,
    /// Requests that were refused for it.
    pub requests: AtomicU64,
    /// 1 while so much memory is in use that all threads are to return what they have free.
    pub memory_is_short: AtomicU64,
    /// Memory in use that the kernel cannot take back, in bytes.
    pub memory: AtomicU64,
    /// The limit of memory, in bytes; 0: none.
    pub memory_limit: AtomicU64,
    /// File descriptors in use.
    pub descriptors: AtomicU64,
    /// The limit of file descriptors.
    pub descriptor_limit: AtomicU64,
    /// Of the descriptors in use, those of listeners.
    pub listening: AtomicU64,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds so many, if it is any.
pub fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
