//! Flows and datagrams of UDP service ports.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::route::PortProtocol;
use sluicegate_model::stats::{UdpDrop, UdpStats};
use sluicegate_model::status::Status;

use super::family::{and, count, family};
use super::services::of;

pub(super) fn encode(e: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let ports =
        || status.services.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))).filter(|(_, p)| p.protocol == PortProtocol::Udp);
    let one = |read: fn(&UdpStats) -> &AtomicU64| ports().map(move |(s, p)| (of(s, p), ConstCounter::new(count(read(&p.stats.udp)))));
    let both = |to_endpoints: fn(&UdpStats) -> &AtomicU64, to_clients: fn(&UdpStats) -> &AtomicU64| {
        ports().flat_map(move |(s, p)| {
            [("in", to_endpoints), ("out", to_clients)]
                .map(|(direction, read)| (and(of(s, p), "direction", direction), ConstCounter::new(count(read(&p.stats.udp)))))
        })
    };
    family(e, "service_udp_flows", "UDP flows begun", one(|u| &u.flows))?;
    let open = ports().map(|(s, p)| (of(s, p), ConstGauge::new(count(&p.stats.udp.open).cast_signed())));
    family(e, "service_udp_flows_open", "UDP flows under way", open)?;
    family(e, "service_udp_flows_moved", "UDP flows that went on to another endpoint", one(|u| &u.moved))?;
    family(e, "service_udp_flows_evicted", "UDP flows forgotten early, since there were too many", one(|u| &u.evicted))?;
    let datagrams = both(|u| &u.datagrams_in, |u| &u.datagrams_out);
    family(e, "service_udp_datagrams", "UDP datagrams forwarded, in: to endpoints, out: to clients", datagrams)?;
    family(e, "service_udp_bytes", "Their content", both(|u| &u.bytes_in, |u| &u.bytes_out))?;
    let drops = ports()
        .flat_map(|(s, p)| UdpDrop::ALL.map(|why| (and(of(s, p), "reason", why.name()), ConstCounter::new(p.stats.udp.dropped(why)))));
    family(e, "service_udp_drops", "UDP datagrams that went nowhere, by reason", drops)
}
