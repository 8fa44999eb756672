//! The command line: raw arguments here, checked and joined with the configuration object in [`Settled`].

mod check;
mod crds;
mod explain;
mod flags;
mod get;
mod lab;
mod lifecycle;
mod plugin;
mod sign;
mod simulate;
mod trace;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use sluicegate_model::object::ours::LogFormat;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Settled, demo, run};
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
    /// Serve the objects of files and folders, and follow their changes
    Run(Box<RunArguments>),
    /// Report every fault of a configuration; exit 1 if there is an error
    Check(check::Arguments),
    /// Say what would become of a request, and why; nothing is sent
    Explain(Box<explain::Arguments>),
    /// Show what a running gateway serves
    Get(get::Arguments),
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
    },
    /// Print the CustomResourceDefinitions of Sluicegate's kinds, for `kubectl apply -f -`
    Crds,
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Files or folders with Kubernetes objects
    #[arg(required = true)]
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
            Action::Get(arguments) => arguments.execute(),
            Action::Plugin(action) => action.execute(),
            Action::Demo { serve, step_ms } => {
                let settled = Settled { log_level: "off".to_owned(), ..Settled::default() };
                if let Err(error) = log(&settled) {
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
        }
    }
}

/// Prints to stdout. Nobody reads on after `| head`: that is no reason to panic, as `println!` does.
fn out(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints an error and fails.
fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("sluicegate: {error}");
    ExitCode::FAILURE
}

fn serve(arguments: RunArguments) -> ExitCode {
    let settled = match flags::settle(arguments.paths, arguments.process, arguments.network) {
        Ok(settled) => settled,
        Err(error) => return fail(error),
    };
    if let Err(error) = log(&settled) {
        return fail(error);
    }
    match run(&settled, stop_signal(), |admin| tracing::info!(%admin, "the admin API listens")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

/// Logs go to stderr, coloured where that is a terminal. `SLUICEGATE_LOG` overrides the level.
fn log(settled: &Settled) -> Result<(), String> {
    let level = std::env::var("SLUICEGATE_LOG").unwrap_or_else(|_| settled.log_level.clone());
    let filter = tracing_subscriber::EnvFilter::try_new(&level).map_err(|e| format!("log level {level:?}: {e}"))?;
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(terminal).with_writer(std::io::stderr);
    match settled.log_format {
        LogFormat::Human => logger.with_target(false).init(),
        LogFormat::Json => logger.json().init(),
    }
    Ok(())
}

/// The first SIGTERM or SIGINT; a second one ends the process at once.
async fn stop_signal() {
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        _ => return std::future::pending().await,
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    tracing::info!("stopping; a second signal ends at once");
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(130);
    });
}
