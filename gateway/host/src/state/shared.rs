//! Metrics and shared state, as a guest calls them. An instance has numbers of its own for metrics and series, so that counting looks nothing up. Both lists
//! are bounded.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use sluicegate_model::shared::Shared;
use sluicegate_model::shared::metrics::{Definition, Family, Kind, MAX_METRICS, MAX_SERIES, MetricError, Series};
use sluicegate_model::shared::state::SharedError;

use super::State;
use crate::bindings::balancer::sluicegate::plugin::{metrics, shared};

/// The numbers that an instance has for what it counts.
#[derive(Default)]
pub(crate) struct Numbers {
    families: Vec<Arc<Family>>,
    series: Vec<Arc<Series>>,
    /// The numbers of series, by the series' addresses in memory.
    known: FxHashMap<usize, u32>,
}

impl Numbers {
    /// The largest number of them. It is more than there can be at a time, as metrics that were replaced keep their numbers.
    const MOST: usize = 4 * (MAX_SERIES + MAX_METRICS);

    fn family(&mut self, family: Arc<Family>) -> Result<u32, MetricError> {
        let known = self.families.iter().position(|known| Arc::ptr_eq(known, &family));
        let at = match known {
            Some(at) => at,
            None if self.families.len() >= 4 * MAX_METRICS => return Err(MetricError::Full),
            None => {
                self.families.push(family);
                self.families.len() - 1
            }
        };
        Ok(u32::try_from(at).unwrap_or(u32::MAX))
    }

    fn series(&mut self, series: Arc<Series>) -> Result<u32, MetricError> {
        let place = Arc::as_ptr(&series) as usize;
        if let Some(known) = self.known.get(&place) {
            return Ok(*known);
        }
        if self.series.len() >= Self::MOST {
            return Err(MetricError::Full);
        }
        let number = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        // From now on it is held, so that no other series gets its address.
        self.series.push(series);
        self.known.insert(place, number);
        Ok(number)
    }
}

fn failure(error: MetricError) -> metrics::Failure {
    match error {
        MetricError::Invalid(what) => metrics::Failure::Invalid(what),
        MetricError::Full => metrics::Failure::Full,
    }
}

impl State {
    fn counts(&self, series: u32, count: impl FnOnce(&Series) -> bool) {
        if !self.numbers.series.get(series as usize).is_some_and(|series| count(series)) {
            self.shared.metrics.refuse();
        }
    }
}

impl metrics::Host for State {
    fn define(&mut self, definition: metrics::Definition) -> Result<u32, metrics::Failure> {
        let definition = Definition {
            name: definition.name,
            help: definition.help,
            kind: match definition.kind {
                metrics::Kind::Counter => Kind::Counter,
                metrics::Kind::Gauge => Kind::Gauge,
                metrics::Kind::Histogram => Kind::Histogram,
            },
            labels: definition.labels,
            bounds: definition.bounds,
        };
        let Shared { metrics, .. } = &self.shared;
        metrics.define(definition).and_then(|family| self.numbers.family(family)).map_err(failure)
    }

    fn series(&mut self, metric: u32, values: Vec<String>) -> Result<u32, metrics::Failure> {
        let unknown = || MetricError::Invalid(format!("there is no metric {metric}"));
        let family = self.numbers.families.get(metric as usize).cloned().ok_or_else(unknown);
        family
            .and_then(|family| self.shared.metrics.series(&family, values))
            .and_then(|series| self.numbers.series(series))
            .map_err(failure)
    }

    fn add(&mut self, series: u32, amount: f64) {
        self.counts(series, |series| series.add(amount));
    }

    fn set(&mut self, series: u32, value: f64) {
        self.counts(series, |series| series.set(value));
    }

    fn observe(&mut self, series: u32, value: f64) {
        self.counts(series, |series| series.observe(value));
    }
}

fn refusal(error: SharedError) -> shared::Failure {
    match error {
        SharedError::Full => shared::Failure::Full,
        SharedError::TooLarge => shared::Failure::TooLarge,
        SharedError::Conflict => shared::Failure::Conflict,
        SharedError::NotANumber => shared::Failure::NotANumber,
    }
}

fn span(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(Duration::from_millis)
}

impl shared::Host for State {
    fn get(&mut self, key: String) -> Option<shared::Entry> {
        self.shared.state.get(&key).map(|(value, version)| shared::Entry { value, version })
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<u64, shared::Failure> {
        self.shared.state.set(&key, &value, span(ttl_ms)).map_err(refusal)
    }

    fn compare_and_set(&mut self, key: String, expected: Option<u64>, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<u64, shared::Failure> {
        self.shared.state.compare_and_set(&key, expected, &value, span(ttl_ms)).map_err(refusal)
    }

    fn add(&mut self, key: String, amount: i64, ttl_ms: Option<u64>) -> Result<i64, shared::Failure> {
        self.shared.state.add(&key, amount, span(ttl_ms)).map_err(refusal)
    }

    fn remove(&mut self, key: String) -> bool {
        self.shared.state.remove(&key)
    }
}
