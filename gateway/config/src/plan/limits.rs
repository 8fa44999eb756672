//! Retries, breakers, limits and time-outs of policies, as settings. Objects that validation has refused do not come here.

use std::time::Duration;

use regex::Regex;
use sluicegate_model::path::spell;
use sluicegate_model::settings::{
    BackOff, BackendTimeouts, Breaker, Budget, ClientTimeouts, Comparison, Condition, ConnectionLimit, ConnectionLimits, HeadLimits,
    MinRate, Rate, Retry, Spread, TrafficSettings,
};

use crate::object::ours::{
    BackendTrafficPolicySpec, Bytes, ClientTrafficPolicySpec, ConnectionLimit as Connections, HeaderSelectorType, PathSelectorType,
    RateLimit, RateLimitRule, RateLimitUnit, Retry as RetrySpec, RetryBudget, SourceSelectorType, Span, TcpTimeout, Trigger, UdpTimeout,
};

/// The default of `maxPendingRequests`, which is Envoy's.
const PENDING: u32 = 1024;

/// The time that a policy sets, or the default. `0s` means that there is no limit.
fn given(span: Option<Span>, default: Option<Duration>) -> Option<Duration> {
    span.map_or(default, |s| Some(s.0)).filter(|s| !s.is_zero())
}

pub(super) fn backend_timeouts(spec: &BackendTrafficPolicySpec) -> BackendTimeouts {
    let (defaults, http) = (BackendTimeouts::default(), &spec.timeout.http);
    BackendTimeouts {
        connect: spec.timeout.tcp.connect_timeout.map_or(defaults.connect, |s| s.0),
        connect_elsewhere: spec.timeout.tcp.connect_timeout.map_or(defaults.connect_elsewhere, |s| s.0),
        // `0s` is kept as a setting: it says that there is no limit, so a Gateway's policy does not count.
        request: http.request_timeout.map_or(defaults.request, |s| Some(s.0)),
        stream: http.max_stream_duration.map_or(defaults.stream, |s| Some(s.0)),
        idle: given(http.connection_idle_timeout, defaults.idle),
        age: given(http.max_connection_duration, defaults.age),
    }
}

/// The settings that a policy makes for routes, or for all traffic through a Gateway. `http` has `requestTimeout` and `maxStreamDuration`.
pub(super) fn traffic(
    tcp: &TcpTimeout,
    udp: &UdpTimeout,
    http: (Option<Span>, Option<Span>),
    retry: Option<&RetrySpec>,
) -> TrafficSettings {
    TrafficSettings {
        connect: tcp.connect_timeout.map(|s| s.0),
        request: http.0.map(|s| s.0),
        stream: http.1.map(|s| s.0),
        retry: retry.map(self::retry),
        flow_idle: udp.idle_timeout.map(|s| s.0),
    }
}

pub(super) fn retry(spec: &RetrySpec) -> Retry {
    let (on, statuses) = match &spec.retry_on {
        Some(on) => (on.triggers.iter().copied().collect(), on.http_status_codes.clone()),
        None => {
            let default =
                [Trigger::ConnectFailure, Trigger::RefusedStream, Trigger::Unavailable, Trigger::Cancelled, Trigger::RetriableStatusCodes];
            (default.into_iter().collect(), vec![503])
        }
    };
    let back_off = spec.per_retry.back_off.as_ref().map(|back_off| {
        let base = back_off.base_interval.map_or(Duration::from_millis(25), |s| s.0);
        BackOff { base, most: back_off.max_interval.map_or(base * 10, |s| s.0), spread: Spread::Below }
    });
    Retry {
        times: spec.num_retries.unwrap_or(Retry::TIMES),
        on,
        statuses,
        per_try: given(spec.per_retry.timeout, None),
        back_off,
        buffer: spec.max_buffered_bytes.map_or(Retry::BUFFER, |Bytes(bytes)| bytes),
    }
}

pub(super) fn budget(spec: &RetryBudget) -> Budget {
    let default = Budget::default();
    let rate = spec
        .min_retry_rate
        .as_ref()
        .map_or(default.rate, |rate| (rate.count.unwrap_or(default.rate.0), rate.interval.map_or(default.rate.1, |interval| interval.0)));
    Budget {
        percent: spec.percent.unwrap_or(default.percent),
        least: spec.min_retry_concurrency.unwrap_or(default.least),
        interval: spec.interval.map_or(default.interval, |interval| interval.0),
        rate,
    }
}

pub(super) fn breaker(spec: &BackendTrafficPolicySpec) -> Breaker {
    let of = &spec.circuit_breaker;
    Breaker {
        connections: of.max_connections,
        endpoint_connections: of.per_endpoint.max_connections,
        pending: of.max_pending_requests.unwrap_or(PENDING),
        requests: of.max_parallel_requests,
        retries: of.max_parallel_retries,
        requests_per_connection: of.max_requests_per_connection,
    }
}

pub(super) fn client_timeouts(spec: &ClientTrafficPolicySpec) -> ClientTimeouts {
    let (defaults, http) = (ClientTimeouts::default(), &spec.timeout.http);
    let rate = spec.min_data_rate.as_ref().map(|rate| MinRate {
        bytes_per_second: rate.bytes_per_second.max(1),
        grace: rate.grace_period.map_or(Duration::from_secs(5), |s| s.0),
    });
    ClientTimeouts {
        head: given(http.request_headers_timeout, defaults.head),
        request: given(http.request_received_timeout, defaults.request),
        idle: given(http.idle_timeout, defaults.idle),
        stalled: given(http.stream_idle_timeout, defaults.stalled),
        half_closed: given(http.half_close_timeout, defaults.half_closed),
        stream: given(spec.connection.max_stream_duration, defaults.stream),
        age: given(spec.connection.max_connection_duration, defaults.age),
        rate,
    }
}

pub(super) fn connections(spec: &ClientTrafficPolicySpec) -> ConnectionLimits {
    let limit = |of: &Connections| ConnectionLimit { most: of.value, close_delay: given(of.close_delay, None) };
    ConnectionLimits {
        listener: spec.connection.connection_limit.as_ref().map(limit),
        client: spec.connection.per_client.as_ref().map(limit),
        requests: spec.connection.max_requests_per_connection,
        half_close: spec.connection.half_close,
    }
}

pub(super) fn head(spec: &ClientTrafficPolicySpec) -> HeadLimits {
    let fields = spec.headers.max_count.map_or(HeadLimits::MOST.fields, |n| usize::try_from(n).unwrap_or(usize::MAX));
    HeadLimits {
        bytes: spec.headers.max_bytes.map_or(HeadLimits::MOST.bytes, |b| b.0).min(HeadLimits::MOST.bytes),
        fields: fields.min(HeadLimits::MOST.fields),
    }
}

pub(super) fn content(spec: &ClientTrafficPolicySpec) -> Option<u64> {
    spec.request_body.max_bytes.map(|Bytes(bytes)| bytes as u64)
}

pub(super) fn rates(spec: Option<&RateLimit>) -> Vec<Rate> {
    spec.into_iter().flat_map(|s| &s.local.rules).map(rate).collect()
}

fn rate(rule: &RateLimitRule) -> Rate {
    let unit = Duration::from_secs(match rule.limit.unit {
        RateLimitUnit::Second => 1,
        RateLimitUnit::Minute => 60,
        RateLimitUnit::Hour => 3_600,
        RateLimitUnit::Day => 86_400,
    });
    let mut conditions = Vec::new();
    for selector in &rule.client_selectors {
        for header in &selector.headers {
            let Ok(name) = header.name.parse() else { continue };
            let value = header.value.clone().unwrap_or_default();
            let with = match header.type_ {
                HeaderSelectorType::Distinct => {
                    conditions.push(Condition::EachHeader(name));
                    continue;
                }
                HeaderSelectorType::Exact => Comparison::Exact(value),
                HeaderSelectorType::RegularExpression => pattern(&value),
            };
            conditions.push(Condition::Header { name, with, invert: header.invert });
        }
        if !selector.methods.is_empty() {
            conditions.push(Condition::Method(selector.methods.iter().map(|m| (m.value.clone(), m.invert)).collect()));
        }
        if let Some(path) = &selector.path {
            let with = match path.type_ {
                PathSelectorType::Exact => Comparison::Exact(spell(&path.value)),
                PathSelectorType::PathPrefix => Comparison::Prefix(spell(&path.value)),
                PathSelectorType::RegularExpression => pattern(&path.value),
            };
            conditions.push(Condition::Path { with, invert: path.invert });
        }
        if let Some(source) = &selector.source_cidr {
            conditions.push(match source.type_ {
                SourceSelectorType::Exact => Condition::Source(source.value.0),
                SourceSelectorType::Distinct => Condition::EachSource(source.value.0),
            });
        }
    }
    Rate { requests: rule.limit.requests.max(1), unit, conditions }
}

/// A regular expression that the whole text must match, as in Envoy. Validation has compiled it before; one that cannot be compiled matches nothing.
fn pattern(text: &str) -> Comparison {
    Regex::new(&format!("^(?:{text})$")).map_or_else(|_| Comparison::Exact(text.to_owned()), Comparison::Matches)
}
