//! Metrics that plugins define themselves: `sluicegate_custom_NAME{plugin="…"}`. Two plugins may define the same name; where they disagree on what
//! it is, the one whose name comes first is shown, and the other's rows are counted as hidden: a scrape with one name of two types is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sluicegate_model::shared::metrics::{Family, Kind, Reading};
use sluicegate_model::status::{PluginStatus, Status};
use sluicegate_model::telemetry::metric::{self, Point, Times};

use super::family::{Labels, Page, family};

/// A row: its labels, and its value.
type Row = (Vec<(String, String)>, Reading);

struct Shown {
    help: String,
    kind: Kind,
    rows: Vec<Row>,
}

pub(super) fn encode(e: &mut Page, status: &Status) {
    let (families, hidden) = gather(status);
    for (name, shown) in families {
        let row = |(labels, reading): Row| (labels.into_iter().map(|(n, v)| (n.into(), v)).collect(), point(shown.kind, reading));
        let kind = match shown.kind {
            Kind::Counter => metric::Kind::Counter,
            Kind::Gauge => metric::Kind::Gauge,
            Kind::Histogram => metric::Kind::Histogram,
        };
        let rows = shown.rows.into_iter().map(row).collect();
        e.families.push(metric::Family { name: format!("custom_{name}"), help: shown.help, kind, rows });
    }
    let of = |p: &PluginStatus| -> Labels { vec![("plugin", p.name.clone()), ("kind", p.kind.to_string())] };
    let live = || status.plugins.iter().filter_map(|p| Some((p, &p.generation.as_deref()?.shared)));
    let refused = live().map(|(p, shared)| (of(p), Point::counter(shared.metrics.refused())));
    family(e, "plugin_metric_refusals", "Metrics, series and values of the plugin's own that were refused", refused);
    let hidden = status.plugins.iter().map(|p| (of(p), Point::gauge(hidden.get(p.name.as_str()).copied().unwrap_or(0))));
    family(e, "plugin_metric_hidden", "Series of the plugin's own that another plugin's of the same name and another type hide", hidden);
    let memory = live().map(|(p, shared)| (of(p), Point::gauge(i64::try_from(shared.memory.load(Relaxed)).unwrap_or(i64::MAX))));
    family(e, "plugin_held_memory_bytes", "Linear memory that the instances of all workers hold now", memory);
    let shared: Vec<(Labels, (usize, usize, u64))> = live().map(|(p, shared)| (of(p), shared.state.figures())).collect();
    let gauge = |of: fn(&(usize, usize, u64)) -> usize| {
        shared.iter().map(move |(labels, figures)| (labels.clone(), Point::gauge(i64::try_from(of(figures)).unwrap_or(i64::MAX))))
    };
    family(e, "plugin_shared_entries", "Entries of the state that the plugin's instances share", gauge(|f| f.0));
    family(e, "plugin_shared_bytes", "Bytes of it", gauge(|f| f.1));
    let refused = shared.iter().map(|(labels, figures)| (labels.clone(), Point::counter(figures.2)));
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

fn point(kind: Kind, reading: Reading) -> Point {
    match reading {
        Reading::Value(value) if kind == Kind::Counter => Point::counter(value),
        Reading::Value(value) => Point::gauge(value),
        Reading::Buckets(sum, buckets) => Point::Times(Times { sum, buckets, exemplars: Vec::new() }),
    }
}
