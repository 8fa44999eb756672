//! The command line: raw arguments here, checked and joined with the configuration object in [`Settled`].

mod at;
mod check;
mod config;
mod crds;
mod diff;
mod explain;
mod flags;
mod get;
mod lab;
mod lifecycle;
mod log;
mod login;
mod origins;
mod plugin;
mod reach;
mod record;
mod shadow;
mod sign;
mod simulate;
mod tap;
mod telemetry;
mod top;
mod trace;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use sluicegate_model::escape;

use crate::loaded::{code_cache, loader};
use crate::{Settled, demo, loaded, run, standard_error, stop};
use flags::{Network, Process};

/// An edge gateway whose decisions are WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve the objects of files and folders or of a cluster, and follow their changes
    Run(Box<RunArguments>),
    /// Report every fault of a configuration; exit 1 if there is an error
    Check(check::Arguments),
    /// Say what would become of a request, and why; nothing is sent
    Explain(Box<explain::Arguments>),
    /// Say which requests another configuration would decide differently, from the routes alone; exit 1 if there are any
    Diff(diff::Arguments),
    /// Write down what a running gateway is asked
    #[command(subcommand)]
    Record(record::Action),
    /// Compare a configuration with the one that a running gateway serves, by the requests that it answers; then promote or drop it
    Shadow(shadow::Arguments),
    /// Show the requests that a running gateway answers, as they come, with the decision that was taken
    Tap(Box<tap::Arguments>),
    /// Show what a running gateway serves
    Get(get::Arguments),
    /// Show live what a running gateway does: rates, errors, times and what is under way
    Top(top::Arguments),
    /// Show how a running gateway is configured
    #[command(subcommand)]
    Config(config::Action),
    /// Write and look at plugins
    #[command(subcommand)]
    Plugin(plugin::Action),
    /// Watch pods die, come back and scale, and plugins swap, under traffic; exit 0 only if no request failed
    Demo {
        /// Go on serving afterwards
        #[arg(long)]
        serve: bool,
        /// How long each step's traffic is watched, in milliseconds
        #[arg(long, default_value_t = 2000)]
        step_ms: u64,
        /// Print the commands that do the same in a cluster, and do nothing else
        #[arg(long, conflicts_with_all = ["serve", "step_ms"])]
        cluster: bool,
    },
    /// Print the CustomResourceDefinitions of Sluicegate's kinds, for `kubectl apply -f -`
    Crds,
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command into a folder
    Man {
        /// The folder, which is made if it is not there
        folder: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Files or folders with Kubernetes objects
    #[arg(required_unless_present = "cluster")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    network: Network,
}

impl Command {
    /// Does what was asked.
    pub fn execute(self) -> ExitCode {
        match self.action {
            Action::Run(arguments) => serve(*arguments),
            Action::Check(arguments) => arguments.execute(),
            Action::Explain(arguments) => arguments.execute(),
            Action::Diff(arguments) => arguments.execute(),
            Action::Record(action) => action.execute(),
            Action::Shadow(arguments) => arguments.execute(),
            Action::Tap(arguments) => arguments.execute(),
            Action::Get(arguments) => arguments.execute(),
            Action::Top(arguments) => arguments.execute(),
            Action::Config(action) => action.execute(),
            Action::Plugin(action) => action.execute(),
            Action::Demo { cluster: true, .. } => {
                out(demo::CLUSTER.trim_end());
                ExitCode::SUCCESS
            }
            Action::Demo { serve, step_ms, .. } => {
                let settled = Settled { log_level: "off".to_owned(), ..Settled::default() };
                if let Err(error) = log::begin(&settled) {
                    return fail(error);
                }
                match demo::give(&demo::Options { step: Duration::from_millis(step_ms), serve }) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(error),
                }
            }
            Action::Crds => crds::execute(),
            Action::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "sluicegate", &mut script);
                out(String::from_utf8_lossy(&script).trim_end());
                ExitCode::SUCCESS
            }
            Action::Man { folder } => {
                let written = std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(Self::command(), &folder));
                written.map_or_else(|error| fail(format_args!("{}: {error}", folder.display())), |()| ExitCode::SUCCESS)
            }
        }
    }
}

/// Prints to stdout. After `| head` nobody may read on, which is no reason to panic, as `println!` does. No control character gets to the terminal. Line breaks do,
/// so text of others goes through [`escape::line()`] first.
fn out(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{}", escape::lines(&text.to_string()));
}

/// Prints JSON to stdout.
fn out_json(json: impl std::fmt::Display) {
    out(escape::json(&json.to_string()));
}

/// Prints an error and fails. Further lines of it are indented, so that none of them is taken for another message.
fn fail(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    standard_error::end();
    ExitCode::FAILURE
}

fn complain(error: impl std::fmt::Display) {
    standard_error::say(format_args!("sluicegate: {}", escape::lines(&error.to_string()).trim_end().replace('\n', "\n    ")));
}

fn serve(arguments: RunArguments) -> ExitCode {
    let settled = match flags::settle(arguments.paths, arguments.process, arguments.network) {
        Ok(settled) => settled,
        Err(error) => return fail(error),
    };
    if let Err(error) = log::begin(&settled) {
        return fail(error);
    }
    let asked_to_stop = match stop::asked(settled.shutdown_delay.saturating_add(settled.grace)) {
        Ok(asked_to_stop) => asked_to_stop,
        Err(error) => return fail(format_args!("signals: {error}")),
    };
    match run(&settled, asked_to_stop, |admin| tracing::info!(%admin, "the admin API listens")) {
        Ok(()) => {
            standard_error::end();
            ExitCode::SUCCESS
        }
        Err(error) => fail(error),
    }
}
