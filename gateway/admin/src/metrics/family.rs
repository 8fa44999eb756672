//! Metric families from plain counters.

use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_model::telemetry::metric::{Family, Point};

pub(super) type Labels = Vec<(&'static str, String)>;

/// All families, in the order in which they are told.
#[derive(Default)]
pub(super) struct Page {
    pub(super) families: Vec<Family>,
}

impl Page {
    /// The number of series.
    pub(super) fn series(&self) -> usize {
        let of = |point: &Point| if let Point::Times(times) = point { times.buckets.len() + 2 } else { 1 };
        self.families.iter().flat_map(|family| &family.rows).map(|(_, point)| of(point)).sum()
    }
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The row of a counter that has no labels.
pub(super) fn counter(value: &AtomicU64) -> impl Iterator<Item = (Labels, Point)> + use<> {
    std::iter::once((Labels::new(), Point::counter(count(value))))
}

/// The row of a gauge that has no labels.
pub(super) fn gauge(value: &AtomicU64) -> impl Iterator<Item = (Labels, Point)> + use<> {
    std::iter::once((Labels::new(), Point::gauge(count(value).cast_signed())))
}

/// Labels with one more.
pub(super) fn and(mut labels: Labels, name: &'static str, value: &str) -> Labels {
    labels.push((name, value.to_owned()));
    labels
}

/// Adds a metric family: a row for each set of labels. One without rows is left out.
pub(super) fn family(page: &mut Page, name: &str, help: &str, rows: impl Iterator<Item = (Labels, Point)>) {
    let rows: Vec<_> =
        rows.map(|(labels, point)| (labels.into_iter().map(|(name, value)| (name.into(), value)).collect(), point)).collect();
    let Some(kind) = rows.first().map(|(_, point): &(_, Point)| point.kind()) else { return };
    page.families.push(Family { name: name.to_owned(), help: help.to_owned(), kind, rows });
}
