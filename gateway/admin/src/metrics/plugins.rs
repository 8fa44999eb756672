//! Each plugin's live generation.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sluicegate_model::plugin::Generation;
use sluicegate_model::status::{PluginStatus, Status};

use super::family::{Labels, count, family};

pub(super) fn encode(e: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let plugins = || status.plugins.iter().filter_map(|p| Some((labels(p), p.generation.as_deref()?)));
    let counts = |read: fn(&Generation) -> u64| plugins().map(move |(l, g)| (l, ConstCounter::new(read(g))));
    family(e, "plugin_calls", "Calls into the live generation", counts(|g| count(&g.stats.calls)))?;
    family(e, "plugin_failures", "Traps, deadline overruns and answers out of range", counts(|g| count(&g.stats.failures)))?;
    family(e, "plugin_sampled_calls", "Calls that were timed, one in 64", counts(|g| count(&g.stats.timed)))?;
    let seconds = plugins().map(|(l, g)| (l, ConstCounter::new(count(&g.stats.nanos) as f64 / 1e9)));
    family(e, "plugin_sampled_seconds", "Time inside the calls that were timed", seconds)?;
    let memory = plugins().map(|(l, g)| (l, ConstGauge::new(count(&g.stats.memory).cast_signed())));
    family(e, "plugin_memory_bytes", "Memory of the largest instance", memory)?;
    let numbers = plugins().map(|(l, g)| (l, ConstGauge::new(g.number.cast_signed())));
    family(e, "plugin_generation", "Number of the live generation", numbers)
}

fn labels(plugin: &PluginStatus) -> Labels {
    vec![("plugin", plugin.name.clone()), ("kind", plugin.kind.to_string())]
}
