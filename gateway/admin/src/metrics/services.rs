//! Each service port that has series of its own, and the sums of the others.

use sluicegate_model::stats::{Histogram, ServiceStats};
use sluicegate_model::telemetry::metric::{Point, Times};

use super::family::{Page, and, count, family};
use super::ports::Row;

pub(super) fn encode(e: &mut Page, rows: &[Row]) {
    let per_port = |read: fn(&Row) -> u64| rows.iter().map(move |row| (row.labels.clone(), Point::counter(read(row))));
    family(e, "service_connections", "TCP connections forwarded", per_port(|p| count(&p.stats.connections)));
    let no_endpoint = per_port(|p| count(&p.stats.no_endpoint));
    family(e, "service_no_endpoint", "Connections or requests refused for want of an endpoint", no_endpoint);
    let no_local = per_port(|p| count(&p.stats.no_local_endpoint));
    family(
        e,
        "service_no_local_endpoint",
        "Those of them that an endpoint on another node could have served: the policy is Local",
        no_local,
    );
    let connect_failures = per_port(|p| count(&p.stats.connect_failures));
    family(e, "service_connect_failures", "Connection attempts to endpoints that failed", connect_failures);
    let tls_failures = per_port(|p| count(&p.stats.tls_failures));
    family(
        e,
        "service_tls_failures",
        "TLS handshakes with endpoints that failed, or were not begun for want of usable rules",
        tls_failures,
    );
    family(e, "service_pick_fallbacks", "Picks that went down the failure ladder", per_port(|p| count(&p.stats.fallbacks)));
    family(e, "service_picks", "Picks of endpoints", per_port(|p| p.picks));
    let classes = rows.iter().flat_map(|row| {
        let classes = row.stats.responses.iter().enumerate();
        classes.map(move |(class, n)| (and(row.labels.clone(), "class", &format!("{}xx", class + 1)), Point::counter(count(n))))
    });
    family(e, "service_responses", "HTTP responses by status class", classes);
    let times = |read: fn(&ServiceStats) -> &Histogram| {
        rows.iter().filter_map(move |row| Some((row.labels.clone(), Point::Times(Times::of(read(&row.stats))?))))
    };
    let exchange = "HTTP exchanges, from the request's head to the end of the response";
    family(e, "service_request_duration_seconds", exchange, times(|s| &s.exchange_time));
    let connect = "Connection attempts to endpoints that succeeded";
    family(e, "service_connect_duration_seconds", connect, times(|s| &s.connect_time));
    let connection = "TCP connections forwarded, from accept to close";
    family(e, "service_connection_duration_seconds", connection, times(|s| &s.connection_time));
    let bytes_in = "Bytes from clients: content of requests (HTTP), all of a connection (TCP)";
    family(e, "service_bytes_in", bytes_in, per_port(|p| count(&p.stats.bytes_in)));
    family(e, "service_bytes_out", "Bytes to clients, likewise", per_port(|p| count(&p.stats.bytes_out)));
    let states = rows.iter().flat_map(|row| {
        let states = ["ready", "serving", "terminating", "all"].into_iter().zip(row.now.endpoints);
        states.map(|(state, n)| (and(row.labels.clone(), "state", state), Point::gauge(n)))
    });
    family(e, "service_endpoints", "Endpoints by state", states);
}
