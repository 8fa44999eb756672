//! Settings of how the endpoints of a service port are probed, ejected and warmed up: `healthCheck` and `loadBalancer.slowStart`.

use std::time::Duration;

use http::Method;

/// What decides whether an endpoint is used. All of it is off by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// While a smaller share of the endpoints than this is usable, in percent, all of them are used: the rest could not carry the load.
    /// 0: never.
    pub panic_threshold: u8,
    /// How endpoints are probed; none: they are not.
    pub active: Option<ActiveCheck>,
    /// How endpoints are ejected by the outcomes of exchanges; none: they are not.
    pub passive: Option<Passive>,
    /// How the weight of endpoints that join grows; none: it is whole at once.
    pub slow_start: Option<SlowStart>,
}

impl Default for HealthSettings {
    /// Nothing is checked. The threshold is Envoy's default.
    fn default() -> Self {
        Self { panic_threshold: 50, active: None, passive: None, slow_start: None }
    }
}

impl HealthSettings {
    /// Whether any endpoint is watched.
    pub fn is_on(&self) -> bool {
        self.active.is_some() || self.passive.is_some() || self.slow_start.is_some()
    }
}

/// A probe and how its results are judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ActiveCheck {
    /// What is asked, and what the right answer is.
    pub probe: Probe,
    /// The longest time that one probe may take, including its connection.
    pub timeout: Duration,
    /// The time from the end of one probe to the next.
    pub interval: Duration,
    /// The first probe waits for a random part of this, so that the endpoints of a gateway that starts are not probed at once.
    pub initial_jitter: Duration,
    /// A random part of this is added to each interval, so that gateways and endpoints do not fall into step.
    pub interval_jitter: Duration,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy again.
    pub healthy_threshold: u32,
}

/// What is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A connection.
    Tcp {
        /// Bytes that are sent at once; may be empty.
        send: Vec<u8>,
        /// Bytes that the answer must contain; empty: connecting is enough.
        receive: Vec<u8>,
    },
    /// An HTTP request.
    Http {
        /// The version of HTTP.
        version: ProbeVersion,
        /// The request's method.
        method: Method,
        /// The request's path and query.
        path: String,
        /// The request's host; none: the endpoint's address.
        host: Option<String>,
        /// The statuses that are right.
        statuses: Vec<u16>,
        /// Bytes that the content must contain; empty: any content will do.
        receive: Vec<u8>,
    },
    /// A call of the gRPC method `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service that is asked about; empty: the server as a whole.
        service: String,
        /// The request's authority; none: the endpoint's address.
        host: Option<String>,
    },
}

/// The version of HTTP in which an endpoint is probed: that of its exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2. Without TLS it is spoken with prior knowledge.
    Http2,
}

/// Outlier detection, as in Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Whether failures to reach the endpoint are counted apart from errors that it answers.
    pub split_local_errors: bool,
    /// How often the endpoints are compared.
    pub interval: Duration,
    /// The number of responses 5xx in a row that ejects; 0: off. Failures to reach the endpoint count as such unless they are counted apart.
    pub consecutive_5xx: u32,
    /// The number of responses 502, 503 and 504 in a row that ejects; 0: off.
    pub consecutive_gateway_errors: u32,
    /// The number of failed connects, resets and time-outs in a row that ejects, if they are counted apart.
    pub consecutive_local_failures: u32,
    /// How long the first ejection lasts; the second one lasts twice as long, the third three times.
    pub base_ejection_time: Duration,
    /// The longest that an ejection lasts.
    pub max_ejection_time: Duration,
    /// The share of the endpoints that may be ejected at a time, in percent.
    pub max_ejection_percent: u8,
    /// Whether one endpoint may be ejected even if that is a larger share, while another is left.
    pub always_eject_one: bool,
    /// The percentage of failures within an interval from which on an endpoint is ejected.
    pub failure_percentage: Option<u8>,
    /// An endpoint is ejected whose success rate is below the mean of all by more than so many thousandths of a standard deviation.
    pub success_rate_stdev_factor: Option<u32>,
    /// An endpoint is ejected whose mean latency is at least so many percent of the median of all.
    pub latency_percentage: Option<u32>,
    /// The number of endpoints with enough exchanges that a comparison needs.
    pub minimum_endpoints: usize,
    /// The number of exchanges within an interval that is enough.
    pub request_volume: u32,
}

/// How the weight of an endpoint grows that joins, or is healthy again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// The time in which the weight grows to all of it.
    pub window: Duration,
    /// The share of its weight with which an endpoint begins, in percent.
    pub min_weight_percent: u8,
}

impl SlowStart {
    /// The share of its weight that an endpoint has after the time `age`, in percent; 100 when it has grown. It grows in steps of five, as each step tells the
    /// balancers of the whole pool; and linearly, as Envoy's `slow_start_config` with an aggression of 1.
    pub fn share(&self, age: Duration) -> u8 {
        if age >= self.window {
            return 100;
        }
        let percent = age.as_nanos().saturating_mul(100) / self.window.as_nanos().max(1);
        let step = u8::try_from(percent).unwrap_or(100) / 5 * 5;
        step.max(self.min_weight_percent).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_its_minimum_to_the_whole() {
        let slow = SlowStart { window: Duration::from_secs(10), min_weight_percent: 10 };
        let at = |ms| slow.share(Duration::from_millis(ms));
        assert_eq!([at(0), at(500), at(1_499), at(1_500), at(5_000), at(9_999), at(10_000)], [10, 10, 10, 15, 50, 95, 100]);
        let never = SlowStart { window: Duration::ZERO, min_weight_percent: 10 };
        assert_eq!(never.share(Duration::ZERO), 100);
    }
}
