//! Health checks, ejection and slow start of a policy, as settings. Defaults are Envoy Gateway's where it has the field, and otherwise Envoy's.

use std::time::Duration;

use http::Method;
use sluicegate_model::settings::{ActiveCheck, HealthSettings, Passive, Probe, ProbeVersion, SlowStart};
use sluicegate_model::snapshot::AppProtocol;

use crate::object::ours::{ActiveHealthCheck, BackendTrafficPolicySpec, CheckType, PassiveHealthCheck, Payload};

/// Resolves a policy's health settings. Values out of range were reported as faults of the object; here they are brought into the range.
pub(super) fn resolve(spec: &BackendTrafficPolicySpec, protocol: AppProtocol) -> HealthSettings {
    let (check, defaults) = (&spec.health_check, HealthSettings::default());
    HealthSettings {
        panic_threshold: check.panic_threshold.map_or(defaults.panic_threshold, percent),
        active: check.active.as_ref().and_then(|check| active(check, protocol)),
        passive: check.passive.as_deref().map(passive),
        slow_start: spec
            .load_balancer
            .as_ref()
            .and_then(|lb| lb.slow_start.as_ref())
            .map(|slow| SlowStart { window: slow.window.0, min_weight_percent: percent(slow.min_weight_percent.unwrap_or(10)).max(1) }),
    }
}

fn percent(value: u32) -> u8 {
    u8::try_from(value.min(100)).unwrap_or(100)
}

/// Resolves an active check. `None`: the fields of its type are missing, which was reported as a fault of the object.
fn active(check: &ActiveHealthCheck, protocol: AppProtocol) -> Option<ActiveCheck> {
    let bytes = |payload: &Option<Payload>| payload.as_ref().map(|p| p.bytes().to_vec()).unwrap_or_default();
    let probe = match check.type_ {
        CheckType::Http => {
            let http = check.http.as_ref()?;
            Probe::Http {
                version: if protocol.is_http2() { ProbeVersion::Http2 } else { ProbeVersion::Http1 },
                method: http.method.as_deref().unwrap_or("GET").parse().unwrap_or(Method::GET),
                path: http.path.clone(),
                host: http.hostname.clone(),
                statuses: http.expected_statuses.clone().unwrap_or_else(|| vec![200]),
                receive: bytes(&http.expected_response),
            }
        }
        CheckType::Tcp => {
            let tcp = check.tcp.clone().unwrap_or_default();
            Probe::Tcp { send: bytes(&tcp.send), receive: bytes(&tcp.receive) }
        }
        CheckType::Grpc => {
            let service = check.grpc.as_ref().and_then(|grpc| grpc.service.clone());
            Probe::Grpc { service: service.unwrap_or_default(), host: None }
        }
    };
    let interval = check.interval.map_or(Duration::from_secs(3), |s| s.0);
    Some(ActiveCheck {
        probe,
        timeout: check.timeout.map_or(Duration::from_secs(1), |s| s.0),
        interval,
        initial_jitter: check.initial_jitter.map_or(Duration::ZERO, |s| s.0),
        interval_jitter: check.interval_jitter.map_or(interval / 10, |s| s.0),
        unhealthy_threshold: check.unhealthy_threshold.unwrap_or(3).max(1),
        healthy_threshold: check.healthy_threshold.unwrap_or(1).max(1),
    })
}

fn passive(check: &PassiveHealthCheck) -> Passive {
    let base = check.base_ejection_time.map_or(Duration::from_secs(30), |s| s.0);
    Passive {
        split_local_errors: check.split_external_local_origin_errors,
        interval: check.interval.map_or(Duration::from_secs(3), |s| s.0),
        consecutive_5xx: check.consecutive_5xx_errors.unwrap_or(5),
        consecutive_gateway_errors: check.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local_failures: check.consecutive_local_origin_failures.unwrap_or(5),
        base_ejection_time: base,
        max_ejection_time: check.max_ejection_time.map_or(base.max(Duration::from_secs(300)), |s| s.0.max(base)),
        max_ejection_percent: percent(check.max_ejection_percent.unwrap_or(10)),
        always_eject_one: check.always_eject_one_endpoint.unwrap_or(true),
        failure_percentage: check.failure_percentage_threshold.map(percent),
        success_rate_stdev_factor: check.success_rate_stdev_factor,
        latency_percentage: check.latency_percentage_threshold,
        minimum_endpoints: usize::try_from(check.minimum_endpoints.unwrap_or(5)).unwrap_or(usize::MAX),
        request_volume: check.request_volume.unwrap_or(50).max(1),
    }
}
