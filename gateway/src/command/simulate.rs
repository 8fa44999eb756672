//! `sluicegate plugin simulate`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sluicegate_lab::simulate::{Latency, Scenario, Settings, page, simulate};
use sluicegate_lab::subject::{Configs, Source};

use super::get::Output;
use super::lab::{exit, profiles, show};
use super::loader;

#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// .wasm files, or built-in balancers
    #[arg(required = true)]
    plugins: Vec<String>,
    /// What happens to the service: steady, one-slow, one-failing, rolling-restart, scale-3-30, zone-loss, cold-caches, or all
    #[arg(long, value_delimiter = ',', default_value = "steady")]
    scenario: Vec<String>,
    /// Configuration of the files, or of one plugin: JSON, or @FILE with YAML or JSON
    #[arg(long, value_name = "[NAME=]JSON|@FILE")]
    config: Vec<String>,
    /// The seed of all that is drawn: the same seed gives the same report
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the simulation lasts, in seconds of its own time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How many workers the gateway has, each with its own instance of the plugin
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How many endpoints there are at the beginning; scale-3-30 has its own number
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// How long an endpoint takes for a request: constant:TIME, exponential:TIME, or lognormal:TIME,SIGMA; TIME is the mean
    #[arg(long, default_value = "lognormal:10ms,0.5")]
    latency: Latency,
    /// How many requests an endpoint works on at once
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// How many requests wait at an endpoint before more are answered 503
    #[arg(long, default_value_t = 64)]
    queue: usize,
    /// The load, as a part of what all endpoints can do together
    #[arg(long, default_value_t = 0.7)]
    load: f64,
    /// How many different keys the requests have, which are hashed
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// How unequal keys are: Zipf's exponent
    #[arg(long, default_value_t = 0.6)]
    skew: f64,
    /// A YAML file that says what endpoints are like, in turn: weight, zone, node, labels, annotations; speed, concurrency, queue
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Write a page with charts, which needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Simulate {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run().map(|()| true))
    }

    fn run(&self) -> Result<(), String> {
        let all = self.scenario.iter().any(|name| name == "all");
        let scenarios =
            if all { Scenario::ALL.to_vec() } else { self.scenario.iter().map(|name| name.parse()).collect::<Result<_, _>>()? };
        let sources = self.plugins.iter().map(|plugin| Source::find(plugin)).collect::<Result<Vec<_>, _>>()?;
        let configs = Configs::parse(&self.config)?;
        if let Some(name) = configs.unused(&sources).next() {
            return Err(format!("--config {name}=…: no such plugin is simulated"));
        }
        let sources: Vec<_> =
            sources.into_iter().map(|source| (configs.of(&source), source)).map(|(config, source)| (source, config)).collect();
        let settings = Settings {
            seed: self.seed,
            duration: Duration::from_secs(self.seconds.into()),
            workers: self.workers,
            endpoints: self.endpoints,
            latency: self.latency,
            concurrency: self.concurrency,
            queue: self.queue,
            load: self.load,
            keys: self.keys,
            skew: self.skew,
            profiles: profiles(self.profiles.as_deref())?,
        };
        let report = simulate(&loader()?, &sources, &scenarios, &settings)?;
        if let Some(file) = &self.html {
            std::fs::write(file, page(&report)).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        show(self.output, &report, report.rows())
    }
}
