//! Counters that workers write and anybody reads. All are relaxed atomics, as they are figures and synchronize nothing.

mod histogram;
mod labels;
mod reset;
mod sum;
mod telemetry;
mod tls;
mod udp;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

pub use histogram::{BOUNDS_US, Exemplar, Histogram};
pub use labels::{ByLabel, MOST_LABELS};
pub use reset::Reset;
pub use telemetry::{SignalStats, TelemetryStats};
pub use tls::{TlsFailure, TlsStats};
pub use udp::{UdpDrop, UdpStats};
pub use window::RetryWindow;

use crate::counters::{Counted, Counters};
use crate::health::{Condition, EndpointHealth, Outcome, ServiceHealth};
use crate::lazy::Lazy;
use crate::settings::Passive;
use crate::slots::Slots;

/// The statistics of one endpoint, for balancers. There may be 100,000 of them.
#[derive(Debug)]
pub struct EndpointStats {
    in_flight: AtomicU32,
    latency_us: AtomicU32,
    /// The share of successes, in 1/65536.
    success: AtomicU32,
    /// Picks that went to this endpoint.
    pub picks: AtomicU64,
    /// Connections to the endpoint, which are counted while a circuit breaker limits them.
    pub connections: Lazy<Slots>,
    /// The endpoint's health.
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
    /// The number of exchanges or connections under way.
    pub in_flight: u32,
    /// The mean latency in microseconds; 0 before the first answer.
    pub latency_us: u32,
    /// The share of successes, from 0 to 1.
    pub success: f32,
    /// The endpoint's condition.
    pub condition: Condition,
}

impl Default for Sight {
    /// An endpoint of which nothing is known.
    fn default() -> Self {
        Self { in_flight: 0, latency_us: 0, success: 1.0, condition: Condition::Healthy }
    }
}

/// The counter is that of picks.
impl Counted<1> for EndpointStats {
    fn counts(&self) -> [u64; 1] {
        [self.picks.load(Ordering::Relaxed)]
    }
}

impl EndpointStats {
    /// What balancers see of the endpoint now.
    pub fn sight(&self) -> Sight {
        let (in_flight, latency_us, success) = (self.in_flight(), self.latency_us(), self.success());
        Sight { in_flight, latency_us, success, condition: self.health.condition() }
    }

    /// Sets what balancers see, for endpoints that do not exist, as in a simulation.
    pub fn show(&self, sight: Sight) {
        self.in_flight.store(sight.in_flight, Ordering::Relaxed);
        self.latency_us.store(sight.latency_us, Ordering::Relaxed);
        self.success.store((sight.success.clamp(0.0, 1.0) * 65536.0) as u32, Ordering::Relaxed);
        self.health.show(sight.condition);
    }

    /// The number of exchanges or connections under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The mean latency in microseconds; 0 before the first answer.
    pub fn latency_us(&self) -> u32 {
        self.latency_us.load(Ordering::Relaxed)
    }

    /// The share of successes, from 0 to 1.
    pub fn success(&self) -> f32 {
        self.success.load(Ordering::Relaxed) as f32 / 65536.0
    }

    /// Notes that an exchange or connection begins.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.picks.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that an exchange or connection has ended.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes an observation. It is weighed 1/8, as in TCP's smoothed round-trip time (RFC 6298 §2). If two workers do this at once, one observation may be
    /// lost.
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
    /// TCP connections that were accepted for the port (L4).
    pub connections: AtomicU64,
    /// HTTP exchanges that were forwarded to it, by status class (index 0: 1xx … 4: 5xx).
    pub responses: [AtomicU64; 5],
    /// Connections refused or answered 503 for want of an endpoint.
    pub no_endpoint: AtomicU64,
    /// Those among them that would have found an endpoint on another node, as the traffic policy is Local.
    pub no_local_endpoint: AtomicU64,
    /// Connection attempts to endpoints that failed.
    pub connect_failures: AtomicU64,
    /// Picks that went down the failure ladder.
    pub fallbacks: AtomicU64,
    /// The time of HTTP exchanges, from the request's head to the end of the response.
    pub exchange_time: Histogram,
    /// The time of connection attempts to endpoints that succeeded.
    pub connect_time: Histogram,
    /// The time of TCP connections (L4), from accept to close.
    pub connection_time: Histogram,
    /// Bytes from clients: the content of requests (L7), or all bytes (L4).
    pub bytes_in: AtomicU64,
    /// Bytes to clients: the content of responses (L7), or all bytes (L4).
    pub bytes_out: AtomicU64,
    /// Picks, over all endpoints that there have been.
    pub picks: Counters<EndpointStats, 1>,
    /// What is under way.
    pub load: ServiceLoad,
    /// What became of retries.
    pub retries: RetryStats,
    /// What circuit breakers and limits refused.
    pub refused: RefusalStats,
    /// TLS handshakes with endpoints that failed.
    pub tls_failures: AtomicU64,
    /// What became of datagrams, if it is a UDP port.
    pub udp: Lazy<UdpStats>,
    /// The health of its endpoints together.
    pub health: ServiceHealth,
}

impl ServiceStats {
    /// Notes the outcome of a pick: always for balancers, and for ejection where there are rules of it.
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
    /// Exchanges that were answered, by endpoints or for want of an endpoint's answer.
    pub fn exchanges(&self) -> u64 {
        self.responses.iter().map(|class| class.load(Ordering::Relaxed)).sum()
    }
}

/// What a service port has under way. It is counted while a circuit breaker or a budget limits it; what began before that is not counted.
#[derive(Debug, Default)]
pub struct ServiceLoad {
    /// Connections to endpoints, including idle ones.
    pub connections: Lazy<Slots>,
    /// Exchanges.
    pub requests: Lazy<Slots>,
    /// Retries: tries after the first.
    pub retries: Lazy<Slots>,
}

/// What became of exchanges that wanted to be tried again.
#[derive(Debug, Default)]
pub struct RetryStats {
    /// Retries: tries after the first.
    pub tries: AtomicU64,
    /// Exchanges that a retry saved.
    pub succeeded: AtomicU64,
    /// Exchanges that had no retry left.
    pub exhausted: AtomicU64,
    /// Exchanges for which the budget or the circuit breaker allowed no retry.
    pub over_budget: AtomicU64,
    /// Exchanges that could not be sent again: they were not idempotent, or their content was not kept.
    pub not_replayable: AtomicU64,
    /// The retries of the last seconds.
    pub lately: RetryWindow,
}

/// What circuit breakers and limits of a service port refused.
#[derive(Debug, Default)]
pub struct RefusalStats {
    /// Exchanges for which there was neither a free connection nor a place to wait for one.
    pub pending: AtomicU64,
    /// Exchanges for which no connection became free in time.
    pub pending_timeout: AtomicU64,
    /// L4 connections, which do not wait for a place.
    pub connections: AtomicU64,
    /// Exchanges beyond the number that there may be.
    pub requests: AtomicU64,
    /// Exchanges that rate limits refused.
    pub rate: AtomicU64,
    /// Buckets of rate limits that were given to another client while in use.
    pub evicted: AtomicU64,
    /// Exchanges that took longer than they may, before their response began.
    pub timeout: AtomicU64,
    /// Exchanges that took longer than they may, after their response had begun.
    pub cut_off: AtomicU64,
}

/// What became of the lines of a log.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Lines that were written.
    pub lines: AtomicU64,
    /// Lines that were dropped, as the writer had no room for them, or their file or reader had none.
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
    /// Answers that the gateway made itself, by reason.
    pub own_answers: ByLabel,
    /// Client connections that were closed at once, as the descriptors allow no more.
    pub refused: AtomicU64,
    /// Client connections that spoke HTTP/2.
    pub http2_connections: AtomicU64,
    /// Those among them that were ended, as they sent more control frames than any purpose needs.
    pub http2_floods: AtomicU64,
    /// HTTP/3, and QUIC below it.
    pub http3: Http3Stats,
    /// Exchanges that became another protocol, mostly a WebSocket.
    pub upgrades: AtomicU64,
    /// Accepts that failed.
    pub accept_errors: AtomicU64,
    /// Datagrams that came to a listener which leads nowhere.
    pub unrouted_datagrams: AtomicU64,
    /// The newest snapshot that all workers serve, by its version.
    pub serving: AtomicU64,
    /// Lines of the access log.
    pub access_log: Arc<LogStats>,
    /// What became of what is exported to collectors.
    pub telemetry: TelemetryStats,
    /// What limits of clients refused or ended.
    pub clients: ClientStats,
    /// The use of memory and descriptors.
    pub overload: OverloadStats,
    /// Client connections that were reset, by [`Reset`].
    pub resets: [AtomicU64; Reset::ALL.len()],
    /// TLS handshakes with clients.
    pub tls: TlsStats,
    /// The work that changes of snapshots made.
    pub changes: ChangeStats,
}

/// The work that changes of snapshots made. A worker that missed snapshots counts only what differs in the end.
#[derive(Debug, Default)]
pub struct ChangeStats {
    /// Service ports that were new, changed or gone, counted by each worker.
    pub services: AtomicU64,
    /// Listeners that were new, changed or gone, counted by each worker.
    pub listeners: AtomicU64,
    /// Sockets of listeners on which options were set, at first or because they changed.
    pub socket_options: AtomicU64,
}

/// HTTP/3, and QUIC below it.
#[derive(Debug, Default)]
pub struct Http3Stats {
    /// Client connections that spoke HTTP/3.
    pub connections: AtomicU64,
    /// Those among them that were ended, as they sent more than any purpose needs.
    pub floods: AtomicU64,
    /// Clients that were asked to show that they receive at their address (RFC 9000 §8.1.2), as many handshakes were under way.
    pub retries: AtomicU64,
    /// Requests that came first from another address of their client than those before.
    pub moved: AtomicU64,
    /// Packets that were handed over to the worker, or the process, that has their connection.
    pub handed_over: AtomicU64,
    /// Packets that were dropped instead, as too many waited there.
    pub handover_dropped: AtomicU64,
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
    /// Buckets of these limits that were given to another client while in use.
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
    /// Exchanges that were given up, as their client had closed its sending side for too long.
    pub half_closed: AtomicU64,
}

/// The use of memory and descriptors by the process.
#[derive(Debug, Default)]
pub struct OverloadStats {
    /// 1 while new work is refused.
    pub refusing: AtomicU64,
    /// How often that happened.
    pub times: AtomicU64,
    /// Connections that were refused meanwhile.
    pub connections: AtomicU64,
    /// Requests that were refused meanwhile.
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
    /// File descriptors in use by listeners.
    pub listening: AtomicU64,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds a number, unless it is 0.
pub fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
