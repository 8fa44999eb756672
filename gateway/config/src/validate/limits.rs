//! Rules of retries, breakers, limits and time-outs.

use http::{HeaderName, Method};
use regex::Regex;
use sluicegate_model::fault::Fault;
use sluicegate_model::settings::{HeadLimits, Retry};

use crate::object::ours::{
    GatewayParametersSpec, HalfClose, HeaderSelectorType, PathSelectorType, RateLimit, RateLimitRule, Retry as RetrySpec, RetryOn, Trigger,
};
use crate::object::{BackendTrafficPolicy, ClientTrafficPolicy, Object, error, warning};

/// Each rule that counts clients by themselves has a table of 1 MiB.
const MOST_RULES: usize = 32;

struct Check<'a> {
    object: &'a Object,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn invalid(&mut self, path: &str, what: impl std::fmt::Display) {
        self.faults.push(error(&self.object.origin, &self.object.key, path, format!("{path}: {what}"), None));
    }

    fn doubtful(&mut self, path: &str, what: &str, hint: Option<&str>) {
        self.faults.push(warning(&self.object.origin, &self.object.key, path, format!("{path}: {what}"), hint.map(str::to_owned)));
    }

    fn within(&mut self, path: &str, value: Option<u64>, least: u64, most: u64) {
        if let Some(value) = value.filter(|v| !(least..=most).contains(v)) {
            self.invalid(path, format_args!("Invalid value: {value}: must be between {least} and {most}, inclusive"));
        }
    }
}

pub(super) fn backend(object: &Object, policy: &BackendTrafficPolicy, faults: &mut Vec<Fault>) {
    let (mut check, spec) = (Check { object, faults }, &policy.spec);
    if spec.timeout.tcp.connect_timeout.is_some_and(|s| s.0.is_zero()) {
        check.invalid("spec.timeout.tcp.connectTimeout", "must be greater than 0");
    }
    if spec.timeout.udp.idle_timeout.is_some_and(|s| s.0.is_zero()) {
        check.invalid("spec.timeout.udp.idleTimeout", "must be greater than 0");
    }
    let breaker = &spec.circuit_breaker;
    check.within("spec.circuitBreaker.maxRequestsPerConnection", breaker.max_requests_per_connection.map(u64::from), 1, u32::MAX.into());
    if breaker.max_pending_requests.is_some() && breaker.max_connections.or(breaker.per_endpoint.max_connections).is_none() {
        check.doubtful("spec.circuitBreaker.maxPendingRequests", "has no effect: nothing waits without a limit of connections", None);
    }
    if let Some(retry) = &spec.retry {
        self::retry(&mut check, retry);
    }
    if let Some(limit) = &spec.rate_limit {
        rate_limit(&mut check, limit);
    }
}

pub(super) fn parameters(object: &Object, spec: &GatewayParametersSpec, faults: &mut Vec<Fault>) {
    let mut check = Check { object, faults };
    if spec.timeout.tcp.connect_timeout.is_some_and(|s| s.0.is_zero()) {
        check.invalid("spec.timeout.tcp.connectTimeout", "must be greater than 0");
    }
    if spec.timeout.udp.idle_timeout.is_some_and(|s| s.0.is_zero()) {
        check.invalid("spec.timeout.udp.idleTimeout", "must be greater than 0");
    }
    if let Some(retry) = &spec.retry {
        self::retry(&mut check, retry);
    }
    if let Some(limit) = &spec.rate_limit {
        rate_limit(&mut check, limit);
    }
}

fn retry(check: &mut Check<'_>, retry: &RetrySpec) {
    check.within("spec.retry.numRetries", retry.num_retries.map(u64::from), 0, Retry::MOST_TIMES.into());
    check.within("spec.retry.maxBufferedBytes", retry.max_buffered_bytes.map(|b| b.0 as u64), 0, 16 << 20);
    if let Some(on) = &retry.retry_on {
        retry_on(check, on);
    }
    if let Some(back_off) = &retry.per_retry.back_off {
        let (base, most) = (back_off.base_interval.map(|s| s.0), back_off.max_interval.map(|s| s.0));
        if base.is_some_and(|b| b.is_zero()) {
            check.invalid("spec.retry.perRetry.backOff.baseInterval", "must be greater than 0");
        }
        if let (Some(base), Some(most)) = (base, most)
            && most < base
        {
            check.invalid("spec.retry.perRetry.backOff.maxInterval", "must not be less than baseInterval");
        }
    }
    if let Some(budget) = &retry.budget {
        check.within("spec.retry.budget.percent", budget.percent.map(u64::from), 0, 100);
        let rate = budget.min_retry_rate.as_ref();
        check.within("spec.retry.budget.minRetryRate.count", rate.and_then(|rate| rate.count).map(u64::from), 1, 1_000_000);
        let spans = [("interval", budget.interval), ("minRetryRate.interval", rate.and_then(|rate| rate.interval))];
        for (field, _) in spans.iter().filter(|(_, span)| span.is_some_and(|s| !(1_000..=3_600_000).contains(&s.0.as_millis()))) {
            check.invalid(&format!("spec.retry.budget.{field}"), "must be between 1s and 1h, inclusive");
        }
    }
}

fn retry_on(check: &mut Check<'_>, on: &RetryOn) {
    if on.triggers.is_empty() {
        check.doubtful("spec.retry.retryOn.triggers", "nothing is tried again without one", None);
    }
    for (i, status) in on.http_status_codes.iter().enumerate() {
        check.within(&format!("spec.retry.retryOn.httpStatusCodes[{i}]"), Some((*status).into()), 100, 599);
    }
    if !on.http_status_codes.is_empty() && !on.triggers.contains(&Trigger::RetriableStatusCodes) {
        let hint = "add \"retriable-status-codes\" to triggers";
        check.doubtful("spec.retry.retryOn.httpStatusCodes", "has no effect without its trigger", Some(hint));
    }
}

pub(super) fn client(object: &Object, policy: &ClientTrafficPolicy, faults: &mut Vec<Fault>) {
    let (mut check, spec) = (Check { object, faults }, &policy.spec);
    check.within("spec.headers.maxBytes", spec.headers.max_bytes.map(|b| b.0 as u64), 256, HeadLimits::MOST.bytes as u64);
    check.within("spec.headers.maxCount", spec.headers.max_count.map(u64::from), 1, HeadLimits::MOST.fields as u64);
    let requests = spec.connection.max_requests_per_connection.map(u64::from);
    check.within("spec.connection.maxRequestsPerConnection", requests, 1, u32::MAX.into());
    check.within("spec.minDataRate.bytesPerSecond", spec.min_data_rate.as_ref().map(|r| r.bytes_per_second.into()), 1, u32::MAX.into());
    if spec.connection.half_close == HalfClose::Abort && spec.timeout.http.half_close_timeout.is_some() {
        check.doubtful("spec.timeout.http.halfCloseTimeout", "has no effect: `connection.halfClose` is `Abort`", None);
    }
    if let Some(limit) = &spec.rate_limit {
        rate_limit(&mut check, limit);
    }
}

pub(super) fn filter(object: &Object, limit: &RateLimit, faults: &mut Vec<Fault>) {
    rate_limit(&mut Check { object, faults }, limit);
}

fn rate_limit(check: &mut Check<'_>, limit: &RateLimit) {
    let rules = &limit.local.rules;
    if rules.len() > MOST_RULES {
        check.invalid("spec.rateLimit.local.rules", format_args!("Too many: {}: must have at most {MOST_RULES} items", rules.len()));
    }
    for (i, rule) in rules.iter().enumerate() {
        rate_rule(check, &format!("spec.rateLimit.local.rules[{i}]"), rule);
    }
}

fn rate_rule(check: &mut Check<'_>, at: &str, rule: &RateLimitRule) {
    check.within(&format!("{at}.limit.requests"), Some(rule.limit.requests.into()), 1, u32::MAX.into());
    let expression = |check: &mut Check<'_>, path: &str, text: &str| {
        if let Err(error) = Regex::new(&format!("^(?:{text})$")) {
            let why = error.to_string();
            check.invalid(path, format_args!("Invalid value: {text:?}: {}", why.lines().last().unwrap_or("no regular expression")));
        }
    };
    for (s, selector) in rule.client_selectors.iter().enumerate() {
        let at = format!("{at}.clientSelectors[{s}]");
        for (h, header) in selector.headers.iter().enumerate() {
            let at = format!("{at}.headers[{h}]");
            if header.name.parse::<HeaderName>().is_err() {
                check.invalid(&format!("{at}.name"), format_args!("Invalid value: {:?}: must be a header field's name", header.name));
            }
            match (header.type_, &header.value) {
                (HeaderSelectorType::Distinct, Some(_)) => {
                    check.invalid(&format!("{at}.value"), "Forbidden: with type Distinct each value is counted by itself");
                }
                (HeaderSelectorType::Distinct, None) => {
                    if header.invert {
                        check.invalid(&format!("{at}.invert"), "Forbidden: may not be set with type Distinct");
                    }
                }
                (_, None) => check.invalid(&format!("{at}.value"), "Required value"),
                (HeaderSelectorType::RegularExpression, Some(text)) => expression(check, &format!("{at}.value"), text),
                (HeaderSelectorType::Exact, Some(_)) => {}
            }
        }
        for (m, method) in selector.methods.iter().enumerate() {
            if Method::from_bytes(method.value.as_bytes()).is_err() {
                check.invalid(&format!("{at}.methods[{m}].value"), format_args!("Invalid value: {:?}: must be a method", method.value));
            }
        }
        if let Some(path) = &selector.path {
            let at = format!("{at}.path.value");
            if path.type_ == PathSelectorType::RegularExpression {
                expression(check, &at, &path.value);
            } else if !path.value.starts_with('/') {
                check.invalid(&at, format_args!("Invalid value: {:?}: must begin with \"/\"", path.value));
            }
        }
    }
}
