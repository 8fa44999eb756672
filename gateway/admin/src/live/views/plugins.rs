//! Plugins: the list, and one with its history and the metrics that it counts itself.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use sluicegate_model::shared::metrics::Reading;
use sluicegate_model::status::PluginStatus;

use super::super::sample::Sample;
use super::{Viewed, list};

/// How many series of a plugin's metrics are shown.
const SERIES: usize = 100;

pub(super) fn plugins(viewed: &Viewed, sample: &Sample) -> Value {
    let all = &sample.status.plugins;
    let found = all.iter().filter(|plugin| viewed.finds(&[&plugin.name, &plugin.source, &plugin.kind.to_string()])).collect();
    list(viewed, found, all.len(), |plugin| row(plugin, sample))
}

fn row(plugin: &PluginStatus, sample: &Sample) -> Value {
    let mut shown = json!(plugin);
    shown["figures"] = json!(sample.plugins.get(&plugin.name).copied().unwrap_or_default());
    let [calls, failures, ..] = plugin.counters.counts();
    shown["calls"] = calls.into();
    shown["failures"] = failures.into();
    shown
}

pub(super) fn plugin(viewed: &Viewed, sample: &Sample) -> Value {
    let Some(plugin) = sample.status.plugins.iter().find(|plugin| plugin.name == viewed.name) else { return Value::Null };
    let mut shown = row(plugin, sample);
    let history: Vec<_> = plugin.history.iter().rev().collect();
    shown["history"] = json!(history);
    if let Some(shared) = plugin.generation.as_deref().map(|generation| &generation.shared) {
        let (entries, bytes, refusals) = shared.state.figures();
        shown["shared"] = json!({ "memory": shared.memory.load(Relaxed), "entries": entries, "bytes": bytes, "refusals": refusals });
        shown["metrics"] = metrics(shared.metrics.read(), shared.metrics.refused());
    }
    shown
}

type Families = Vec<(std::sync::Arc<sluicegate_model::shared::metrics::Family>, Vec<(Vec<String>, Reading)>)>;

fn metrics(families: Families, refused: u64) -> Value {
    let count: usize = families.iter().map(|(_, rows)| rows.len()).sum();
    let rows = families.into_iter().flat_map(|(family, rows)| rows.into_iter().map(move |row| (family.clone(), row)));
    let rows = rows.take(SERIES).map(|(family, (values, reading))| {
        let labels: Vec<(&String, String)> = family.definition.labels.iter().zip(values).collect();
        let (value, count) = match reading {
            Reading::Value(value) => (value, None),
            Reading::Buckets(sum, buckets) => {
                let count: u64 = buckets.iter().map(|(_, count)| count).sum();
                (if count > 0 { sum / count as f64 } else { 0.0 }, Some(count))
            }
        };
        json!({ "name": family.definition.name, "help": family.definition.help, "labels": labels, "value": value, "count": count })
    });
    json!({ "rows": rows.collect::<Vec<_>>(), "all": count, "refused": refused })
}
