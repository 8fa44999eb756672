//! Each plugin: counters over all its generations, and its live one.

use sluicegate_model::status::{PluginStatus, Status};
use sluicegate_model::telemetry::metric::Point;

use super::family::{Labels, Page, count, family};

pub(super) fn encode(e: &mut Page, status: &Status) {
    let plugins = || status.plugins.iter().filter_map(|p| Some((labels(p), p.generation.as_deref()?)));
    let counts: Vec<(Labels, [u64; 6])> = status.plugins.iter().map(|p| (labels(p), p.counters.counts())).collect();
    let count_of = |which: usize| counts.iter().map(move |(l, counts)| (l.clone(), Point::counter(counts[which])));
    family(e, "plugin_calls", "Calls", count_of(0));
    family(e, "plugin_failures", "Traps, deadline overruns and answers out of range", count_of(1));
    family(e, "plugin_sampled_calls", "Calls that were timed, one in 64", count_of(2));
    let seconds = counts.iter().map(|(l, counts)| (l.clone(), Point::counter(counts[3] as f64 / 1e9)));
    family(e, "plugin_sampled_seconds", "Time inside the calls that were timed", seconds);
    family(e, "plugin_state_restored", "Pools that began with what another one knew", count_of(4));
    family(e, "plugin_state_lost", "Pools that began cold though another one had left its state", count_of(5));
    let memory = plugins().map(|(l, g)| (l, Point::gauge(count(&g.stats.memory).cast_signed())));
    family(e, "plugin_memory_bytes", "Memory of the largest instance", memory);
    let numbers = plugins().map(|(l, g)| (l, Point::gauge(g.number.cast_signed())));
    family(e, "plugin_generation", "Number of the live generation", numbers);
    let from = [("cache", status.compiled.found), ("compiler", status.compiled.anew)];
    let from = from.map(|(from, count)| (vec![("from", from.to_owned())], Point::counter(count)));
    family(e, "plugin_code", "Plugins loaded, by where their compiled code came from", from.into_iter())
}

fn labels(plugin: &PluginStatus) -> Labels {
    vec![("plugin", plugin.name.clone()), ("kind", plugin.kind.to_string())]
}
