//! What limits, circuit breakers and overload have refused, and what became of retries.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::stats::{ProxyStats, ServiceStats};
use sluicegate_model::status::Status;

use super::family::{Labels, and, count, counter, family, gauge};
use super::services::of;

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

pub(super) fn encode(e: &mut DescriptorEncoder<'_>, proxy: &ProxyStats, status: &Status) -> fmt::Result {
    let rows = |label, rows: Rows<ProxyStats>| {
        rows.iter().map(move |(name, of)| (vec![(label, (*name).to_owned())], ConstCounter::new(count(of(proxy)))))
    };
    family(e, "client_refusals", "Connections and requests refused, by the limit they met", rows("limit", CLIENTS_REFUSED))?;
    family(e, "client_connections_ended", "Client connections ended by a time-out", rows("reason", CLIENTS_ENDED))?;
    family(
        e,
        "rate_limit_evictions",
        "Buckets of listeners' rate limits given to another client while in use",
        counter(&proxy.clients.evicted),
    )?;
    family(e, "overloaded", "1 while new work is refused for want of memory or descriptors", gauge(&proxy.overload.refusing))?;
    family(e, "overloads", "Times it came to that", counter(&proxy.overload.times))?;
    family(e, "memory_bytes", "Memory in use that the kernel cannot take back: anonymous and shared", gauge(&proxy.overload.memory))?;
    family(e, "memory_limit_bytes", "Memory that may be used; 0: not known", gauge(&proxy.overload.memory_limit))?;
    family(e, "descriptors", "File descriptors in use", gauge(&proxy.overload.descriptors))?;
    family(e, "listener_descriptors", "File descriptors that listeners have", gauge(&proxy.overload.listening))?;
    family(e, "descriptor_limit", "File descriptors that may be used", gauge(&proxy.overload.descriptor_limit))?;

    let ports = || status.services.iter().flat_map(|s| s.ports.iter().map(move |p| (of(s, p), &*p.stats)));
    let per_port = |label, rows: Rows<ServiceStats>| {
        let row = move |(labels, stats): (Labels, &ServiceStats)| {
            rows.iter().map(move |(name, of)| (and(labels.clone(), label, name), ConstCounter::new(count(of(stats))))).collect::<Vec<_>>()
        };
        ports().flat_map(row)
    };
    family(e, "service_refusals", "Requests and connections that a breaker or a limit of the service refused", per_port("limit", REFUSED))?;
    family(e, "service_timeouts", "Exchanges that took longer than they may", per_port("when", TIMEOUTS))?;
    let tries = ports().map(|(labels, stats)| (labels, ConstCounter::new(count(&stats.retries.tries))));
    family(e, "service_retries", "Tries after the first", tries)?;
    family(e, "service_retried_exchanges", "Exchanges that wanted another try, by what became of them", per_port("outcome", RETRIES))?;
    let evicted = ports().map(|(labels, stats)| (labels, ConstCounter::new(count(&stats.refused.evicted))));
    family(e, "service_rate_limit_evictions", "Buckets of the service's rate limits given to another client while in use", evicted)?;
    let load = ports().flat_map(|(labels, stats)| {
        let slots = [("connections", &stats.load.connections), ("requests", &stats.load.requests), ("retries", &stats.load.retries)];
        let used = slots.map(|(what, slots)| {
            (and(labels.clone(), "what", what), ConstGauge::new(slots.get().map_or(0, |slots| i64::from(slots.used()))))
        });
        let waiting = stats.load.connections.get().map_or(0, |slots| i64::from(slots.waiting()));
        let waiting = (and(labels.clone(), "what", "pending"), ConstGauge::new(waiting));
        used.into_iter().chain([waiting]).collect::<Vec<_>>()
    });
    family(e, "service_load", "What is under way where a breaker or a budget counts it", load)
}
