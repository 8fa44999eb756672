//! Metric families from plain counters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::stats::Histogram;

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

/// A histogram as it is now; none when nothing was observed, so that what is never used has no rows.
pub(super) fn times(histogram: &Histogram) -> Option<Times> {
    let buckets = histogram.buckets();
    let count = buckets.iter().map(|(_, count)| count).sum();
    (count > 0).then(|| Times { sum: histogram.sum(), count, buckets })
}

pub(super) struct Times {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[derive(Debug)]
struct LabelSet(Labels);

impl EncodeLabelSet for LabelSet {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct One(Histogram);

    impl Collector for One {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let labels: Labels = vec![("service", "s".to_owned())];
            family(&mut encoder, "unused_seconds", "Nothing", times(&Histogram::default()).map(|t| (labels.clone(), t)).into_iter())?;
            family(&mut encoder, "time_seconds", "Time", times(&self.0).map(|t| (labels, t)).into_iter())
        }
    }

    #[test]
    fn a_histogram_is_cumulative_and_an_unused_one_is_left_out() {
        let histogram = Histogram::default();
        [200, 300, 90_000_000].into_iter().for_each(|us| histogram.observe(Duration::from_micros(us)));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(One(histogram)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE time_seconds histogram",
            "time_seconds_sum{service=\"s\"} 90.0005",
            "time_seconds_count{service=\"s\"} 3",
            "time_seconds_bucket{le=\"0.00025\",service=\"s\"} 1",
            "time_seconds_bucket{le=\"60.0\",service=\"s\"} 2",
            "time_seconds_bucket{le=\"+Inf\",service=\"s\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("unused"), "{text}");
    }
}
