//! The text format of OpenMetrics 1.0. The library writes it; what it has no way to be given is written behind it: exemplars.

use std::fmt;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sluicegate_model::escape;
use sluicegate_model::stats::Exemplar;
use sluicegate_model::telemetry::metric::{Family, Kind, Labels, Number, Point, Times};
use sluicegate_model::trace_context::{span_text, trace_text};

/// What all names begin with.
const PREFIX: &str = "sluicegate";

/// Writes families. `exemplars`: whether whoever reads it wants these, too.
pub(super) fn encode(families: Vec<Family>, exemplars: bool) -> Result<String, fmt::Error> {
    let shown = if exemplars { Exemplars::of(&families) } else { Vec::new() };
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(All(families)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(if shown.is_empty() { text } else { with_exemplars(&text, shown) })
}

#[derive(Debug)]
struct All(Vec<Family>);

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| write(&mut encoder, family))
    }
}

fn write(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    // The library writes the help text as it is, so it is made to stay on its line (OpenMetrics 1.0, "Escaping").
    let help = escape::distinct(&family.help).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut metric = encoder.encode_descriptor(&family.name, &help, None, kind)?;
    for (labels, value) in &family.rows {
        if labels.is_empty() {
            // A single row without labels: `encode_family` refuses an empty set.
            return point(value, metric);
        }
        point(value, metric.encode_family(&LabelSet(labels))?)?;
    }
    Ok(())
}

fn point(point: &Point, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    match point {
        Point::Counter(Number::Count(count)) => ConstCounter::new(*count).encode(encoder),
        Point::Counter(Number::Whole(count)) => ConstCounter::new(count.cast_unsigned()).encode(encoder),
        Point::Counter(Number::Fraction(count)) => ConstCounter::new(*count).encode(encoder),
        Point::Gauge(Number::Count(count)) => ConstGauge::new(count.cast_signed()).encode(encoder),
        Point::Gauge(Number::Whole(count)) => ConstGauge::new(*count).encode(encoder),
        Point::Gauge(Number::Fraction(count)) => ConstGauge::new(*count).encode(encoder),
        Point::Times(times) => encoder.encode_histogram::<NoLabelSet>(times.sum, times.count(), &times.buckets, None),
    }
}

/// The exemplars of a histogram's buckets, in the order in which these are written.
struct Exemplars {
    /// What the lines of the buckets begin with.
    prefix: String,
    buckets: std::vec::IntoIter<Option<Exemplar>>,
}

impl Exemplars {
    fn of(families: &[Family]) -> Vec<Self> {
        let times = |family: &Family| -> Vec<Times> {
            let times =
                family.rows.iter().filter_map(|(_, point)| if let Point::Times(times) = point { Some(times.clone()) } else { None });
            times.collect()
        };
        let of = |family: &Family| {
            let times = times(family);
            times.iter().any(|times| !times.exemplars.is_empty()).then(|| {
                let of = |times: &Times, at: usize| times.exemplars.iter().find(|(bucket, _)| *bucket == at).map(|(_, exemplar)| *exemplar);
                let buckets: Vec<_> = times.iter().flat_map(|times| (0..times.buckets.len()).map(move |at| of(times, at))).collect();
                Self { prefix: format!("{PREFIX}_{}_bucket{{", family.name), buckets: buckets.into_iter() }
            })
        };
        families.iter().filter_map(of).collect()
    }
}

/// Adds exemplars to the lines of buckets (OpenMetrics 1.0, "Exemplars").
fn with_exemplars(text: &str, mut shown: Vec<Exemplars>) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        out.push_str(line);
        let of = shown.iter_mut().find(|exemplars| line.starts_with(&exemplars.prefix));
        if let Some(Exemplar { seconds, at, trace }) = of.and_then(|exemplars| exemplars.buckets.next()).flatten() {
            let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let (trace, span) = (trace_text(trace.trace), span_text(trace.span));
            // It cannot fail, as a String grows.
            let _ = write!(out, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {seconds} {at:.3}");
        }
        out.push('\n');
    }
    out
}

/// The labels of a row. In their values the library escapes line breaks, quotes and backslashes. What else may hide in them is escaped here, in a way that keeps
/// two series apart.
#[derive(Debug)]
struct LabelSet<'l>(&'l Labels);

impl EncodeLabelSet for LabelSet<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.0 {
            (&**name, escape::distinct(value)).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use sluicegate_model::stats::Histogram;
    use sluicegate_model::trace_context::TraceContext;

    use super::*;

    /// What a guest might like to add to the page.
    const FORGED: &str = "x\" 1\nsluicegate_requests_total 9\r\n# EOF\n\0\u{1b}[2J\u{85}\u{2028}\u{202e}\u{200b}\\";

    #[test]
    fn nothing_is_forged_by_help_texts_and_labels() {
        let rows = [FORGED, "\u{202e}", r"\u{202e}"].map(|value| (vec![("service".into(), value.to_owned())], Point::gauge(1_i64)));
        let family = Family { name: "hostile".to_owned(), help: FORGED.to_owned(), kind: Kind::Gauge, rows: rows.to_vec() };
        let text = encode(vec![family], true).unwrap();
        let lines: Vec<&str> = text.split(['\n', '\r', '\u{85}', '\u{2028}']).collect();
        assert_eq!(lines.len(), 2 + 3 + 2, "{text}");
        assert!(lines[2..5].iter().all(|l| l.starts_with("sluicegate_hostile{service=\"") && l.ends_with("\"} 1")), "{text}");
        assert_ne!(lines[3], lines[4], "two series of one name would break the page");
        assert!(lines[0].starts_with(r#"# HELP sluicegate_hostile x\" 1\nsluicegate"#) && lines[0].ends_with(r"\\"), "{text}");
        assert!(!text.chars().any(|c| escape::is_hidden(c) && c != '\n'), "{text}");
    }

    fn times(rows: &[(&str, &Histogram)]) -> Family {
        let rows = rows
            .iter()
            .filter_map(|(name, histogram)| Some((vec![("service".into(), (*name).to_owned())], Point::Times(Times::of(histogram)?))));
        Family { name: "time_seconds".to_owned(), help: "Time".to_owned(), kind: Kind::Histogram, rows: rows.collect() }
    }

    #[test]
    fn a_histogram_is_cumulative_and_an_unused_one_is_left_out() {
        let histogram = Histogram::default();
        [200, 300, 90_000_000].into_iter().for_each(|us| histogram.observe(Duration::from_micros(us)));
        let text = encode(vec![times(&[("s", &histogram), ("unused", &Histogram::default())])], false).unwrap();
        for line in [
            "# TYPE sluicegate_time_seconds histogram",
            "sluicegate_time_seconds_sum{service=\"s\"} 90.0005",
            "sluicegate_time_seconds_count{service=\"s\"} 3",
            "sluicegate_time_seconds_bucket{le=\"0.00025\",service=\"s\"} 1",
            "sluicegate_time_seconds_bucket{le=\"60.0\",service=\"s\"} 2",
            "sluicegate_time_seconds_bucket{le=\"+Inf\",service=\"s\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("unused"), "{text}");
    }

    #[test]
    fn exemplars_stand_at_their_buckets_if_they_are_asked_for() {
        let (first, second) = (Histogram::default(), Histogram::default());
        first.observe(Duration::from_micros(300));
        second.observe(Duration::from_micros(100));
        second.observe_traced(Duration::from_millis(4), TraceContext { trace: 0xab, span: 0xcd, sampled: true });
        let families = || vec![times(&[("a", &first), ("b", &second)])];
        let text = encode(families(), true).unwrap();
        let with: Vec<&str> = text.lines().filter(|line| line.contains(" # ")).collect();
        let [line] = with[..] else { panic!("{text}") };
        let wanted = "sluicegate_time_seconds_bucket{le=\"0.005\",service=\"b\"} 2 # {trace_id=\"000000000000000000000000000000ab\",span_id=\"00000000000000cd\"} 0.004 ";
        assert!(line.starts_with(wanted), "{line}");
        assert!(text.ends_with("# EOF\n"));
        assert!(!encode(families(), false).unwrap().contains(" # "));
    }
}
