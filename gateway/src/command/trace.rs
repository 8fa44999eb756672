//! `sluicegate plugin record | replay`: decisions of a running gateway, written down and played to another version.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sluicegate_lab::replay::{Report, replay};
use sluicegate_lab::subject::{Configs, Source};
use sluicegate_model::escape;
use sluicegate_model::plugin::Limits;
use sluicegate_model::trace::{EndLine, Line};

use super::at::At;
use super::get::{Output, table};
use super::lab::{exit, show};
use super::{lifecycle, loader, out};

#[derive(Debug, clap::Args)]
pub(super) struct Record {
    /// The balancer's name
    name: String,
    /// Where the trace is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long picks are recorded, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// One pick of each worker in this many is recorded
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How many picks are recorded a second, at most
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// The trace's size, at most, in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4_096))]
    mib: u64,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// A .wasm file, or a built-in balancer
    file: String,
    /// What `plugin record` wrote
    trace: PathBuf,
    /// A configuration in the place of the recorded one: JSON, or @FILE with YAML or JSON
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// Exit 1 if any decision differs
    #[arg(long)]
    same: bool,
    /// How many differences are shown
    #[arg(long, default_value_t = 10)]
    show: usize,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How long it may take besides the time of the recording.
const PATIENCE: Duration = Duration::from_secs(60);

impl Record {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run().map(|()| true))
    }

    fn run(&self) -> Result<(), String> {
        let Self { name, seconds, every, rate, .. } = self;
        let bytes = self.mib << 20;
        let query = format!("record?seconds={seconds}&every={every}&rate={rate}&bytes={bytes}");
        let mut trace = lifecycle::post(&self.at, name, &query, Duration::from_secs(*seconds) + PATIENCE)?;
        let at = |error: std::io::Error| format!("{}: {error}", self.out.display());
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&self.out).map_err(at)?;
        let size = std::io::copy(&mut trace.body_mut().as_reader(), &mut file).map_err(at)?;
        file.seek(SeekFrom::Start(0)).map_err(at)?;
        let end = BufReader::new(file).lines().map_while(Result::ok).last().and_then(|line| serde_json::from_str(&line).ok());
        match end {
            Some(Line::End(EndLine { picks, dropped, why })) => {
                out(format!("{}: {picks} picks, {size} bytes; {dropped} were too many at once, {why} ended it", self.out.display()));
                Ok(())
            }
            _ => Err(format!("{}: the gateway ended before the recording did; what came is there", self.out.display())),
        }
    }
}

impl Replay {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run())
    }

    fn run(&self) -> Result<bool, String> {
        let source = Source::find(&self.file)?;
        let given = self.config.as_ref().map(|text| format!("{}={text}", source.name));
        let config = given.map(|given| Configs::parse(&[given])).transpose()?.map(|configs| configs.of(&source));
        let at = |error: String| format!("{}: {error}", self.trace.display());
        let trace = BufReader::new(File::open(&self.trace).map_err(|e| at(e.to_string()))?);
        let report = replay(&loader()?, &source, config.as_ref(), &Limits::default(), trace).map_err(at)?;
        match self.output {
            Output::Json => show(self.output, &report, Vec::new())?,
            Output::Table => self.print(&report),
        }
        Ok(report.failed == 0 && !(self.same && report.different > 0))
    }

    fn print(&self, report: &Report) {
        out(table(&report.rows()));
        if !report.differences.is_empty() && self.show > 0 {
            out(format!("\n{} differ, {} fail:", report.different, report.failed));
            out(table(&report.differences(self.show)));
        }
        for note in report.notes() {
            out(format!("\nnote: {}", escape::line(&note)));
        }
    }
}
