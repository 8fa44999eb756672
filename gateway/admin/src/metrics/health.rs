//! The endpoints' health: probes, ejections, panics.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::health::{Condition, Probed, Reason};
use sluicegate_model::status::Status;

use super::family::{and, count, family};
use super::services::of;

pub(super) fn encode(e: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let ports = || status.services.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p)));
    let conditions = ports().flat_map(|(s, p)| {
        let count = |condition| p.endpoints.iter().filter(|e| e.is(condition)).count() as i64;
        let rows = [
            ("healthy", Condition::Healthy),
            ("warming", Condition::Warming),
            ("pending", Condition::Pending),
            ("ejected", Condition::Ejected),
            ("unhealthy", Condition::Unhealthy),
        ];
        rows.map(|(name, condition)| (and(of(s, p), "condition", name), ConstGauge::new(count(condition))))
    });
    family(e, "service_endpoint_conditions", "Ready endpoints by condition", conditions)?;
    let panics = ports().map(|(s, p)| (of(s, p), ConstGauge::new(i64::from(p.stats.health.panic.load(Ordering::Relaxed)))));
    family(e, "service_panic", "1 while so few endpoints are healthy that all are used", panics)?;
    let probes = ports().flat_map(|(s, p)| {
        let results = Probed::ALL.iter().zip(&p.stats.health.probes);
        results.map(move |((_, result), n)| (and(of(s, p), "result", result), ConstCounter::new(count(n))))
    });
    family(e, "service_probes", "Active health checks of endpoints, by result", probes)?;
    let ejections = ports().flat_map(|(s, p)| {
        let reasons = Reason::ALL.iter().zip(&p.stats.health.ejections);
        reasons.map(move |(reason, n)| (and(of(s, p), "reason", reason.label()), ConstCounter::new(count(n))))
    });
    family(e, "service_ejections", "Endpoints ejected as outliers, by reason", ejections)?;
    let refused = ports().map(|(s, p)| (of(s, p), ConstCounter::new(count(&p.stats.health.ejections_refused))));
    family(e, "service_ejections_refused", "Ejections that would have passed the largest share", refused)
}
