//! `sluicegate plugin test | bench`: thin commands over the lab.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use sluicegate_lab::certify::{Fairness, Group};
use sluicegate_lab::profile::Profiles;
use sluicegate_lab::subject::{Configs, Source};
use sluicegate_lab::{Rows, bench, certify};
use sluicegate_model::escape;
use sluicegate_model::plugin::{Limits, PluginKind};

use super::get::{Output, table};
use super::{complain, fail, loader, out, out_json};

#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// A .wasm file, or a built-in plugin
    file: String,
    /// A YAML file with cases of your own
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The plugin's configuration: JSON, or @FILE with YAML or JSON
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// What is demanded of the endpoints' shares: nothing, that equal endpoints get equal ones, or that all are in proportion to the weights
    #[arg(long, value_parser = ["off", "equal", "weights"])]
    fairness: Option<String>,
    /// How far a share may be off, as a part of it [default: 0.25]
    #[arg(long)]
    tolerance: Option<f64>,
    /// How many pools are generated for a balancer; a router is asked twenty times as many requests
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pools: u32,
    /// How many picks a balancer makes to find what goes wrong once in millions; fewer also make the search for leaks shorter
    #[arg(long, default_value_t = certify::PICKS, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    picks: u64,
    /// Only these checks of a balancer: pools, sizes, weights, updates, statistics, cost, memory, rare
    #[arg(long, value_delimiter = ',', value_name = "CHECKS")]
    only: Vec<Group>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    /// .wasm files, or built-in plugins
    #[arg(required = true)]
    files: Vec<String>,
    /// Configuration of the files, or of one plugin: JSON, or @FILE with YAML or JSON
    #[arg(long, value_name = "[NAME=]JSON|@FILE")]
    config: Vec<String>,
    /// The sizes of the pools, in endpoints
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000, 10_000], value_parser = clap::value_parser!(u32).range(0..=100_000))]
    sizes: Vec<u32>,
    /// A YAML file that says what endpoints are like, in turn: weight, zone, node, labels, annotations
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Leave out the balancers that come with the gateway
    #[arg(long)]
    alone: bool,
    /// How long each call is timed, in milliseconds
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    time_ms: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The seed of all that is generated: the same seed gives the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The memory of an instance, in MiB, as `limits` of the Plugin object sets it
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    memory_mib: u32,
    /// The deadline of a pick or route, in milliseconds, as `limits` of the Plugin object sets it
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    deadline_ms: u32,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Common {
    fn limits(&self) -> Limits {
        Limits { memory: (self.memory_mib as usize) << 20, deadline: Duration::from_millis(self.deadline_ms.into()), ..Limits::default() }
    }
}

/// Prints a report in the form that was asked for.
pub(super) fn show(output: Output, report: &impl Serialize, rows: Rows) -> Result<(), String> {
    match output {
        Output::Table => out(table(&rows)),
        Output::Json => out_json(serde_json::to_string_pretty(report).map_err(|e| e.to_string())?),
    }
    Ok(())
}

/// The profiles of endpoints; plain ones without a file.
pub(super) fn profiles(file: Option<&Path>) -> Result<Profiles, String> {
    file.map_or_else(|| Ok(Profiles::default()), Profiles::read)
}

pub(super) fn exit(done: Result<bool, String>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error),
    }
}

impl Test {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run())
    }

    fn run(&self) -> Result<bool, String> {
        if self.tolerance.is_some_and(|tolerance| !(0.0..=1.0).contains(&tolerance)) {
            return Err("--tolerance is a part, from 0 to 1".to_owned());
        }
        let source = Source::find(&self.file)?;
        let given: Vec<String> =
            self.config.iter().map(|text| if source.builtin { format!("{}={text}", source.name) } else { text.clone() }).collect();
        let options = certify::Options {
            seed: self.common.seed,
            pools: self.pools as usize,
            picks: self.picks,
            only: self.only.clone(),
            config: Configs::parse(&given)?.of(&source),
            limits: self.common.limits(),
            fairness: self.fairness.as_deref().map(str::parse::<Fairness>).transpose()?,
            tolerance: self.tolerance,
            cases: self.cases.clone(),
            ..certify::Options::default()
        };
        let report = certify::certify(&loader()?, &source, &options)?;
        show(self.common.output, &report, report.rows())?;
        if !report.passed() {
            complain(format_args!("{} does not pass", escape::line(&self.file)));
        }
        Ok(report.passed())
    }
}

impl Bench {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run().map(|()| true))
    }

    fn run(&self) -> Result<(), String> {
        let mut sources = self.files.iter().map(|file| Source::find(file)).collect::<Result<Vec<_>, _>>()?;
        if !self.alone {
            let others = Source::builtins(PluginKind::Balancer).filter(|b| sources.iter().all(|s| s.name != b.name || !s.builtin));
            sources.extend(others.collect::<Vec<_>>());
        }
        let configs = Configs::parse(&self.config)?;
        if let Some(name) = configs.unused(&sources).next() {
            return Err(format!("--config {name}=…: no such plugin is measured"));
        }
        let sources: Vec<_> =
            sources.into_iter().map(|source| (configs.of(&source), source)).map(|(config, source)| (source, config)).collect();
        let options = bench::Options {
            seed: self.common.seed,
            sizes: self.sizes.iter().map(|size| *size as usize).collect(),
            time: Duration::from_millis(self.time_ms.into()),
            profiles: profiles(self.profiles.as_deref())?,
        };
        let measured = bench::measure(&loader()?, &sources, &self.common.limits(), &options)?;
        show(self.common.output, &measured, bench::rows(&measured))
    }
}
