//! Sluicegate wired together: [`run`] is the whole gateway, for `main` and for tests.

pub mod command;
pub mod demo;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use sluicegate_admin::View;
use sluicegate_control::allocate::{Allocator, Ranges};
use sluicegate_control::controller::{Controller, Options, node_addresses};
use sluicegate_host::Loader;
use sluicegate_model::object::ours::LogFormat;
use sluicegate_model::plan::Settings;
use sluicegate_model::pool::Here;
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::status::Status;
use sluicegate_proxy::{Config, Proxy};

/// Everything the process needs to know.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Files and folders of objects.
    pub paths: Vec<PathBuf>,
    /// Data plane threads.
    pub workers: usize,
    /// Client connections open at a time; none: half of the descriptors the process may have.
    pub max_connections: Option<usize>,
    /// Of the admin API; port 0 takes a free one.
    pub admin_address: SocketAddr,
    /// Where allocations are kept.
    pub state_dir: PathBuf,
    /// What may be allocated.
    pub ranges: Ranges,
    /// CIDRs of local addresses node ports are served on; empty: all.
    pub nodeport_addresses: Vec<IpNet>,
    /// This node, for traffic policies and topology.
    pub here: Here,
    /// How long running work may go on after a stop was asked for.
    pub grace: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged: directives of `tracing_subscriber::EnvFilter`.
    pub log_level: String,
}

impl Default for Settled {
    /// No paths, one worker, the admin API and the state in places of this run's own: what tests and the demonstration start from.
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            workers: 1,
            max_connections: None,
            admin_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_dir: std::env::temp_dir().join(format!("sluicegate-{}", std::process::id())),
            ranges: Ranges::default(),
            nodeport_addresses: Vec::new(),
            here: Here::default(),
            grace: Duration::from_secs(30),
            log_format: LogFormat::default(),
            log_level: "info".to_owned(),
        }
    }
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket, file or thread.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: String,
        /// What came of it.
        error: std::io::Error,
    },
    /// The engine for plugins.
    #[error("the plugin engine could not start: {0}")]
    Engine(String),
    /// The watcher of files.
    #[error("files cannot be watched: {0}")]
    Watch(String),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |error| Error::Io { what, error }
}

/// Finds an embedded plugin.
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    sluicegate_plugins::builtin(name).map(|b| b.wasm)
}

impl Settled {
    /// What control needs.
    pub fn options(&self) -> Result<Options, Error> {
        let node_addresses = node_addresses(&self.nodeport_addresses).map_err(io("--nodeport-addresses"))?;
        Ok(Options { paths: self.paths.clone(), settings: Settings { node_addresses, here: self.here.clone() }, builtins: builtin })
    }
}

/// Runs the gateway until `shutdown` is ready. `started` is told the admin API's address.
pub fn run(settled: &Settled, shutdown: impl Future<Output = ()>, started: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("the control runtime"))?;
    // Bound first: plugins must be kept from the very address.
    let admin = std::net::TcpListener::bind(settled.admin_address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    let (admin_address, admin_listener) = admin.map_err(io(format!("admin address {}", settled.admin_address)))?;
    let loader = Loader::new().map_err(|e| Error::Engine(format!("{e:#}")))?.guarding(admin_address);
    let allocator =
        Allocator::load(&settled.state_dir, settled.ranges.clone()).map_err(io(format!("state folder {}", settled.state_dir.display())))?;
    let stats = Arc::new(ProxyStats::default());
    let proxy = Arc::new(
        Proxy::start(&Config { workers: settled.workers, max_connections: settled.max_connections }, &stats).map_err(io("the workers"))?,
    );
    let status = Arc::new(ArcSwap::from_pointee(Status::default()));
    let stopping = Arc::new(AtomicBool::new(false));
    let controller = Controller::new(settled.options()?, loader, allocator);
    let view = View { status: status.clone(), proxy: stats, stopping: stopping.clone() };
    let outcome = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(admin_listener).map_err(io("admin address"))?;
        let admin = tokio::spawn(sluicegate_admin::serve(listener, view, std::future::pending()));
        started(admin_address);
        let published = proxy.clone();
        let publish = move |snapshot| {
            published
                .publish(snapshot)
                .into_iter()
                .map(|f| format!("{}: cannot listen on {}: {}", f.listener, f.address, f.error))
                .collect()
        };
        let control = tokio::spawn(controller.run(status, Box::new(publish)));
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            ended = control => match ended {
                Ok(Err(e)) => Err(Error::Watch(e.to_string())),
                Ok(Ok(())) => Ok(()),
                Err(e) => Err(Error::Watch(format!("control ended: {e}"))),
            },
        };
        stopping.store(true, Ordering::Relaxed);
        let grace = settled.grace;
        // Blocks until the workers have drained; the admin API goes on meanwhile.
        let drained = tokio::task::spawn_blocking(move || proxy.shutdown(grace)).await;
        admin.abort();
        drained.map_err(|e| Error::Io { what: "stopping".to_owned(), error: std::io::Error::other(e) })?;
        outcome
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
