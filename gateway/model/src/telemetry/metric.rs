//! Metrics as they are at one moment, for `/metrics` and for collectors.

use std::borrow::Cow;

use crate::stats::{Exemplar, Histogram};

/// The labels of a row: names and values.
pub type Labels = Vec<(Cow<'static, str>, String)>;

/// All rows of one metric.
#[derive(Clone, Debug)]
pub struct Family {
    /// The name, without the prefix that all have, and without what a format adds.
    pub name: String,
    /// What it tells.
    pub help: String,
    /// What its values are.
    pub kind: Kind,
    /// Its rows, each with other labels.
    pub rows: Vec<(Labels, Point)>,
}

/// What values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// They are counts of observations in buckets.
    Histogram,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Point {
    /// A counter.
    Counter(Number),
    /// A gauge.
    Gauge(Number),
    /// A histogram.
    Times(Times),
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A number that is counted.
    Count(u64),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction.
    Fraction(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Count(number)
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Fraction(number)
    }
}

/// A histogram as it is now.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The sum of all observations.
    pub sum: f64,
    /// The upper bound of each bucket, the last one's infinite, and its own count.
    pub buckets: Vec<(f64, u64)>,
    /// Observations that are in recorded traces, by their buckets' indexes.
    pub exemplars: Vec<(usize, Exemplar)>,
}

impl Times {
    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// A histogram as it is now; none if nothing was observed, so that what is never used has no rows.
    pub fn of(histogram: &Histogram) -> Option<Self> {
        let times = Self { sum: histogram.sum(), buckets: histogram.buckets(), exemplars: histogram.exemplars() };
        (times.count() > 0).then_some(times)
    }
}

impl Point {
    /// A counter.
    pub fn counter(number: impl Into<Number>) -> Self {
        Self::Counter(number.into())
    }

    /// A gauge.
    pub fn gauge(number: impl Into<Number>) -> Self {
        Self::Gauge(number.into())
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Times(_) => Kind::Histogram,
        }
    }
}
