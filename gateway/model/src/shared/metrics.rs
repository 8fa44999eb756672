//! Metrics that a plugin defines itself. A definition or series is looked up once, under a lock; counting is by atomics. Names and labels are bounded by
//! rules, metrics and series by their number, so that a plugin can fill neither the gateway's memory nor a scrape.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stats::BOUNDS_US;

/// The number of metrics that a plugin may define.
pub const MAX_METRICS: usize = 64;
/// The number of series that a plugin may have, over all its metrics.
pub const MAX_SERIES: usize = 1_000;
/// The number of labels of a metric.
pub const MAX_LABELS: usize = 8;
/// The number of buckets of a histogram, besides the last.
pub const MAX_BOUNDS: usize = 32;
/// The length of a name, in bytes.
pub const MAX_NAME: usize = 64;
/// The length of a label's value, in bytes.
pub const MAX_LABEL_VALUE: usize = 128;
/// The length of a help text, in bytes.
pub const MAX_HELP: usize = 256;
/// Labels that the gateway or Prometheus sets.
const TAKEN: [&str; 4] = ["plugin", "role", "le", "quantile"];

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A counter, which only grows.
    Counter,
    /// A gauge, which goes up and down.
    Gauge,
    /// A histogram, which counts values in buckets.
    Histogram,
}

/// What a plugin says of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The name, without a prefix and without `_total`.
    pub name: String,
    /// The help text.
    pub help: String,
    /// The kind.
    pub kind: Kind,
    /// The names of the labels.
    pub labels: Vec<String>,
    /// The upper bounds of a histogram's buckets. None: they are those of the gateway's own histograms.
    pub bounds: Vec<f64>,
}

/// Why there is no such metric or series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Something is wrong with it, which this text says.
    #[error("{0}")]
    Invalid(String),
    /// The plugin has as many as it may have.
    #[error("the plugin has {MAX_METRICS} metrics or {MAX_SERIES} series already")]
    Full,
}

/// The metrics of one plugin.
#[derive(Debug, Default)]
pub struct CustomMetrics {
    families: Mutex<BTreeMap<String, Arc<Family>>>,
    refused: AtomicU64,
}

/// A metric.
#[derive(Debug)]
pub struct Family {
    /// The metric's definition.
    pub definition: Definition,
    series: Mutex<HashMap<Vec<String>, Arc<Series>>>,
}

/// A metric with certain values of its labels.
#[derive(Debug)]
pub struct Series {
    kind: Kind,
    bounds: Arc<[f64]>,
    /// The counts of a histogram's buckets.
    cells: Box<[AtomicU64]>,
    /// The bits of an `f64`: the value, or the sum of a histogram.
    value: AtomicU64,
}

/// The value of a series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The value of a counter or gauge.
    Value(f64),
    /// The sum of a histogram, and each bucket's upper bound and own count, the last one's bound being infinite.
    Buckets(f64, Vec<(f64, u64)>),
}

impl CustomMetrics {
    /// The metric of this definition. It replaces one of the same name that an older version of the plugin defined otherwise.
    pub fn define(&self, mut definition: Definition) -> Result<Arc<Family>, MetricError> {
        if definition.kind == Kind::Counter && definition.name.ends_with("_total") {
            definition.name.truncate(definition.name.len() - "_total".len());
        }
        let made = check(&mut definition).and_then(|()| {
            let mut families = lock(&self.families);
            match families.get(&definition.name) {
                Some(known) if known.definition == definition => return Ok(known.clone()),
                None if families.len() >= MAX_METRICS => return Err(MetricError::Full),
                _ => {}
            }
            let family = Arc::new(Family { definition: definition.clone(), series: Mutex::default() });
            families.insert(definition.name, family.clone());
            Ok(family)
        });
        made.inspect_err(|_| self.refuse())
    }

    /// The series of a metric with these values of its labels.
    pub fn series(&self, family: &Family, values: Vec<String>) -> Result<Arc<Series>, MetricError> {
        let made = check_values(family, &values).and_then(|()| {
            if let Some(known) = lock(&family.series).get(&values) {
                return Ok(known.clone());
            }
            // They are counted anew, as a family that was replaced gives its series back. New series are rare, and families are few.
            let families = lock(&self.families);
            if families.values().map(|family| lock(&family.series).len()).sum::<usize>() >= MAX_SERIES {
                return Err(MetricError::Full);
            }
            Ok(lock(&family.series).entry(values).or_insert_with(|| Arc::new(Series::new(&family.definition))).clone())
        });
        made.inspect_err(|_| self.refuse())
    }

    /// Counts that something was refused.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// All metrics by name, and their series by the values of their labels.
    pub fn read(&self) -> Vec<(Arc<Family>, Vec<(Vec<String>, Reading)>)> {
        let families: Vec<Arc<Family>> = lock(&self.families).values().cloned().collect();
        let read = |family: Arc<Family>| {
            let mut rows: Vec<_> = lock(&family.series).iter().map(|(values, series)| (values.clone(), series.read())).collect();
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            (family, rows)
        };
        families.into_iter().map(read).collect()
    }

    /// Adds the values of another registry's counters and histograms to those here. A counter must only grow, even if another generation goes on counting.
    pub fn absorb(&self, other: &Self) {
        for (family, _) in other.read() {
            let Ok(own) = self.define(family.definition.clone()) else { continue };
            for (values, theirs) in lock(&family.series).iter() {
                if let Ok(ours) = self.series(&own, values.clone()) {
                    ours.absorb(theirs);
                }
            }
        }
    }
}

impl Series {
    fn new(definition: &Definition) -> Self {
        let cells = if definition.kind == Kind::Histogram { definition.bounds.len() + 1 } else { 0 };
        Self {
            kind: definition.kind,
            bounds: definition.bounds.as_slice().into(),
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            value: AtomicU64::new(0),
        }
    }

    /// Adds to a counter or gauge. Returns false if it is neither, or the amount cannot be added.
    pub fn add(&self, amount: f64) -> bool {
        let fits = match self.kind {
            Kind::Counter => amount.is_finite() && amount >= 0.0,
            Kind::Gauge => amount.is_finite(),
            Kind::Histogram => false,
        };
        if fits {
            self.plus(amount);
        }
        fits
    }

    /// Sets a gauge. Returns false if it is none, or the value is not a number.
    pub fn set(&self, value: f64) -> bool {
        let fits = self.kind == Kind::Gauge && !value.is_nan();
        if fits {
            self.value.store(value.to_bits(), Ordering::Relaxed);
        }
        fits
    }

    /// Puts a value into a histogram. Returns false if it is none, or the value is not a number.
    pub fn observe(&self, value: f64) -> bool {
        let fits = self.kind == Kind::Histogram && value.is_finite();
        if fits {
            self.cells[self.bounds.partition_point(|bound| *bound < value)].fetch_add(1, Ordering::Relaxed);
            self.plus(value);
        }
        fits
    }

    /// The value now.
    pub fn read(&self) -> Reading {
        let value = f64::from_bits(self.value.load(Ordering::Relaxed));
        if self.kind != Kind::Histogram {
            return Reading::Value(value);
        }
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        Reading::Buckets(value, bounds.zip(&self.cells).map(|(bound, cell)| (bound, cell.load(Ordering::Relaxed))).collect())
    }

    fn plus(&self, amount: f64) {
        let plus = |bits| Some((f64::from_bits(bits) + amount).to_bits());
        // It never fails, as the closure always gives a value.
        let _ = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, plus);
    }

    fn absorb(&self, other: &Self) {
        if self.kind != Kind::Gauge {
            self.plus(f64::from_bits(other.value.load(Ordering::Relaxed)));
            for (ours, theirs) in self.cells.iter().zip(&other.cells) {
                ours.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

fn check(definition: &mut Definition) -> Result<(), MetricError> {
    let Definition { name, help, kind, labels, bounds } = definition;
    let invalid = |what: String| Err(MetricError::Invalid(what));
    if !is_name(name) {
        return invalid(format!(
            "{:?} is no metric's name: a letter, then letters, digits and '_', lower case, {MAX_NAME} at most",
            cut(name)
        ));
    }
    if help.len() > MAX_HELP {
        return invalid(format!("{name}: the help text has more than {MAX_HELP} bytes"));
    }
    if labels.len() > MAX_LABELS {
        return invalid(format!("{name}: {} labels are more than {MAX_LABELS}", labels.len()));
    }
    for (at, label) in labels.iter().enumerate() {
        if !is_name(label) || TAKEN.contains(&label.as_str()) || labels[..at].contains(label) {
            return invalid(format!("{name}: {:?} is no label's name, is taken, or is there twice", cut(label)));
        }
    }
    if *kind != Kind::Histogram {
        return if bounds.is_empty() { Ok(()) } else { invalid(format!("{name}: only a histogram has bounds")) };
    }
    if bounds.is_empty() {
        *bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).collect();
    }
    let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| bound.is_finite());
    if !rising || bounds.len() > MAX_BOUNDS {
        return invalid(format!("{name}: bounds must rise, be finite, and be {MAX_BOUNDS} at most"));
    }
    Ok(())
}

fn check_values(family: &Family, values: &[String]) -> Result<(), MetricError> {
    let (name, labels) = (&family.definition.name, &family.definition.labels);
    if values.len() != labels.len() {
        return Err(MetricError::Invalid(format!("{name}: {} values for {} labels", values.len(), labels.len())));
    }
    match values.iter().zip(labels).find(|(value, _)| value.len() > MAX_LABEL_VALUE) {
        Some((_, label)) => Err(MetricError::Invalid(format!("{name}: the value of {label} has more than {MAX_LABEL_VALUE} bytes"))),
        None => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= MAX_NAME && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
}

/// Cuts a name for an error's text.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, kind: Kind, labels: &[&str]) -> Definition {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Definition { name: name.to_owned(), help: "A test's.".to_owned(), kind, labels, bounds: Vec::new() }
    }

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn the_same_definition_and_labels_are_the_same_series() {
        let metrics = CustomMetrics::default();
        for _ in 0..2 {
            let family = metrics.define(definition("picks_total", Kind::Counter, &["zone"])).expect("valid");
            assert!(metrics.series(&family, values(&["a"])).expect("valid").add(2.0));
        }
        let read = metrics.read();
        assert_eq!((read.len(), read[0].0.definition.name.as_str()), (1, "picks"));
        assert_eq!(read[0].1, [(values(&["a"]), Reading::Value(4.0))]);
    }

    #[test]
    fn a_series_takes_only_what_its_kind_takes() {
        let metrics = CustomMetrics::default();
        let of =
            |name: &str, kind| metrics.series(&metrics.define(definition(name, kind, &[])).expect("valid"), Vec::new()).expect("valid");
        let (counter, gauge, histogram) = (of("c", Kind::Counter), of("g", Kind::Gauge), of("h", Kind::Histogram));
        assert!(counter.add(1.5) && !counter.add(-1.0) && !counter.add(f64::NAN) && !counter.set(9.0) && !counter.observe(1.0));
        assert!(gauge.add(-1.0) && gauge.add(3.0) && gauge.set(7.0) && !gauge.set(f64::NAN) && !gauge.observe(1.0));
        assert!(histogram.observe(0.0003) && histogram.observe(1e9) && !histogram.observe(f64::INFINITY) && !histogram.add(1.0));
        assert_eq!((counter.read(), gauge.read()), (Reading::Value(1.5), Reading::Value(7.0)));
        let Reading::Buckets(sum, buckets) = histogram.read() else { panic!("a histogram") };
        assert_eq!(sum, 1e9 + 0.0003);
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0005, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn names_labels_and_numbers_are_bounded() {
        let metrics = CustomMetrics::default();
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "Upper", "1st", "a-b", "a\n", "é", long.as_str()] {
            assert!(matches!(metrics.define(definition(name, Kind::Gauge, &[])), Err(MetricError::Invalid(_))), "{name:?}");
        }
        for labels in [&["plugin"][..], &["le"], &["a", "a"], &["__x"], &["a", "b", "c", "d", "e", "f", "g", "h", "i"]] {
            assert!(matches!(metrics.define(definition("m", Kind::Gauge, labels)), Err(MetricError::Invalid(_))), "{labels:?}");
        }
        for bounds in [vec![1.0, 1.0], vec![f64::NAN], vec![0.0; 40]] {
            assert!(metrics.define(Definition { bounds, ..definition("m", Kind::Histogram, &[]) }).is_err());
        }
        let family = metrics.define(definition("m", Kind::Counter, &["a"])).expect("valid");
        assert!(metrics.series(&family, values(&[])).is_err());
        assert!(metrics.series(&family, vec!["x".repeat(MAX_LABEL_VALUE + 1)]).is_err());
        for i in 0..MAX_SERIES {
            metrics.series(&family, vec![i.to_string()]).expect("there is room");
        }
        assert_eq!(metrics.series(&family, values(&["one more"])).err(), Some(MetricError::Full));
        assert!(metrics.series(&family, values(&["7"])).is_ok(), "one there is");
        for i in 1..MAX_METRICS {
            metrics.define(definition(&format!("m{i}"), Kind::Gauge, &[])).expect("there is room");
        }
        assert_eq!(metrics.define(definition("one_more", Kind::Gauge, &[])).err(), Some(MetricError::Full));
        assert_eq!(metrics.refused(), 7 + 5 + 3 + 2 + 1 + 1);
    }

    #[test]
    fn a_metric_defined_otherwise_takes_the_place_of_the_old_one_and_its_series() {
        let metrics = CustomMetrics::default();
        let old = metrics.define(definition("m", Kind::Counter, &["a"])).expect("valid");
        let series = metrics.series(&old, values(&["x"])).expect("valid");
        let new = metrics.define(definition("m", Kind::Counter, &[])).expect("valid");
        assert!(series.add(1.0), "an older generation counts on, unseen");
        assert!(metrics.series(&new, Vec::new()).expect("valid").add(5.0));
        assert_eq!(metrics.read()[0].1, [(Vec::new(), Reading::Value(5.0))]);
    }

    #[test]
    fn who_takes_another_ones_place_goes_on_counting() {
        let (old, new) = (CustomMetrics::default(), CustomMetrics::default());
        for (metrics, amount) in [(&old, 10.0), (&new, 1.0)] {
            let family = metrics.define(definition("c", Kind::Counter, &["a"])).expect("valid");
            assert!(metrics.series(&family, values(&["x"])).expect("valid").add(amount));
            let gauge = metrics.define(definition("g", Kind::Gauge, &[])).expect("valid");
            assert!(metrics.series(&gauge, Vec::new()).expect("valid").set(amount));
        }
        new.absorb(&old);
        let rows: Vec<Reading> = new.read().into_iter().flat_map(|(_, rows)| rows).map(|(_, reading)| reading).collect();
        assert_eq!(rows, [Reading::Value(11.0), Reading::Value(1.0)]);
    }
}
