//! The command line: raw arguments here, checked ones in [`Settled`].

mod check;
mod get;
mod plugin;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use sluicegate_control::allocate::Ranges;
use tokio::signal::unix::{SignalKind, signal};

use crate::{Settled, run};

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
    /// Show what a running gateway serves
    Get(get::Arguments),
    /// Write and look at plugins
    #[command(subcommand)]
    Plugin(plugin::Action),
    /// Print a shell's completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Files or folders with Kubernetes objects
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Data plane threads [default: one a core]
    #[arg(long)]
    workers: Option<usize>,
    /// Address of the admin API
    #[arg(long, default_value = "127.0.0.1:9901")]
    admin_address: SocketAddr,
    /// Where allocated ports and addresses are kept
    #[arg(long, default_value_os_t = default_state_dir())]
    state_dir: PathBuf,
    #[command(flatten)]
    network: Network,
    /// How long running work may go on after SIGTERM, in seconds
    #[arg(long, default_value_t = 30)]
    grace_seconds: u64,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
}

#[derive(Clone, Debug, clap::Args)]
struct Network {
    /// Node ports to allocate from
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    node_port_range: RangeInclusive<u16>,
    /// CIDRs of the local addresses node ports are served on [default: all]
    #[arg(long, value_delimiter = ',')]
    nodeport_addresses: Vec<IpNet>,
    /// Where virtual IPs of Services come from
    #[arg(long, default_value = "127.96.0.0/16")]
    service_cluster_ip_range: IpNet,
    /// Addresses for Services of type LoadBalancer
    #[arg(long, value_delimiter = ',')]
    load_balancer_addresses: Vec<IpAddr>,
}

impl Network {
    fn ranges(&self) -> Ranges {
        Ranges {
            node_ports: self.node_port_range.clone(),
            cluster_ips: self.service_cluster_ip_range,
            load_balancer: self.load_balancer_addresses.clone(),
        }
    }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = text.split_once('-').ok_or("a range such as 30000-32767 is wanted")?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| format!("{text:?} is not a port"));
    let (from, to) = (port(from)?, port(to)?);
    if from > to { Err(format!("{from} is above {to}")) } else { Ok(from..=to) }
}

fn default_state_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    state.unwrap_or_else(|| PathBuf::from("/var/lib")).join("sluicegate")
}

impl Command {
    /// Does what was asked.
    pub fn execute(self) -> ExitCode {
        match self.action {
            Action::Run(arguments) => serve(&arguments),
            Action::Check(arguments) => arguments.execute(),
            Action::Get(arguments) => arguments.execute(),
            Action::Plugin(action) => action.execute(),
            Action::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "sluicegate", &mut std::io::stdout());
                ExitCode::SUCCESS
            }
        }
    }
}

/// Prints an error and fails.
fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("sluicegate: {error}");
    ExitCode::FAILURE
}

fn serve(arguments: &RunArguments) -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("SLUICEGATE_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Human => logger.with_target(false).init(),
        LogFormat::Json => logger.json().init(),
    }
    let settled = Settled {
        paths: arguments.paths.clone(),
        workers: arguments.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        admin_address: arguments.admin_address,
        state_dir: arguments.state_dir.clone(),
        ranges: arguments.network.ranges(),
        nodeport_addresses: arguments.network.nodeport_addresses.clone(),
        grace: Duration::from_secs(arguments.grace_seconds),
    };
    let shutdown = async {
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
    };
    match run(&settled, shutdown, |admin| tracing::info!(%admin, "the admin API listens")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}
