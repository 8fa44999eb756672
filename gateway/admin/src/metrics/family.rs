//! Metric families from plain counters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::escape;
use sluicegate_model::stats::Histogram;

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The row of a counter that has no labels.
pub(super) fn counter(value: &AtomicU64) -> impl Iterator<Item = (Labels, ConstCounter<u64>)> + use<> {
    std::iter::once((Labels::new(), ConstCounter::new(count(value))))
}

/// The row of a gauge that has no labels.
pub(super) fn gauge(value: &AtomicU64) -> impl Iterator<Item = (Labels, ConstGauge<i64>)> + use<> {
    std::iter::once((Labels::new(), ConstGauge::new(count(value).cast_signed())))
}

/// Labels with one more.
pub(super) fn and(mut labels: Labels, name: &'static str, value: &str) -> Labels {
    labels.push((name, value.to_owned()));
    labels
}

/// Begins a family. The library writes the help text as it is, so it is made to stay on its line (OpenMetrics 1.0, "Escaping").
pub(super) fn describe<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'s str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    let help = escape::distinct(help).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    encoder.encode_descriptor(name, &help, None, kind)
}

/// Writes one metric family: a row for each set of labels.
pub(super) fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (Labels, M)>,
) -> fmt::Result {
    let mut rows = rows.peekable();
    let Some((_, first)) = rows.peek() else { return Ok(()) };
    let mut metric = describe(encoder, name, help, first.metric_type())?;
    for (labels, value) in rows {
        if labels.is_empty() {
            // A single row without labels: `encode_family` refuses an empty set.
            return value.encode(metric);
        }
        value.encode(metric.encode_family(&LabelSet(labels))?)?;
    }
    Ok(())
}

/// A histogram as it is now; none if nothing was observed, so that what is never used has no rows.
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

/// The labels of a row. In their values the library escapes line breaks, quotes and backslashes. What else may hide in them is escaped here, in a way that keeps
/// two series apart.
#[derive(Debug)]
pub(super) struct LabelSet<N>(pub(super) Vec<(N, String)>);

impl<N: AsRef<str> + fmt::Debug> EncodeLabelSet for LabelSet<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            (name.as_ref(), escape::distinct(value)).encode(encoder.encode_label())?;
        }
        Ok(())
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

    #[derive(Debug)]
    struct Hostile;

    /// What a guest might like to add to the page.
    const FORGED: &str = "x\" 1\nsluicegate_requests_total 9\r\n# EOF\n\0\u{1b}[2J\u{85}\u{2028}\u{202e}\u{200b}\\";

    impl Collector for Hostile {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let values = [FORGED, "\u{202e}", r"\u{202e}"].map(|value| (vec![("service", value.to_owned())], ConstGauge::new(1)));
            family(&mut encoder, "hostile", FORGED, values.into_iter())
        }
    }

    #[test]
    fn nothing_is_forged_by_help_texts_and_labels() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Hostile));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines: Vec<&str> = text.split(['\n', '\r', '\u{85}', '\u{2028}']).collect();
        assert_eq!(lines.len(), 2 + 3 + 2, "{text}");
        assert!(lines[2..5].iter().all(|l| l.starts_with("hostile{service=\"") && l.ends_with("\"} 1")), "{text}");
        assert_ne!(lines[3], lines[4], "two series of one name would break the page");
        assert!(lines[0].starts_with(r#"# HELP hostile x\" 1\nsluicegate"#) && lines[0].ends_with(r"\\"), "{text}");
        assert!(!text.chars().any(|c| escape::is_hidden(c) && c != '\n'), "{text}");
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
