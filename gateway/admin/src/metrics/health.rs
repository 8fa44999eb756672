//! The endpoints' health: probes, ejections, panics.

use sluicegate_model::health::{Probed, Reason};
use sluicegate_model::telemetry::metric::Point;

use super::family::{Page, and, count, family};
use super::ports::{CONDITIONS, Row};

pub(super) fn encode(e: &mut Page, rows: &[Row]) {
    let conditions = rows.iter().flat_map(|row| {
        let conditions = CONDITIONS.iter().zip(row.now.conditions);
        conditions.map(|((name, _), n)| (and(row.labels.clone(), "condition", name), Point::gauge(n)))
    });
    family(e, "service_endpoint_conditions", "Ready endpoints by condition", conditions);
    let panics = rows.iter().map(|row| (row.labels.clone(), Point::gauge(row.now.panics)));
    family(e, "service_panic", "1 while so few endpoints are healthy that all are used; of a sum, the number of those", panics);
    let probes = rows.iter().flat_map(|row| {
        let results = Probed::ALL.iter().zip(&row.stats.health.probes);
        results.map(move |((_, result), n)| (and(row.labels.clone(), "result", result), Point::counter(count(n))))
    });
    family(e, "service_probes", "Active health checks of endpoints, by result", probes);
    let ejections = rows.iter().flat_map(|row| {
        let reasons = Reason::ALL.iter().zip(&row.stats.health.ejections);
        reasons.map(move |(reason, n)| (and(row.labels.clone(), "reason", reason.label()), Point::counter(count(n))))
    });
    family(e, "service_ejections", "Endpoints ejected as outliers, by reason", ejections);
    let refused = rows.iter().map(|row| (row.labels.clone(), Point::counter(count(&row.stats.health.ejections_refused))));
    family(e, "service_ejections_refused", "Ejections that would have passed the largest share", refused);
}
