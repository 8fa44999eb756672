//! Flows and datagrams of UDP service ports.

use std::sync::atomic::AtomicU64;

use sluicegate_model::route::PortProtocol;
use sluicegate_model::stats::{UdpDrop, UdpStats};
use sluicegate_model::telemetry::metric::Point;

use super::family::{Page, and, count, family};
use super::ports::Row;

pub(super) fn encode(e: &mut Page, rows: &[Row]) {
    let rows = || rows.iter().filter(|row| row.protocol == PortProtocol::Udp);
    let one = |read: fn(&UdpStats) -> &AtomicU64| rows().map(move |row| (row.labels.clone(), Point::counter(count(read(&row.stats.udp)))));
    let both = |to_endpoints: fn(&UdpStats) -> &AtomicU64, to_clients: fn(&UdpStats) -> &AtomicU64| {
        rows().flat_map(move |row| {
            [("in", to_endpoints), ("out", to_clients)]
                .map(|(direction, read)| (and(row.labels.clone(), "direction", direction), Point::counter(count(read(&row.stats.udp)))))
        })
    };
    family(e, "service_udp_flows", "UDP flows begun", one(|u| &u.flows));
    let open = rows().map(|row| (row.labels.clone(), Point::gauge(row.now.open_flows)));
    family(e, "service_udp_flows_open", "UDP flows under way", open);
    family(e, "service_udp_flows_moved", "UDP flows that went on to another endpoint", one(|u| &u.moved));
    family(e, "service_udp_flows_evicted", "UDP flows forgotten early, since there were too many", one(|u| &u.evicted));
    let datagrams = both(|u| &u.datagrams_in, |u| &u.datagrams_out);
    family(e, "service_udp_datagrams", "UDP datagrams forwarded, in: to endpoints, out: to clients", datagrams);
    family(e, "service_udp_bytes", "Their content", both(|u| &u.bytes_in, |u| &u.bytes_out));
    let drops = rows().flat_map(|row| {
        UdpDrop::ALL.map(|why| (and(row.labels.clone(), "reason", why.name()), Point::counter(row.stats.udp.dropped(why))))
    });
    family(e, "service_udp_drops", "UDP datagrams that went nowhere, by reason", drops);
}
