//! `sluicegate shadow NEW`: a configuration in the shadow of the one that a running gateway serves.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};
use sluicegate_model::shadow::MOST_RATE;

use super::at::At;
use super::get::Output;
use super::lab::exit;
use super::{out, out_json};
use crate::compare::report::Report;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    order: Option<Order>,
    /// File or folder with the configuration, on the gateway's machine
    #[arg(required = true)]
    new: Option<PathBuf>,
    /// Of how many requests one is compared
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    every: u64,
    /// How many requests are compared a second, at most
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=MOST_RATE))]
    rate: u64,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Show what it would have decided otherwise so far
    Status {
        /// How to show it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
        #[command(flatten)]
        at: At,
    },
    /// Have it served: its files take the place of those that are served, which are kept under another name
    Promote {
        #[command(flatten)]
        at: At,
    },
    /// Compare it no longer
    Drop {
        #[command(flatten)]
        at: At,
    },
}

/// How long a configuration may take to be loaded.
const LOADING: Duration = Duration::from_secs(120);

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run().map(|()| true))
    }

    fn run(self) -> Result<(), String> {
        match self.order {
            Some(Order::Status { output, at }) => status(&at, output)?,
            Some(Order::Promote { at }) => out(at.order("/api/v1/shadow/promote")?),
            Some(Order::Drop { at }) => out(at.order("/api/v1/shadow/drop")?),
            None => {
                let new = self.new.unwrap_or_default();
                let path = std::path::absolute(&new).map_err(|error| format!("{}: {error}", new.display()))?;
                let asked = json!({"path": path, "every": self.every, "rate": self.rate});
                out(self.at.post_json("/api/v1/shadow", &asked, LOADING)?);
            }
        }
        Ok(())
    }
}

fn status(at: &At, output: Output) -> Result<(), String> {
    let mut status = at.json("/api/v1/shadow")?;
    match output {
        Output::Json => out_json(format_args!("{status:#}")),
        Output::Table => {
            let report: Report =
                serde_json::from_value(status["report"].take()).map_err(|error| format!("the gateway's report: {error}"))?;
            let text = |field: &str| match &status[field] {
                Value::String(text) => sluicegate_model::escape::line(text).into_owned(),
                other => other.to_string(),
            };
            out(format_args!(
                "{}: {} s, {} requests were too many at once, {} were answered whatever is configured",
                text("path"),
                text("seconds"),
                text("dropped"),
                text("skipped")
            ));
            for fault in status["faults"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                out(format_args!("  {}", sluicegate_model::escape::line(fault)));
            }
            report.lines().iter().for_each(out);
        }
    }
    Ok(())
}
