//! A plugin's own metrics. They are summed over all workers, kept when the plugin is swapped, and shown by the gateway's `/metrics` as
//! `sluicegate_custom_NAME{plugin="…"}`.
//!
//! Define a metric once, in `open` or `configure`, and keep its series; counting is then one cheap call. A plugin may have 64 metrics with 8 labels each, and
//! 1,000 series in all. More is an [`Error`]. Mistakes in later calls are counted by the gateway and otherwise ignored.
//!
//! ```
//! use sluicegate_sdk::metrics::{Counter, Error};
//! use sluicegate_sdk::testing;
//!
//! # fn main() -> Result<(), Error> {
//! let moved = Counter::new("moved_keys", "Keys whose endpoint was full.", &["zone"])?;
//! let here = moved.series(&["a"])?;
//! here.add(1.0);
//! here.add(2.0);
//! assert_eq!(testing::metric("moved_keys", &["a"]), Some(3.0));
//! # Ok(())
//! # }
//! ```

use std::fmt;

/// Why a metric or series cannot be had.
///
/// ```
/// use sluicegate_sdk::metrics::{Error, Gauge};
/// assert!(matches!(Gauge::new("Not A Name", "", &[]), Err(Error::Invalid(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name, the labels or their values are not valid. This is what is wrong.
    Invalid(String),
    /// The plugin has as many metrics or series as it may have.
    Full,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::Full => f.write_str("the plugin has as many metrics or series as it may have"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metric {
    ($(#[$about:meta])* $metric:ident, $(#[$series_about:meta])* $series:ident, $kind:ident) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug)]
        pub struct $metric(u32);

        $(#[$series_about])*
        #[derive(Clone, Copy, Debug)]
        pub struct $series(u32);

        impl $metric {
            /// Returns the series with these values of the labels, in the labels' order. Keep it, as finding it takes a lock.
            ///
            /// # Errors
            /// The number of values differs from that of labels, a value is longer than 128 bytes, or there are too many series.
            pub fn series(&self, values: &[&str]) -> Result<$series, Error> {
                host::series(self.0, values).map($series)
            }
        }
    };
}

metric!(
    /// A number that only grows.
    ///
    /// ```
    /// # use sluicegate_sdk::metrics::Counter;
    /// let picks = Counter::new("picks", "Picks.", &[]).and_then(|picks| picks.series(&[])).unwrap();
    /// picks.add(1.0);
    /// ```
    Counter,
    /// A [`Counter`] with certain values of its labels.
    ///
    /// ```
    /// # use sluicegate_sdk::metrics::{Counter, CounterSeries};
    /// let series: CounterSeries = Counter::new("hits", "Hits.", &["zone"]).and_then(|hits| hits.series(&["a"])).unwrap();
    /// series.add(1.0);
    /// ```
    CounterSeries,
    Counter
);
metric!(
    /// A number that goes up and down.
    ///
    /// ```
    /// # use sluicegate_sdk::{metrics::Gauge, testing};
    /// let level = Gauge::new("level", "The level that serves.", &[]).and_then(|level| level.series(&[])).unwrap();
    /// level.set(2.0);
    /// level.add(-1.0);
    /// assert_eq!(testing::metric("level", &[]), Some(1.0));
    /// ```
    Gauge,
    /// A [`Gauge`] with certain values of its labels.
    ///
    /// ```
    /// # use sluicegate_sdk::metrics::{Gauge, GaugeSeries};
    /// let series: GaugeSeries = Gauge::new("share", "Of a zone.", &["zone"]).and_then(|share| share.series(&["a"])).unwrap();
    /// series.set(0.5);
    /// ```
    GaugeSeries,
    Gauge
);
metric!(
    /// Values that are counted in buckets.
    ///
    /// ```
    /// # use sluicegate_sdk::{metrics::Histogram, testing};
    /// let looks = Histogram::new("looks", "Endpoints looked at.", &[], &[1.0, 2.0, 5.0]).and_then(|looks| looks.series(&[])).unwrap();
    /// looks.observe(3.0);
    /// assert_eq!(testing::metric("looks", &[]), Some(3.0), "the sum");
    /// ```
    Histogram,
    /// A [`Histogram`] with certain values of its labels.
    ///
    /// ```
    /// # use sluicegate_sdk::metrics::{Histogram, HistogramSeries};
    /// let series: HistogramSeries = Histogram::new("age", "Seconds.", &[], &[]).and_then(|age| age.series(&[])).unwrap();
    /// series.observe(0.2);
    /// ```
    HistogramSeries,
    Histogram
);

impl Counter {
    /// Defines a counter. Its name consists of lower-case letters, digits and `_`; `/metrics` shows it with `_total`.
    ///
    /// # Errors
    /// A name is not valid, or there are too many metrics.
    pub fn new(name: &str, help: &str, labels: &[&str]) -> Result<Self, Error> {
        host::define(Kind::Counter, name, help, labels, &[]).map(Self)
    }
}

impl CounterSeries {
    /// Adds an amount. Amounts below 0 are ignored.
    pub fn add(&self, amount: f64) {
        host::add(self.0, amount);
    }
}

impl Gauge {
    /// Defines a gauge. Its name consists of lower-case letters, digits and `_`.
    ///
    /// # Errors
    /// A name is not valid, or there are too many metrics.
    pub fn new(name: &str, help: &str, labels: &[&str]) -> Result<Self, Error> {
        host::define(Kind::Gauge, name, help, labels, &[]).map(Self)
    }
}

impl GaugeSeries {
    /// Sets the value. All workers set the same gauge.
    pub fn set(&self, value: f64) {
        host::set(self.0, value);
    }

    /// Adds to the value. A negative amount lowers it.
    pub fn add(&self, amount: f64) {
        host::add(self.0, amount);
    }
}

impl Histogram {
    /// Defines a histogram. `bounds` are the upper bounds of its buckets in rising order, at most 32. If there are none, the buckets are those for times in
    /// seconds, from 250 µs to a minute.
    ///
    /// # Errors
    /// A name or the bounds are not valid, or there are too many metrics.
    pub fn new(name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> Result<Self, Error> {
        host::define(Kind::Histogram, name, help, labels, bounds).map(Self)
    }
}

impl HistogramSeries {
    /// Counts a value.
    pub fn observe(&self, value: f64) {
        host::observe(self.0, value);
    }
}

#[cfg(target_arch = "wasm32")]
mod host {
    use super::{Error, Kind};
    use crate::bindings::balancer::sluicegate::plugin::metrics::{self, Definition, Failure};

    pub(super) use metrics::{add, observe, set};

    fn error(failure: Failure) -> Error {
        match failure {
            Failure::Invalid(what) => Error::Invalid(what),
            Failure::Full => Error::Full,
        }
    }

    pub(super) fn define(kind: Kind, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> Result<u32, Error> {
        let definition = Definition {
            name: name.to_owned(),
            help: help.to_owned(),
            kind: match kind {
                Kind::Counter => metrics::Kind::Counter,
                Kind::Gauge => metrics::Kind::Gauge,
                Kind::Histogram => metrics::Kind::Histogram,
            },
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            bounds: bounds.to_vec(),
        };
        metrics::define(&definition).map_err(error)
    }

    pub(super) fn series(metric: u32, values: &[&str]) -> Result<u32, Error> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        metrics::series(metric, &values).map_err(error)
    }
}

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::metrics as host;
