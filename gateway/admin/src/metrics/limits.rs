//! What limits, circuit breakers and overload have refused, and what became of retries.

use std::sync::atomic::AtomicU64;

use sluicegate_model::stats::{ProxyStats, ServiceStats};
use sluicegate_model::telemetry::metric::Point;

use super::family::{Page, and, count, counter, family, gauge};
use super::ports::Row;

/// The rows of a family: a label's value, and the counter.
type Rows<T> = &'static [(&'static str, fn(&T) -> &AtomicU64)];

const CLIENTS_REFUSED: Rows<ProxyStats> = &[
    ("connections", |s| &s.refused),
    ("listener-connections", |s| &s.clients.over_listener),
    ("client-connections", |s| &s.clients.over_client),
    ("rate", |s| &s.clients.rate),
    ("content", |s| &s.clients.large_content),
    ("overload-connections", |s| &s.overload.connections),
    ("overload-requests", |s| &s.overload.requests),
];

const CLIENTS_ENDED: Rows<ProxyStats> = &[
    ("idle", |s| &s.clients.idle),
    ("slow-head", |s| &s.clients.slow_head),
    ("slow-request", |s| &s.clients.slow_request),
    ("slow-rate", |s| &s.clients.slow_rate),
    ("half-closed", |s| &s.clients.half_closed),
    ("stalled", |s| &s.clients.stalled),
    ("long", |s| &s.clients.long),
];

const REFUSED: Rows<ServiceStats> = &[
    ("pending", |s| &s.refused.pending),
    ("pending-timeout", |s| &s.refused.pending_timeout),
    ("connections", |s| &s.refused.connections),
    ("requests", |s| &s.refused.requests),
    ("rate", |s| &s.refused.rate),
];

const TIMEOUTS: Rows<ServiceStats> = &[("before-response", |s| &s.refused.timeout), ("during-response", |s| &s.refused.cut_off)];

const RETRIES: Rows<ServiceStats> = &[
    ("succeeded", |s| &s.retries.succeeded),
    ("exhausted", |s| &s.retries.exhausted),
    ("over-budget", |s| &s.retries.over_budget),
    ("not-replayable", |s| &s.retries.not_replayable),
];

/// What limits of clients and overload have refused.
pub(super) fn encode(e: &mut Page, proxy: &ProxyStats) {
    let rows = |label, rows: Rows<ProxyStats>| {
        rows.iter().map(move |(name, of)| (vec![(label, (*name).to_owned())], Point::counter(count(of(proxy)))))
    };
    family(e, "client_refusals", "Connections and requests refused, by the limit they met", rows("limit", CLIENTS_REFUSED));
    family(e, "client_connections_ended", "Client connections ended by a time-out", rows("reason", CLIENTS_ENDED));
    family(
        e,
        "rate_limit_evictions",
        "Buckets of listeners' rate limits given to another client while in use",
        counter(&proxy.clients.evicted),
    );
    family(e, "overloaded", "1 while new work is refused for want of memory or descriptors", gauge(&proxy.overload.refusing));
    family(e, "overloads", "Times it came to that", counter(&proxy.overload.times));
    family(e, "memory_bytes", "Memory in use that the kernel cannot take back: anonymous and shared", gauge(&proxy.overload.memory));
    family(e, "memory_limit_bytes", "Memory that may be used; 0: not known", gauge(&proxy.overload.memory_limit));
    family(e, "descriptors", "File descriptors in use", gauge(&proxy.overload.descriptors));
    family(e, "listener_descriptors", "File descriptors that listeners have", gauge(&proxy.overload.listening));
    family(e, "descriptor_limit", "File descriptors that may be used", gauge(&proxy.overload.descriptor_limit));
}

/// What limits of service ports have refused, and what became of retries there.
pub(super) fn services(e: &mut Page, ports: &[Row]) {
    let per_port = |label, rows: Rows<ServiceStats>| {
        let row = move |port: &Row| {
            let rows = rows.iter().map(|(name, of)| (and(port.labels.clone(), label, name), Point::counter(count(of(&port.stats)))));
            rows.collect::<Vec<_>>()
        };
        ports.iter().flat_map(row)
    };
    let per_one =
        |of: fn(&ServiceStats) -> &AtomicU64| ports.iter().map(move |port| (port.labels.clone(), Point::counter(count(of(&port.stats)))));
    family(e, "service_refusals", "Requests and connections that a breaker or a limit of the service refused", per_port("limit", REFUSED));
    family(e, "service_timeouts", "Exchanges that took longer than they may", per_port("when", TIMEOUTS));
    family(e, "service_retries", "Tries after the first", per_one(|s| &s.retries.tries));
    family(e, "service_retried_exchanges", "Exchanges that wanted another try, by what became of them", per_port("outcome", RETRIES));
    let evicted = "Buckets of the service's rate limits given to another client while in use";
    family(e, "service_rate_limit_evictions", evicted, per_one(|s| &s.refused.evicted));
    let load = ports.iter().flat_map(|port| {
        let load = ["connections", "requests", "retries", "pending"].into_iter().zip(port.now.load);
        load.map(|(what, n)| (and(port.labels.clone(), "what", what), Point::gauge(n)))
    });
    family(e, "service_load", "What is under way where a breaker or a budget counts it", load);
}
