//! The settings of a simulation, and how they are written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sluicegate_config::object::ours::Span;
use sluicegate_model::plugin::Limits;

use crate::profile::Profiles;

/// How long an endpoint takes for a request, on average and by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// It always takes so long.
    Constant(Duration),
    /// A time that is exponentially distributed, with this mean.
    Exponential(Duration),
    /// A time that is log-normally distributed: its mean, and the standard deviation of its logarithm. 0.5 is a usual service, 1 one with a long tail.
    LogNormal(Duration, f64),
}

impl Latency {
    /// The mean of the time.
    pub fn mean(self) -> Duration {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) | Self::LogNormal(mean, _) => mean,
        }
    }

    /// The time for one request, as a multiple of the mean, from two uniform numbers.
    pub(super) fn draw(self, u: f64, v: f64) -> f64 {
        // From (0, 1], so that its logarithm is finite.
        let u = 1.0 - u;
        match self {
            Self::Constant(_) => 1.0,
            Self::Exponential(_) => -u.ln(),
            // Box and Muller, 1958; less half of the variance, by which the mean lies above the median.
            Self::LogNormal(_, sigma) => {
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                (sigma * normal - sigma * sigma / 2.0).exp()
            }
        }
    }
}

impl FromStr for Latency {
    type Err = String;

    /// Reads `constant:10ms`, `exponential:10ms`, `lognormal:10ms` or `lognormal:10ms,0.8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is none of constant:TIME, exponential:TIME, lognormal:TIME,SIGMA, as in lognormal:10ms,0.5");
        let (name, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (time, sigma) = rest.split_once(',').map_or((rest, None), |(time, sigma)| (time, Some(sigma)));
        let mean = span(time)?;
        match (name, sigma) {
            ("constant", None) => Ok(Self::Constant(mean)),
            ("exponential", None) => Ok(Self::Exponential(mean)),
            ("lognormal", sigma) => {
                let sigma: f64 = sigma.unwrap_or("0.5").parse().map_err(|_| wrong())?;
                if (0.0..=3.0).contains(&sigma) { Ok(Self::LogNormal(mean, sigma)) } else { Err(format!("{text:?}: SIGMA is from 0 to 3")) }
            }
            _ => Err(wrong()),
        }
    }
}

/// A time from a microsecond to an hour.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let Span(span) = serde_json::from_value(text.into()).map_err(|e| e.to_string())?;
    let allowed = Duration::from_micros(1)..=Duration::from_secs(3600);
    if allowed.contains(&span) { Ok(span) } else { Err(format!("{text:?} is not from 1us to 1h")) }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(mean) => write!(f, "constant:{mean:?}"),
            Self::Exponential(mean) => write!(f, "exponential:{mean:?}"),
            Self::LogNormal(mean, sigma) => write!(f, "lognormal:{mean:?},{sigma}"),
        }
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The settings of a simulation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The seed of all that is drawn.
    pub seed: u64,
    /// The simulated time. Its first twentieth does not count.
    #[serde(serialize_with = "milliseconds", rename = "durationMilliseconds")]
    pub duration: Duration,
    /// The number of workers, each of which has an instance of the plugin.
    pub workers: usize,
    /// The number of endpoints at the beginning; `scale-3-30` has its own numbers.
    pub endpoints: usize,
    /// How long an endpoint takes for a request.
    pub latency: Latency,
    /// How many requests an endpoint works on at once.
    pub concurrency: usize,
    /// How many requests may wait at an endpoint; more are answered 503.
    pub queue: usize,
    /// The load, as a part of what all endpoints together can do.
    pub load: f64,
    /// The number of different keys of requests, which are hashed.
    pub keys: usize,
    /// How unequal keys are: the exponent of Zipf's law; 0: all alike.
    pub skew: f64,
    /// The profiles that endpoints have, in turn.
    #[serde(skip_serializing_if = "Profiles::is_plain")]
    pub profiles: Profiles,
}

fn milliseconds<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            duration: Duration::from_secs(60),
            workers: 4,
            endpoints: 10,
            latency: Latency::LogNormal(Duration::from_millis(10), 0.5),
            concurrency: 4,
            queue: 64,
            load: 0.7,
            keys: 10_000,
            skew: 0.6,
            profiles: Profiles::default(),
        }
    }
}

/// The largest number of requests, as more take too long, and their latencies too much memory.
const MOST_REQUESTS: f64 = 20e6;

impl Settings {
    /// What the first endpoints can do together, in requests a second.
    pub(super) fn capacity(&self, endpoints: usize) -> f64 {
        let places = |i: usize| self.places(i) as f64 * self.profiles.of(i).speed;
        (0..endpoints).map(places).sum::<f64>() / self.latency.mean().as_secs_f64()
    }

    /// How many requests an endpoint works on at once.
    pub(super) fn places(&self, like: usize) -> usize {
        self.profiles.of(like).concurrency.unwrap_or(self.concurrency)
    }

    /// The zone in which an endpoint runs: one of three in turn, unless its profile names one.
    pub(super) fn zone(&self, like: usize) -> &str {
        self.profiles.of(like).zone.as_deref().unwrap_or(["a", "b", "c"][like % 3])
    }

    /// The limits. The deadline is far off, as it goes by the machine's time, and what depends on it would differ from run to run.
    pub(super) fn limits(&self) -> Limits {
        Limits { deadline: Duration::from_secs(2), ..Limits::default() }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: f64, from: f64, to: f64| {
            if (from..=to).contains(&value) { Ok(()) } else { Err(format!("{what}: {value} is not from {from} to {to}")) }
        };
        within("workers", self.workers as f64, 1.0, 256.0)?;
        within("endpoints", self.endpoints as f64, 1.0, 10_000.0)?;
        within("concurrency", self.concurrency as f64, 1.0, 1e6)?;
        within("queue", self.queue as f64, 0.0, 1e6)?;
        within("load", self.load, 0.001, 10.0)?;
        within("keys", self.keys as f64, 1.0, 1e6)?;
        within("skew", self.skew, 0.0, 3.0)?;
        let requests = self.capacity(self.endpoints.max(30)) * self.load * self.duration.as_secs_f64();
        if requests > MOST_REQUESTS {
            return Err(format!("that would be {requests:.0} requests, and {MOST_REQUESTS} may be: take a shorter time or a smaller load"));
        }
        Ok(())
    }
}
