//! A trace played to another version of a plugin: does it decide the same, and if not, what would it have done. Each instance of the gateway that was
//! recorded gets one here, which is asked the same questions in the same order, with the same random bits and the same statistics.
//!
//! What a plugin remembered or shared from before the recording is in no trace, and of a trace that samples one pick in so many the others are missing: who
//! takes turns, for one, may answer differently for that alone. The report says so.

mod read;
mod report;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluicegate_config::schema::violations;
use sluicegate_host::balancer::Instance;
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{Balancer as _, Limits, PickContext};
use sluicegate_model::pool::{Pool, unique};
use sluicegate_model::stats::EndpointStats;
use sluicegate_model::trace::{EndpointLine, Line, PickLine, PoolLine, ReportLine, sight_of};

pub use report::{Difference, PoolReport, Report, Share};

use crate::generate::{self, Time};
use crate::subject::Source;
use read::Lines;

/// The largest number of instances. A gateway has one for each worker and generation.
const MOST_INSTANCES: usize = 256;
/// How many versions of a pool are remembered, as workers take a new one within milliseconds of each other.
const VERSIONS: usize = 8;

/// Plays a trace. `config` is used in place of the recorded one, if it is given. The error is one of the trace, with its line, or of the file.
pub fn replay(loader: &Loader, source: &Source, config: Option<&Value>, limits: &Limits, trace: impl BufRead) -> Result<Report, String> {
    let (loaded, description) = loader.load_any(&source.name, &source.bytes, limits).map_err(|e| e.to_string())?;
    let Loaded::Balancer(generation) = loaded else {
        return Err(format!("{} is a {}: traces are of balancers", source.name, description.kind));
    };
    let mut lines = Lines::new(trace);
    let begin = lines.begin()?;
    // A trace has no times, so what is shared does not expire.
    let shared = Time::default().shared(limits);
    let mut replay = Replay {
        instance: &|number| generation.seeded_with(number, shared.clone()),
        schema: &description.config_schema,
        config: config.map(|config| Arc::from(config.to_string())),
        instances: BTreeMap::new(),
        pools: BTreeMap::new(),
        report: Report::new(&source.name, &description.version, &sluicegate_host::load::sha256(&source.bytes), begin),
    };
    while let Some((number, line)) = lines.next()? {
        let at = |error: String| format!("line {number}: {error}");
        match line {
            Line::Begin(_) => return Err(at("a second `begin`".to_owned())),
            Line::Pool(pool) => replay.pool(&pool).map_err(at)?,
            Line::Pick(pick) => replay.pick(number, &pick).map_err(at)?,
            Line::Report(report) => replay.told(&report).map_err(at)?,
            Line::End(end) => replay.report.end = Some(end),
        }
    }
    Ok(replay.report)
}

/// A pool as the trace tells of it.
struct Known {
    pool: Arc<Pool>,
    config: Arc<str>,
}

struct Replay<'a> {
    instance: &'a dyn Fn(u64) -> Instance,
    schema: &'a Value,
    config: Option<Arc<str>>,
    instances: BTreeMap<u64, Instance>,
    /// The pools, by id and version.
    pools: BTreeMap<(u64, u64), Known>,
    report: Report,
}

impl Replay<'_> {
    fn pool(&mut self, line: &PoolLine) -> Result<(), String> {
        let config = self.config.clone().unwrap_or_else(|| line.config.as_str().into());
        let key = (line.id, line.version);
        if self.pools.get(&key).is_some_and(|known| known.config == config) {
            return Ok(());
        }
        let value = serde_json::from_str(&config).map_err(|e| format!("the configuration is not JSON: {e}"))?;
        if let Some(wrong) = violations(self.schema, &value)?.first() {
            return Err(format!(
                "the configuration does not fit this version, {:?}: {}; --config gives it another",
                wrong.path, wrong.message
            ));
        }
        let range = (line.id, 0)..=(line.id, u64::MAX);
        let known: Vec<(u64, u64)> = self.pools.range(range).map(|(key, _)| *key).collect();
        if known.len() >= VERSIONS {
            self.pools.remove(&known[0]);
        }
        // An endpoint that stays keeps what is known of it.
        let newest = known.last().and_then(|key| self.pools.get(key));
        let stats = |address| {
            let old = newest.and_then(|known| known.pool.endpoints.iter().find(|e| e.address == address));
            old.map_or_else(|| Arc::new(EndpointStats::default()), |old| old.stats.clone())
        };
        let endpoint = |given: &EndpointLine| {
            let mut made = generate::endpoint(given.address, given.weight);
            made.zone.clone_from(&given.zone);
            made.node.clone_from(&given.node);
            made.labels.clone_from(&given.labels);
            made.annotations.clone_from(&given.annotations);
            (made.terminating, made.stats) = (given.terminating, stats(given.address));
            made
        };
        let endpoints = line.endpoints.iter().map(endpoint).collect();
        // The plugin sees neither: by the id the host tells pools apart, and by the version it knows when to tell of a change.
        let pool = Arc::new(Pool { id: line.id, version: unique(), endpoints, draining: Vec::new(), panic: false, empty: None });
        self.pools.insert(key, Known { pool, config });
        Ok(())
    }

    fn known(&self, key: (u64, u64)) -> Result<&Known, String> {
        self.pools.get(&key).ok_or_else(|| format!("nothing was told of pool {} in its version {}", key.0, key.1))
    }

    fn pick(&mut self, number: u64, line: &PickLine) -> Result<(), String> {
        let Known { pool, config } = self.known(line.pool)?;
        let (pool, config) = (pool.clone(), config.clone());
        if let Some(index) = line.picked.filter(|index| *index >= pool.endpoints.len()) {
            return Err(format!("endpoint {index} of a pool of {}", pool.endpoints.len()));
        }
        for seen in &line.seen {
            let endpoint =
                pool.endpoints.get(seen.0 as usize).ok_or_else(|| format!("statistics of endpoint {}, which is not there", seen.0))?;
            endpoint.stats.show(sight_of(seen));
        }
        if !self.instances.contains_key(&line.instance) && self.instances.len() >= MOST_INSTANCES {
            return Err(format!("more than {MOST_INSTANCES} instances"));
        }
        let instance = self.instances.entry(line.instance).or_insert_with(|| (self.instance)(line.instance));
        instance.play(line.random.iter().map(|hex| hex.0).collect());
        let context = PickContext { hash: line.hash.map(|hex| hex.0), attempt: line.attempt, random: None };
        let picked = instance.pick(&pool, &config, context);
        // The plugin has asked for something that the recorded one did not ask for: there is only what was known before.
        let guessed = instance.sampled().is_some_and(|sample| {
            let unseen = sample.seen.iter().any(|(index, _)| line.seen.iter().all(|seen| seen.0 != *index));
            unseen || sample.cut || sample.random.len() > line.random.len()
        });
        self.report.count(number, line, &pool, picked.map_err(|error| error.reason), guessed);
        Ok(())
    }

    fn told(&mut self, line: &ReportLine) -> Result<(), String> {
        let pool = self.known(line.pool)?.pool.clone();
        if line.endpoint >= pool.endpoints.len() {
            return Err(format!("endpoint {} of a pool of {}", line.endpoint, pool.endpoints.len()));
        }
        let Some(instance) = self.instances.get_mut(&line.instance) else { return Ok(()) };
        if instance.wants_report() {
            let latency = Duration::from_micros(line.latency_microseconds);
            // A failure shows in the next pick as well.
            let _ = instance.report(&pool, line.endpoint, line.success, latency);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
