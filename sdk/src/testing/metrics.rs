//! Metrics of a test's thread. Names and labels are checked as by the host, so that a test finds what the gateway would refuse.

use std::cell::RefCell;

use crate::metrics::{Error, Kind};

struct Metric {
    kind: Kind,
    name: String,
    labels: Vec<String>,
}

struct Series {
    metric: u32,
    values: Vec<String>,
    value: f64,
}

#[derive(Default)]
struct Registry {
    metrics: Vec<Metric>,
    series: Vec<Series>,
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

/// Returns the value of the series of a metric with these values of its labels, in this thread; for a histogram this is the sum. `None`: there is no such
/// series.
///
/// ```
/// use sluicegate_sdk::{metrics::Counter, testing::metric};
/// let picks = Counter::new("picks", "Picks.", &["zone"]).unwrap();
/// assert_eq!(metric("picks", &["a"]), None);
/// picks.series(&["a"]).unwrap().add(2.0);
/// assert_eq!(metric("picks", &["a"]), Some(2.0));
/// ```
pub fn metric(name: &str, values: &[&str]) -> Option<f64> {
    REGISTRY.with_borrow(|registry| {
        let at = registry.metrics.iter().position(|metric| metric.name == name)?;
        Some(registry.series.iter().find(|series| series.metric as usize == at && series.values == values)?.value)
    })
}

fn is_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
}

pub(crate) fn define(kind: Kind, name: &str, _help: &str, labels: &[&str], bounds: &[f64]) -> Result<u32, Error> {
    if let Some(wrong) = std::iter::once(&name).chain(labels).find(|name| !is_name(name)) {
        return Err(Error::Invalid(format!("{wrong:?} is no name: a letter, then letters, digits and '_', lower case, 64 at most")));
    }
    if labels.len() > 8 || bounds.len() > 32 || !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(Error::Invalid(format!("{name}: at most 8 labels and 32 bounds, which rise")));
    }
    REGISTRY.with_borrow_mut(|registry| {
        let same = |metric: &Metric| metric.kind == kind && metric.name == name && metric.labels == labels;
        let at = registry.metrics.iter().position(same).unwrap_or_else(|| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            registry.metrics.push(Metric { kind, name: name.to_owned(), labels });
            registry.metrics.len() - 1
        });
        if at < 64 { u32::try_from(at).map_err(|_| Error::Full) } else { Err(Error::Full) }
    })
}

pub(crate) fn series(metric: u32, values: &[&str]) -> Result<u32, Error> {
    REGISTRY.with_borrow_mut(|registry| {
        let labels = registry.metrics.get(metric as usize).map_or(0, |metric| metric.labels.len());
        if values.len() != labels || values.iter().any(|value| value.len() > 128) {
            return Err(Error::Invalid(format!("{} values for {labels} labels, or one of more than 128 bytes", values.len())));
        }
        let same = |series: &Series| series.metric == metric && series.values == values;
        let at = registry.series.iter().position(same).unwrap_or_else(|| {
            registry.series.push(Series { metric, values: values.iter().map(|value| (*value).to_owned()).collect(), value: 0.0 });
            registry.series.len() - 1
        });
        if at < 1_000 { u32::try_from(at).map_err(|_| Error::Full) } else { Err(Error::Full) }
    })
}

fn change(series: u32, change: impl FnOnce(&mut f64)) {
    REGISTRY.with_borrow_mut(|registry| registry.series.get_mut(series as usize).map(|series| change(&mut series.value)));
}

pub(crate) fn add(series: u32, amount: f64) {
    change(series, |value| *value += amount);
}

pub(crate) fn set(series: u32, to: f64) {
    change(series, |value| *value = to);
}

pub(crate) fn observe(series: u32, amount: f64) {
    change(series, |value| *value += amount);
}
