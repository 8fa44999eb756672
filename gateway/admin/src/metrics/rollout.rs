//! Generations on trial: counters over all trials there have been, and what is on trial now.

use sluicegate_model::status::Status;
use sluicegate_model::telemetry::metric::Point;

use super::family::{Labels, Page, and, family};

pub(super) fn encode(e: &mut Page, status: &Status) {
    let of = |plugin: &sluicegate_model::status::PluginStatus| -> Labels {
        vec![("plugin", plugin.name.clone()), ("kind", plugin.kind.to_string())]
    };
    let now = status.plugins.iter().filter_map(|p| {
        let on = p.rollout.as_ref()?;
        Some((and(of(p), "phase", on.phase), Point::gauge(on.generation.number.cast_signed())))
    });
    family(e, "plugin_candidate_generation", "Number of the generation on trial", now);
    // A plugin that never had a trial has no rows.
    let trials: Vec<(Labels, [u64; 10])> =
        status.plugins.iter().map(|p| (of(p), p.trials.counts())).filter(|(_, counts)| counts.iter().any(|count| *count > 0)).collect();
    let picks = trials.iter().flat_map(|(labels, c)| {
        [("same", c[6].saturating_sub(c[7])), ("different", c[7])]
            .map(|(result, count)| (and(labels.clone(), "result", result), Point::counter(count)))
    });
    family(e, "plugin_shadow_picks", "Picks of generations in shadow, by whether the live one picked the same", picks);
    let seconds = trials.iter().flat_map(|(labels, counts)| {
        [("live", counts[8]), ("candidate", counts[9])]
            .map(|(which, nanos)| (and(labels.clone(), "generation", which), Point::counter(nanos as f64 / 1e9)))
    });
    family(e, "plugin_shadow_seconds", "Time that these picks took", seconds);
    let exchanges = trials.iter().flat_map(|(labels, c)| {
        [
            ("live", "success", c[0].saturating_sub(c[1])),
            ("live", "error", c[1]),
            ("candidate", "success", c[3].saturating_sub(c[4])),
            ("candidate", "error", c[4]),
        ]
        .map(|(side, result, count)| (and(and(labels.clone(), "generation", side), "result", result), Point::counter(count)))
    });
    family(e, "plugin_canary_exchanges", "Exchanges while a canary served", exchanges);
    let seconds = trials.iter().flat_map(|(labels, c)| {
        [("live", c[2]), ("candidate", c[5])].map(|(side, us)| (and(labels.clone(), "generation", side), Point::counter(us as f64 / 1e6)))
    });
    family(e, "plugin_canary_seconds", "Time that those of them without an error took", seconds)
}
