//! Each service port.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::pool::Endpoint;
use sluicegate_model::stats::{Histogram, ServiceStats};
use sluicegate_model::status::{PortStatus, ServiceStatus, Status};

use super::family::{Labels, and, count, family, times};

pub(super) fn encode(e: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let ports = || status.services.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p)));
    let per_port = |read: fn(&PortStatus) -> u64| ports().map(move |(s, p)| (of(s, p), ConstCounter::new(read(p))));
    family(e, "service_connections", "TCP connections forwarded", per_port(|p| count(&p.stats.connections)))?;
    let no_endpoint = per_port(|p| count(&p.stats.no_endpoint));
    family(e, "service_no_endpoint", "Connections or requests refused for want of an endpoint", no_endpoint)?;
    let no_local = per_port(|p| count(&p.stats.no_local_endpoint));
    family(
        e,
        "service_no_local_endpoint",
        "Those of them that an endpoint on another node could have served: the policy is Local",
        no_local,
    )?;
    let connect_failures = per_port(|p| count(&p.stats.connect_failures));
    family(e, "service_connect_failures", "Connection attempts to endpoints that failed", connect_failures)?;
    let tls_failures = per_port(|p| count(&p.stats.tls_failures));
    family(
        e,
        "service_tls_failures",
        "TLS handshakes with endpoints that failed, or were not begun for want of usable rules",
        tls_failures,
    )?;
    family(e, "service_pick_fallbacks", "Picks that went down the failure ladder", per_port(|p| count(&p.stats.fallbacks)))?;
    family(e, "service_picks", "Picks of endpoints", per_port(|p| p.stats.picks.counts()[0]))?;
    let classes = ports().flat_map(|(s, p)| {
        let classes = p.stats.responses.iter().enumerate();
        classes.map(move |(class, n)| (and(of(s, p), "class", &format!("{}xx", class + 1)), ConstCounter::new(count(n))))
    });
    family(e, "service_responses", "HTTP responses by status class", classes)?;
    let times = |read: fn(&ServiceStats) -> &Histogram| ports().filter_map(move |(s, p)| Some((of(s, p), times(read(&p.stats))?)));
    let exchange = "HTTP exchanges, from the request's head to the end of the response";
    family(e, "service_request_duration_seconds", exchange, times(|s| &s.exchange_time))?;
    let connect = "Connection attempts to endpoints that succeeded";
    family(e, "service_connect_duration_seconds", connect, times(|s| &s.connect_time))?;
    let connection = "TCP connections forwarded, from accept to close";
    family(e, "service_connection_duration_seconds", connection, times(|s| &s.connection_time))?;
    let bytes_in = "Bytes from clients: content of requests (HTTP), all of a connection (TCP)";
    family(e, "service_bytes_in", bytes_in, per_port(|p| count(&p.stats.bytes_in)))?;
    family(e, "service_bytes_out", "Bytes to clients, likewise", per_port(|p| count(&p.stats.bytes_out)))?;
    let states = ports().flat_map(|(s, p)| {
        let count = |which: fn(&Endpoint) -> bool| p.endpoints.iter().filter(|e| which(e)).count() as i64;
        let rows = [
            ("ready", count(|e| e.ready)),
            ("serving", count(|e| e.serving)),
            ("terminating", count(|e| e.terminating)),
            ("all", count(|_| true)),
        ];
        rows.map(|(state, n)| (and(of(s, p), "state", state), ConstGauge::new(n)))
    });
    family(e, "service_endpoints", "Endpoints by state", states)
}

/// The labels of a service port.
pub(super) fn of(service: &ServiceStatus, port: &PortStatus) -> Labels {
    vec![
        ("namespace", service.namespace.clone()),
        ("service", service.name.clone()),
        ("port", port.port.to_string()),
        ("protocol", port.protocol.to_string()),
    ]
}
