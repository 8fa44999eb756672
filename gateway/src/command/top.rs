//! `sluicegate top`: a live table of what a running gateway does, made of two looks at its counters a moment apart.

mod rates;
mod screen;
mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::at::At;
use super::get::table;
use super::{fail, out};
use rates::{Look, Rates};

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The ports of Services: exchanges of HTTP, connections of TCP, flows of UDP
    Services,
    /// Endpoints, by how often they are picked
    Endpoints,
    /// Plugins, by their calls
    Plugins,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Endpoints => "endpoints",
            Self::Plugins => "plugins",
        }
    }

    /// Looks at the counters.
    fn look(self, at: &At) -> Result<Look, String> {
        Look::of(&at.json(&format!("/api/v1/counters?of={}", self.name()))?)
    }
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    Name,
    Rate,
    Errors,
    P50,
    P99,
    InFlight,
    Bytes,
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to show
    #[arg(value_enum, default_value_t = Kind::Services)]
    kind: Kind,
    /// Only rows whose names contain this
    #[arg(short, long, default_value = "")]
    filter: String,
    /// By what rows are sorted
    #[arg(short, long, value_enum, default_value_t = Sort::Rate)]
    sort: Sort,
    /// Seconds between two looks
    #[arg(short, long, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// Print one table and end, as where the output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    at: At,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("from 0.1 to 3600 seconds are wanted".to_owned()),
    }
}

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        let plain = self.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal();
        match if plain { self.once() } else { screen::run(&self) } {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error),
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.interval)
    }

    fn once(&self) -> Result<(), String> {
        let before = self.kind.look(&self.at)?;
        std::thread::sleep(self.interval());
        let mut rates = Rates::between(&before, &self.kind.look(&self.at)?);
        rates.select(&self.filter, self.sort, false);
        let rows = rates.rows().map(rates::Rate::cells);
        out(table(&std::iter::once(rates::head(self.kind)).chain(rows).collect::<Vec<_>>()));
        Ok(())
    }
}
