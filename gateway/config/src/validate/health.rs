//! Rules of `healthCheck` and `loadBalancer.slowStart`.

use std::time::Duration;

use sluicegate_model::fault::Fault;

use crate::object::ours::{ActiveHealthCheck, BackendTrafficPolicySpec, CheckType, HttpCheck, PassiveHealthCheck, Span};
use crate::object::{Object, error};

/// Probes more often than this are load, not care.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// Longer texts to send or to look for are no probe; a probe reads no more than 16 KiB.
const LONGEST_PAYLOAD: usize = 4096;

/// Collects faults of one object.
struct Check<'a> {
    object: &'a Object,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn invalid(&mut self, path: &str, what: &str, expected: Option<&str>) {
        let message = format!("{path}: {what}");
        self.faults.push(error(&self.object.origin, &self.object.key, path, message, expected.map(str::to_owned)));
    }

    fn at_least(&mut self, path: &str, span: Option<Span>, least: Duration) {
        if let Some(span) = span.filter(|s| s.0 < least) {
            self.invalid(path, &format!("Invalid value: {:?}: must be at least {least:?}", span.0), None);
        }
    }

    fn between(&mut self, path: &str, value: Option<u32>, least: u32, most: u32) {
        if let Some(value) = value.filter(|v| !(least..=most).contains(v)) {
            self.invalid(path, &format!("Invalid value: {value}: must be between {least} and {most}, inclusive"), None);
        }
    }
}

pub(super) fn check(object: &Object, spec: &BackendTrafficPolicySpec, faults: &mut Vec<Fault>) {
    let mut check = Check { object, faults };
    check.between("spec.healthCheck.panicThreshold", spec.health_check.panic_threshold, 0, 100);
    if let Some(active) = &spec.health_check.active {
        check.active(active);
    }
    if let Some(passive) = &spec.health_check.passive {
        check.passive(passive);
    }
    if let Some(slow) = spec.load_balancer.as_ref().and_then(|lb| lb.slow_start.as_ref()) {
        check.at_least("spec.loadBalancer.slowStart.window", Some(slow.window), Duration::from_millis(1));
        check.between("spec.loadBalancer.slowStart.minWeightPercent", slow.min_weight_percent, 1, 100);
    }
}

impl Check<'_> {
    fn active(&mut self, active: &ActiveHealthCheck) {
        let at = |field: &str| format!("spec.healthCheck.active.{field}");
        self.at_least(&at("timeout"), active.timeout, Duration::from_millis(1));
        self.at_least(&at("interval"), active.interval, SHORTEST_INTERVAL);
        self.between(&at("unhealthyThreshold"), active.unhealthy_threshold, 1, u32::MAX);
        self.between(&at("healthyThreshold"), active.healthy_threshold, 1, u32::MAX);
        for (field, type_, given) in [
            ("http", CheckType::Http, active.http.is_some()),
            ("tcp", CheckType::Tcp, active.tcp.is_some()),
            ("grpc", CheckType::Grpc, active.grpc.is_some()),
        ] {
            if given && type_ != active.type_ {
                self.invalid(&at(field), "Forbidden: it is for another `type`", None);
            }
        }
        match (active.type_, &active.http) {
            (CheckType::Http, None) => self.invalid(&at("http"), "Required value", Some("`http: {path: /healthz}`")),
            (CheckType::Http, Some(http)) => self.http(http),
            _ => {}
        }
        if let Some(tcp) = &active.tcp {
            for (field, payload) in [("tcp.send", &tcp.send), ("tcp.receive", &tcp.receive)] {
                if payload.as_ref().is_some_and(|p| p.bytes().len() > LONGEST_PAYLOAD) {
                    self.invalid(&at(field), &format!("Too long: may not be more than {LONGEST_PAYLOAD} bytes"), None);
                }
            }
        }
    }

    fn http(&mut self, http: &HttpCheck) {
        let at = |field: &str| format!("spec.healthCheck.active.http.{field}");
        let path = &http.path;
        if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
            self.invalid(&at("path"), &format!("Invalid value: {path:?}: must be a path that begins with a slash"), None);
        }
        if let Some(host) = http.hostname.as_ref().filter(|h| h.parse::<http::uri::Authority>().is_err()) {
            self.invalid(&at("hostname"), &format!("Invalid value: {host:?}: must be a host name"), None);
        }
        match http.method.as_deref().map(|m| (m, m.parse::<http::Method>())) {
            Some((method, Err(_))) => self.invalid(&at("method"), &format!("Invalid value: {method:?}: must be an HTTP method"), None),
            Some((method, Ok(http::Method::CONNECT))) => {
                self.invalid(&at("method"), &format!("Unsupported value: {method:?}: it asks for a tunnel"), None);
            }
            _ => {}
        }
        let statuses = http.expected_statuses.as_deref();
        if statuses.is_some_and(<[u16]>::is_empty) {
            self.invalid(&at("expectedStatuses"), "Required value", Some("at least one status, or none of this field for 200"));
        }
        for (i, status) in statuses.unwrap_or_default().iter().enumerate().filter(|(_, s)| !(200..600).contains(*s)) {
            let path = at(&format!("expectedStatuses[{i}]"));
            self.invalid(&path, &format!("Invalid value: {status}: must be between 200 and 599, inclusive"), None);
        }
        if http.expected_response.as_ref().is_some_and(|p| p.bytes().len() > LONGEST_PAYLOAD) {
            self.invalid(&at("expectedResponse"), &format!("Too long: may not be more than {LONGEST_PAYLOAD} bytes"), None);
        }
    }

    fn passive(&mut self, passive: &PassiveHealthCheck) {
        let at = |field: &str| format!("spec.healthCheck.passive.{field}");
        self.at_least(&at("interval"), passive.interval, SHORTEST_INTERVAL);
        self.at_least(&at("baseEjectionTime"), passive.base_ejection_time, Duration::from_millis(1));
        self.between(&at("maxEjectionPercent"), passive.max_ejection_percent, 0, 100);
        self.between(&at("failurePercentageThreshold"), passive.failure_percentage_threshold, 1, 100);
        self.between(&at("successRateStdevFactor"), passive.success_rate_stdev_factor, 1, 100_000);
        self.between(&at("latencyPercentageThreshold"), passive.latency_percentage_threshold, 101, 100_000);
        self.between(&at("minimumEndpoints"), passive.minimum_endpoints, 1, u32::MAX);
        self.between(&at("requestVolume"), passive.request_volume, 1, u32::MAX);
        let base = passive.base_ejection_time.map_or(Duration::from_secs(30), |s| s.0);
        if let Some(longest) = passive.max_ejection_time.filter(|s| s.0 < base) {
            let what = format!("Invalid value: {:?}: must not be less than baseEjectionTime, {base:?}", longest.0);
            self.invalid(&at("maxEjectionTime"), &what, None);
        }
    }
}
