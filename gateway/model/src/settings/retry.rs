//! Settings of retries: when an exchange is tried again, and when a service port has enough to do.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// When an exchange is tried again. A service port without these settings has the following rules. A connect that failed goes to another endpoint, twice at
/// most. An exchange that broke before its response is sent once more if it is idempotent and has no content, or if nothing of it was sent. What an endpoint
/// refused unread (RFC 9113 §8.7) goes to another one, twice at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// The number of tries after the first.
    pub times: u32,
    /// The conditions on which an exchange is tried again.
    pub on: Triggers,
    /// The statuses of the trigger `retriable-status-codes`.
    pub statuses: Vec<u16>,
    /// How long each try may take until the response's head has come.
    pub per_try: Option<Duration>,
    /// The pause before another try.
    pub back_off: Option<BackOff>,
    /// How many bytes of content are kept to be sent again.
    pub buffer: usize,
}

impl Retry {
    /// The number of tries after the first, if none is given.
    pub const TIMES: u32 = 2;
    /// The largest number of tries that can be asked for.
    pub const MOST_TIMES: u32 = 20;
    /// How many bytes of content are kept, if nothing is said.
    pub const BUFFER: usize = 64 << 10;

    /// What a rule asks for (HTTPRoute's `retry`): its statuses, and whatever prevents a response. `back_off` is the shortest pause.
    pub fn of_rule(times: Option<u32>, statuses: Vec<u16>, back_off: Option<Duration>) -> Self {
        let on = [Trigger::ConnectFailure, Trigger::RefusedStream, Trigger::Reset, Trigger::RetriableStatusCodes];
        let back_off = back_off.filter(|base| !base.is_zero());
        Self {
            times: times.unwrap_or(Self::TIMES),
            on: on.into_iter().collect(),
            statuses,
            per_try: None,
            back_off: back_off.map(|base| BackOff { base, most: base.saturating_mul(10), spread: Spread::Above }),
            buffer: Self::BUFFER,
        }
    }
}

/// A condition for another try. The words are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The status is 5xx, or there was no response at all.
    #[serde(rename = "5xx")]
    ServerError,
    /// The status is 502, 503 or 504, or there was no response within the time of a try.
    GatewayError,
    /// There was no response: the connection broke, or the time of a try has passed.
    Reset,
    /// The connection broke before anything of the request was sent.
    ResetBeforeRequest,
    /// There was no connection.
    ConnectFailure,
    /// The status is 409.
    #[serde(rename = "retriable-4xx")]
    RetriableClientError,
    /// The endpoint refused the stream (HTTP/2) before it did anything.
    RefusedStream,
    /// The status is one of `httpStatusCodes`.
    RetriableStatusCodes,
    /// The gRPC status in the response's head is 1.
    Cancelled,
    /// The gRPC status in the response's head is 4.
    DeadlineExceeded,
    /// The gRPC status in the response's head is 13.
    Internal,
    /// The gRPC status in the response's head is 8.
    ResourceExhausted,
    /// The gRPC status in the response's head is 14.
    Unavailable,
}

/// A set of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Triggers(u32);

impl Triggers {
    /// Whether a condition is in the set.
    pub fn has(self, trigger: Trigger) -> bool {
        self.0 & (1 << trigger as u32) != 0
    }

    /// Whether there is a condition that the other set does not have.
    pub fn has_more_than(self, others: Self) -> bool {
        self.0 & !others.0 != 0
    }

    /// Whether one of these conditions is in the set.
    pub fn has_any(self, triggers: &[Trigger]) -> bool {
        triggers.iter().any(|t| self.has(*t))
    }
}

impl FromIterator<Trigger> for Triggers {
    fn from_iter<I: IntoIterator<Item = Trigger>>(triggers: I) -> Self {
        Self(triggers.into_iter().fold(0, |all, trigger| all | 1 << trigger as u32))
    }
}

/// A random pause, whose bound doubles with each try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The first bound.
    pub base: Duration,
    /// The last bound. No pause exceeds it by more than `spread` says.
    pub most: Duration,
    /// On which side of its bound a pause lies.
    pub spread: Spread,
}

/// On which side of its bound a pause lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// A pause is anywhere below the bound ("full jitter": M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
    Below,
    /// A pause is above the bound, by a quarter at most: HTTPRoute's `backoff` is the shortest that a pause may be.
    Above,
}

impl BackOff {
    /// The pause before a retry. The first retry has number 1. `random`: from 0 to 1.
    pub fn pause(&self, number: u32, random: f64) -> Duration {
        let bound = self.base.saturating_mul(1 << number.saturating_sub(1).min(20)).min(self.most);
        match (self.spread, random.clamp(0.0, 1.0)) {
            (Spread::Below, random) => bound.mul_f64(random),
            (Spread::Above, random) => bound + (bound / 4).mul_f64(random),
        }
    }
}

/// How many retries there may be: under way, and within an interval ([`crate::stats::RetryWindow`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The share that retries may be of the exchanges under way, and of those of the interval.
    pub percent: u32,
    /// The number of retries that may be under way in any case.
    pub least: u32,
    /// How far the budget looks back.
    pub interval: Duration,
    /// How many retries within which time are allowed in any case, as a service with few exchanges would have none otherwise.
    pub rate: (u32, Duration),
}

impl Default for Budget {
    /// The default, as GEP-3388 has it.
    fn default() -> Self {
        Self { percent: Self::PERCENT, least: 3, interval: Duration::from_secs(10), rate: (10, Duration::from_secs(1)) }
    }
}

impl Budget {
    /// The default share, which is that of Envoy's and Finagle's budgets, too.
    pub const PERCENT: u32 = 20;

    /// How many retries there may be within the interval, if it has so many exchanges.
    pub fn most_lately(&self, exchanges: u64) -> u64 {
        let (count, every) = self.rate;
        let least = u128::from(count) * self.interval.as_millis() / every.as_millis().max(1);
        (exchanges.saturating_mul(self.percent.into()) / 100).saturating_add(u64::try_from(least).unwrap_or(u64::MAX))
    }

    /// How many retries may be under way, with so many exchanges under way.
    pub fn most(&self, exchanges: u32) -> u32 {
        let share = u64::from(exchanges) * u64::from(self.percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.least)
    }
}

/// The circuit breaker: when a service port has enough to do. It counts over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Connections to endpoints.
    pub connections: Option<u32>,
    /// Connections to one endpoint.
    pub endpoint_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Exchanges under way.
    pub requests: Option<u32>,
    /// Retries under way.
    pub retries: Option<u32>,
    /// The number of exchanges that one connection carries.
    pub requests_per_connection: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let back_off = BackOff { base: Duration::from_millis(25), most: Duration::from_millis(250), spread: Spread::Below };
        let bounds: Vec<u128> = (1..=6).map(|n| back_off.pause(n, 1.0).as_millis()).collect();
        assert_eq!(bounds, [25, 50, 100, 200, 250, 250]);
        assert_eq!(back_off.pause(u32::MAX, 0.0), Duration::ZERO);
        assert_eq!(back_off.pause(1, 0.5), Duration::from_micros(12_500));
    }

    #[test]
    fn a_rule_s_pause_is_never_shorter_than_it_says() {
        let of = |ms| Retry::of_rule(None, vec![503], Some(Duration::from_millis(ms))).back_off;
        let back_off = of(100).expect("there is one");
        assert_eq!([0.0, 1.0].map(|random| back_off.pause(1, random).as_millis()), [100, 125]);
        assert_eq!((back_off.pause(2, 0.0).as_millis(), back_off.pause(30, 0.0).as_millis()), (200, 1000));
        assert_eq!(of(0), None);
    }

    #[test]
    fn a_budget_is_a_share_but_never_below_its_least() {
        let budget = Budget { percent: 20, least: 3, interval: Duration::from_secs(60), rate: (5, Duration::from_secs(2)) };
        assert_eq!([0, 15, 20, 1000].map(|n| budget.most(n)), [3, 3, 4, 200]);
        assert_eq!(budget.most(u32::MAX), 858_993_459);
        assert_eq!([0, 4, 5, 1_000].map(|n| budget.most_lately(n)), [150, 150, 151, 350]);
        assert_eq!(Budget::default().most_lately(1_000), 300);
    }

    #[test]
    fn triggers_are_a_set() {
        let on: Triggers = [Trigger::ConnectFailure, Trigger::Unavailable].into_iter().collect();
        assert!(on.has(Trigger::Unavailable) && !on.has(Trigger::ServerError) && !Triggers::default().has(Trigger::ServerError));
    }
}
