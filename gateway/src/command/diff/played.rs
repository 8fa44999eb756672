//! `sluicegate diff OLD NEW --trace FILE`: what becomes of recorded requests.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sluicegate_config::plan::PluginSource;

use super::super::at::At;
use super::super::get::Output;
use super::super::{complain, out, out_json};
use crate::compare::page::page;
use crate::compare::play::{Played, play};
use crate::compare::report::{FailOn, Report};
use crate::loaded::Loaded;

/// The word for what the running gateway serves.
const RUNNING: &str = "running";

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// With --trace: exit 1 only if more requests differ than this: changed>0.1%, refused>0; or in one of route, service, spread, headers, timeouts, retries, limits,
    /// answered, other. May be given several times; without it `changed>0` counts
    #[arg(long, value_name = "CONDITION", requires = "trace")]
    fail_on: Vec<FailOn>,
    /// With --trace: write the differences as one HTML page
    #[arg(long, value_name = "FILE", requires = "trace")]
    html: Option<PathBuf>,
    /// With --trace: how many threads decide [default: one for each CPU]
    #[arg(long, requires = "trace", value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: Option<u64>,
    #[command(flatten)]
    pub(super) at: At,
}

impl Options {
    /// Plays the recording to both. Returns whether they differ more than they may.
    pub(super) fn play(&self, trace: &Path, old: &Loaded, new: &Loaded, output: Output, what: &str) -> Result<bool, String> {
        let at = |error: String| format!("{}: {error}", trace.display());
        let file = BufReader::with_capacity(1 << 18, File::open(trace).map_err(|error| at(error.to_string()))?);
        let threads = self.threads.and_then(|threads| usize::try_from(threads).ok());
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let remember = [old, new].into_iter().all(decides_the_same_again);
        let Played { tally, notes } = play(file, &old.snapshot, &new.snapshot, threads, remember).map_err(at)?;
        let report = Report::new(&tally, notes);
        if let Some(file) = &self.html {
            std::fs::write(file, page(&report, what)).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        match output {
            Output::Json => out_json(serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?),
            Output::Table => report.lines().iter().for_each(out),
        }
        let mut failed = self.fail_on.is_empty() && report.changed.requests > 0;
        for condition in &self.fail_on {
            if let Some(count) = condition.failed(&report) {
                complain(format_args!("{condition}: so are {} requests, {:.3} %", count.requests, count.percent));
                failed = true;
            }
        }
        Ok(failed)
    }
}

/// Whether all routers come with the gateway. They decide the same of the same request, but for the backend that is drawn, which is not compared.
fn decides_the_same_again(loaded: &Loaded) -> bool {
    let plan = loaded.controller.plan();
    let built_in = |name: &str| plan.plugins.iter().any(|one| one.name == name && matches!(one.source, PluginSource::Builtin(_)));
    plan.routers.iter().all(|router| built_in(&router.plugin.plugin))
}

/// What a gateway serves, as its admin API tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Served {
    pub(super) paths: Vec<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
}

impl Served {
    /// The file or folder that is meant; for the word `running` those of the gateway that answers.
    pub(super) fn of(old: &Path, at: &At) -> Result<Self, String> {
        if old.as_os_str() != RUNNING {
            return Ok(Self { paths: vec![old.to_owned()], state_dir: None });
        }
        let told = at.json("/api/v1/configuration")?;
        let served: Self = serde_json::from_value(told).map_err(|error| format!("what the gateway serves: {error}"))?;
        if served.paths.is_empty() {
            return Err(
                "the running gateway has all its objects of a cluster; write them to a folder (kubectl get -o yaml) to compare them"
                    .to_owned(),
            );
        }
        Ok(served)
    }
}
