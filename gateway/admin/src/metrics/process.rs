//! The data plane as a whole, and the configuration.

use std::sync::atomic::AtomicU64;

use sluicegate_model::fault::Severity;
use sluicegate_model::stats::{LogStats, ProxyStats, Reset, SignalStats};
use sluicegate_model::status::Status;
use sluicegate_model::telemetry::metric::Point;

use super::family::{Labels, Page, and, count, counter, family, gauge};

pub(super) fn encode(e: &mut Page, proxy: &ProxyStats, log: &LogStats, status: &Status) {
    family(e, "connections_accepted", "Client connections accepted", counter(&proxy.accepted));
    family(e, "connections_open", "Client connections open", gauge(&proxy.open));
    family(e, "requests", "HTTP exchanges begun", counter(&proxy.requests));
    // A reason that never occurred has no row.
    let reasons = proxy.own_answers.rows().filter(|(_, n)| *n > 0);
    let reasons = reasons.map(|(reason, n)| (vec![("reason", reason.to_owned())], Point::counter(n)));
    family(e, "own_answers", "HTTP answers made by the gateway itself, by reason", reasons);
    family(e, "connections_refused", "Client connections reset at once, since as many were open as may be", counter(&proxy.refused));
    let resets = Reset::ALL.into_iter().map(|why| (vec![("reason", why.name().to_owned())], Point::counter(count(proxy.reset(why)))));
    family(e, "connection_resets", "Client connections that the gateway reset, by reason", resets);
    family(e, "http2_connections", "Client connections that spoke HTTP/2", counter(&proxy.http2_connections));
    family(e, "http2_floods", "HTTP/2 connections ended for too many control frames", counter(&proxy.http2_floods));
    let http3 = &proxy.http3;
    family(e, "http3_connections", "Client connections that spoke HTTP/3", counter(&http3.connections));
    family(e, "http3_floods", "HTTP/3 connections ended for too many control frames or reset streams", counter(&http3.floods));
    let retries = "Clients of HTTP/3 that had to show that they receive at their address, as many handshakes were under way";
    family(e, "http3_retries", retries, counter(&http3.retries));
    family(e, "http3_moved", "Times that a client of HTTP/3 went on from another address", counter(&http3.moved));
    let packets = [("handed-over", &http3.handed_over), ("dropped", &http3.handover_dropped)];
    let packets = packets.into_iter().map(|(fate, n)| (vec![("fate", fate.to_owned())], Point::counter(count(n))));
    let strayed = "Packets of QUIC that came to another worker or process than the one that has their connection";
    family(e, "http3_strayed_packets", strayed, packets);
    family(e, "upgrades", "Exchanges that became another protocol", counter(&proxy.upgrades));
    family(e, "accept_errors", "Accepts and receives that failed", counter(&proxy.accept_errors));
    family(e, "unrouted_datagrams", "UDP datagrams for a listener that leads nowhere", counter(&proxy.unrouted_datagrams));
    family(e, "access_log_lines", "Lines of the access log that were written", counter(&proxy.access_log.lines));
    let dropped = "Lines of the access log that the writer, or its file, had no room for";
    family(e, "access_log_dropped", dropped, counter(&proxy.access_log.dropped));
    family(e, "log_lines", "Lines of the process's log that were written", counter(&log.lines));
    family(e, "log_dropped", "Lines of the process's log that its reader did not take in time", counter(&log.dropped));
    let signals = proxy.telemetry.signals().map(|(signal, stats)| (vec![("signal", signal.to_owned())], stats));
    let signals: Vec<(Labels, &SignalStats)> = signals.collect();
    let of = |read: fn(&SignalStats) -> &AtomicU64| signals.iter().map(move |(l, stats)| (l.clone(), Point::counter(count(read(stats)))));
    let exported = "Exchanges with their spans, points of metrics, and log records that a collector took";
    family(e, "telemetry_exported", exported, of(|s| &s.exported));
    let reasons: [(_, fn(&SignalStats) -> &AtomicU64); 3] =
        [("full", |s| &s.dropped_full), ("failed", |s| &s.dropped_failed), ("refused", |s| &s.dropped_refused)];
    let dropped = signals
        .iter()
        .flat_map(|(l, stats)| reasons.map(|(reason, read)| (and(l.clone(), "reason", reason), Point::counter(count(read(stats))))));
    family(e, "telemetry_dropped", "Those that were dropped: too many waited, no collector took them in time, or it refused them", dropped);
    family(e, "telemetry_failures", "Requests to collectors that failed", of(|s| &s.failures));
    family(e, "snapshot_version", "The newest snapshot that every worker serves", gauge(&proxy.serving));
    let changes = [("service", &proxy.changes.services), ("listener", &proxy.changes.listeners)];
    let changes = changes.into_iter().map(|(part, n)| (vec![("part", part.to_owned())], Point::counter(count(n))));
    family(e, "snapshot_changes", "Service ports and listeners that differed when a worker took a snapshot, over all workers", changes);
    let faults = [Severity::Error, Severity::Warning].into_iter().map(|severity| {
        let count = status.faults.iter().filter(|f| f.severity == severity).count();
        (vec![("severity", format!("{severity:?}").to_lowercase())], Point::gauge(count as i64))
    });
    family(e, "configuration_faults", "Faults of the configuration", faults)
}
