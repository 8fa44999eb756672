//! Metric families from plain counters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The row of a counter that has no labels.
pub(super) fn counter(value: &AtomicU64) -> impl Iterator<Item = (Labels, ConstCounter<u64>)> + use<> {
    std::iter::once((Labels::new(), ConstCounter::new(count(value))))
}

/// Likewise of a gauge.
pub(super) fn gauge(value: &AtomicU64) -> impl Iterator<Item = (Labels, ConstGauge<i64>)> + use<> {
    std::iter::once((Labels::new(), ConstGauge::new(count(value).cast_signed())))
}

/// The labels and one more.
pub(super) fn and(mut labels: Labels, name: &'static str, value: &str) -> Labels {
    labels.push((name, value.to_owned()));
    labels
}

/// One metric family: a row for each label set.
pub(super) fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (Labels, M)>,
) -> fmt::Result {
    let mut rows = rows.peekable();
    let Some((_, first)) = rows.peek() else { return Ok(()) };
    let mut metric = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, value) in rows {
        if labels.is_empty() {
            // One unlabelled row; `encode_family` refuses an empty label set.
            return value.encode(metric);
        }
        value.encode(metric.encode_family(&LabelSet(labels))?)?;
    }
    Ok(())
}

#[derive(Debug)]
struct LabelSet(Labels);

impl EncodeLabelSet for LabelSet {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}
