//! Metrics that plugins define themselves: `sluicegate_custom_NAME{plugin="…"}`. Two plugins may define the same name; where they disagree on what
//! it is, the one whose name comes first is shown, and the other's rows are counted as hidden: a scrape with one name of two types is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::shared::metrics::{Family, Kind, Reading};
use sluicegate_model::status::{PluginStatus, Status};

use super::family::{LabelSet, Labels, describe, family};

/// A row: its labels, and its value.
type Row = (Vec<(String, String)>, Reading);

struct Shown {
    help: String,
    kind: Kind,
    rows: Vec<Row>,
}

pub(super) fn encode(e: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let (families, hidden) = gather(status);
    for (name, shown) in families {
        let kind = match shown.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let name = format!("custom_{name}");
        let mut metric = describe(e, &name, &shown.help, kind)?;
        for (labels, reading) in shown.rows {
            Of(shown.kind, reading).encode(metric.encode_family(&LabelSet(labels))?)?;
        }
    }
    let of = |p: &PluginStatus| -> Labels { vec![("plugin", p.name.clone()), ("kind", p.kind.to_string())] };
    let live = || status.plugins.iter().filter_map(|p| Some((p, &p.generation.as_deref()?.shared)));
    let refused = live().map(|(p, shared)| (of(p), ConstCounter::new(shared.metrics.refused())));
    family(e, "plugin_metric_refusals", "Metrics, series and values of the plugin's own that were refused", refused)?;
    let hidden = status.plugins.iter().map(|p| (of(p), ConstGauge::new(hidden.get(p.name.as_str()).copied().unwrap_or(0))));
    family(e, "plugin_metric_hidden", "Series of the plugin's own that another plugin's of the same name and another type hide", hidden)?;
    let memory = live().map(|(p, shared)| (of(p), ConstGauge::new(i64::try_from(shared.memory.load(Relaxed)).unwrap_or(i64::MAX))));
    family(e, "plugin_held_memory_bytes", "Linear memory that the instances of all workers hold now", memory)?;
    let shared: Vec<(Labels, (usize, usize, u64))> = live().map(|(p, shared)| (of(p), shared.state.figures())).collect();
    let gauge = |of: fn(&(usize, usize, u64)) -> usize| {
        shared.iter().map(move |(labels, figures)| (labels.clone(), ConstGauge::new(i64::try_from(of(figures)).unwrap_or(i64::MAX))))
    };
    family(e, "plugin_shared_entries", "Entries of the state that the plugin's instances share", gauge(|f| f.0))?;
    family(e, "plugin_shared_bytes", "Bytes of it", gauge(|f| f.1))?;
    let refused = shared.iter().map(|(labels, figures)| (labels.clone(), ConstCounter::new(figures.2)));
    family(e, "plugin_shared_refusals", "Writes to it that were refused for want of room", refused)
}

/// The metrics by name, and how many series of each plugin are hidden.
fn gather(status: &Status) -> (BTreeMap<String, Shown>, BTreeMap<&str, i64>) {
    let (mut families, mut hidden) = (BTreeMap::<String, Shown>::new(), BTreeMap::new());
    let mut plugins: Vec<_> = status.plugins.iter().filter_map(|p| Some((p.name.as_str(), p.generation.as_deref()?))).collect();
    plugins.sort_by_key(|(name, _)| *name);
    for (plugin, generation) in plugins {
        for (family, rows) in generation.shared.metrics.read() {
            let definition = &family.definition;
            let fresh = || Shown { help: definition.help.clone(), kind: definition.kind, rows: Vec::new() };
            let shown = families.entry(definition.name.clone()).or_insert_with(fresh);
            if shown.kind != definition.kind {
                *hidden.entry(plugin).or_insert(0) += i64::try_from(rows.len()).unwrap_or(i64::MAX);
                continue;
            }
            shown.rows.extend(rows.into_iter().map(|(values, reading)| (labels(plugin, &family, values), reading)));
        }
    }
    families.retain(|_, shown| !shown.rows.is_empty());
    (families, hidden)
}

fn labels(plugin: &str, family: &Arc<Family>, values: Vec<String>) -> Vec<(String, String)> {
    let own = family.definition.labels.iter().cloned().zip(values);
    std::iter::once(("plugin".to_owned(), plugin.to_owned())).chain(own).collect()
}

struct Of(Kind, Reading);

impl EncodeMetric for Of {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match &self.1 {
            Reading::Value(value) if self.0 == Kind::Counter => ConstCounter::new(*value).encode(encoder),
            Reading::Value(value) => ConstGauge::new(*value).encode(encoder),
            Reading::Buckets(sum, buckets) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
        }
    }

    fn metric_type(&self) -> MetricType {
        match self.0 {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}
