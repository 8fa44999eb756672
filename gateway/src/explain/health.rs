//! What decides whether an endpoint is used. Without a running gateway nothing is probed, so all endpoints are taken for healthy then.

use sluicegate_model::settings::{Probe, ProbeVersion};
use sluicegate_model::snapshot::ServicePort;

use super::Story;

pub(super) fn explain(service: &ServicePort, serves: bool, story: &mut Story) {
    let health = &service.settings.health;
    if !health.is_on() {
        return;
    }
    if let Some(check) = &health.active {
        let probe = match &check.probe {
            Probe::Tcp { .. } => "TCP".to_owned(),
            Probe::Http { version: ProbeVersion::Http1, method, path, .. } => format!("HTTP {method} {path}"),
            Probe::Http { version: ProbeVersion::Http2, method, path, .. } => format!("HTTP/2 {method} {path}"),
            Probe::Grpc { service, .. } if service.is_empty() => "gRPC".to_owned(),
            Probe::Grpc { service, .. } => format!("gRPC {service}"),
        };
        let (interval, failures) = (check.interval, check.unhealthy_threshold);
        story.say("health", format!("{probe} every {interval:?}; {failures} failures in a row take an endpoint out"));
    }
    if let Some(rules) = &health.passive {
        let most = rules.max_ejection_percent;
        story
            .say("health", format!("outliers are ejected, {most} % of the endpoints at most, for {:?} at first", rules.base_ejection_time));
    }
    if let Some(slow) = &health.slow_start {
        story.say(
            "health",
            format!("an endpoint that joins takes {} % of its weight, and all of it after {:?}", slow.min_weight_percent, slow.window),
        );
    }
    if serves {
        return;
    }
    story.say("", "all are taken as healthy here; `sluicegate get endpoints` tells what a running gateway knows");
}
