//! How a balancer would do: `sluicegate plugin simulate`. A discrete-event simulation: requests arrive by themselves (open loop, Poisson), N
//! workers pick endpoints as a gateway's do, each with its own instance of the plugin and with statistics that all share; endpoints take time, have
//! room for so many requests at once and a queue before it, and meet what a [`scenario`] has in store.
//!
//! Time is the simulation's own. Nothing in a report depends on the machine or the hour: the same seed gives the same report, byte for byte. All
//! plugins of a run are given the same requests: the same arrivals, keys, workers and sizes.
//!
//! [`settings`] is what may be set, [`world`] the endpoints, [`traffic`] the requests, [`worker`] the deciding, [`run`] the loop of events,
//! [`keys`] which keys move, [`outcome`] what is made of it all, [`mod@page`] and [`chart`] how it looks.

mod chart;
mod keys;
mod outcome;
mod page;
mod run;
mod scenario;
mod settings;
mod traffic;
mod worker;
mod world;

use serde::Serialize;
use serde_json::Value;
use sluicegate_host::{Loaded, Loader};

pub use outcome::{Endpoint, Moved, Outcome, Window};
pub use page::page;
pub use scenario::Scenario;
pub use settings::{Latency, Settings};

use crate::Rows;
use crate::subject::Source;

/// The result of a simulation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The settings.
    pub settings: Settings,
    /// The scenarios, in the order in which they were asked for.
    pub scenarios: Vec<Played>,
}

/// One scenario, with what each plugin did in it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Played {
    /// The scenario.
    pub scenario: Scenario,
    /// What happens in it.
    pub story: String,
    /// The outcomes of the plugins, in the order in which they were asked for.
    pub outcomes: Vec<Outcome>,
}

/// Plays each scenario with each plugin. The error names the plugin that cannot be loaded, or is not a balancer.
pub fn simulate(loader: &Loader, sources: &[(Source, Value)], scenarios: &[Scenario], settings: &Settings) -> Result<Report, String> {
    settings.check()?;
    let mut subjects = Vec::new();
    for (source, config) in sources {
        let subject = source.load(loader, &settings.limits(), config)?;
        match &subject.loaded {
            Loaded::Balancer(generation) => {
                generation.trial(&subject.config).map_err(|e| e.to_string())?;
                subjects.push((generation.clone(), subject));
            }
            _ => return Err(format!("{} is a {}: balancers are simulated", source.name, subject.description.kind)),
        }
    }
    let play = |scenario: &Scenario| {
        let script = scenario.script(settings);
        let outcomes = subjects.iter().map(|(generation, subject)| run::run(settings, &script, generation, subject)).collect();
        Played { scenario: *scenario, story: script.story, outcomes }
    };
    Ok(Report { settings: settings.clone(), scenarios: scenarios.iter().map(play).collect() })
}

impl Report {
    /// The rows of a table for a terminal.
    pub fn rows(&self) -> Rows {
        let head = ["SCENARIO", "PLUGIN", "REQUESTS", "ERRORS", "MEAN", "P50", "P99", "P999", "IMBALANCE", "MOVED", "FALLBACKS"];
        let mut rows = vec![crate::row(head)];
        for played in &self.scenarios {
            for outcome in &played.outcomes {
                let ms = |value: f64| format!("{value:.2} ms");
                rows.push(vec![
                    played.scenario.to_string(),
                    outcome.plugin.clone(),
                    outcome.requests.to_string(),
                    format!("{:.3} %", outcome.error_share() * 100.0),
                    ms(outcome.mean_ms),
                    ms(outcome.p50_ms),
                    ms(outcome.p99_ms),
                    ms(outcome.p999_ms),
                    format!("{:.2}", outcome.imbalance),
                    outcome
                        .moved
                        .as_ref()
                        .filter(|moved| moved.changes > 0)
                        .map_or_else(|| "-".to_owned(), |moved| format!("{:.1} %", moved.each_change * 100.0)),
                    outcome.fallbacks.to_string(),
                ]);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests;
