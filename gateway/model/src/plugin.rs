//! The traits that plugins fulfil. A *generation* is one loaded version of one plugin; it is shared, and each worker makes its own
//! instance from it, so instances need no locks. `host` implements these over wasm, tests without. The trait of discovery plugins is in
//! [`crate::discovery`].

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::config_text::ConfigText;
use crate::counters::Counted;
use crate::escape;
use crate::pool::Pool;
use crate::route::{Decision, ListenerInfo, RouteTable, RouteView};
use crate::shared::Shared;

pub use crate::hash::{hash_bytes, hash_ip};
pub use crate::limits::Limits;

/// What a plugin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Which rule and backend takes a request.
    Router,
    /// Which endpoint of a pool serves.
    Balancer,
    /// Which endpoints exist.
    Discovery,
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Router => "router",
            Self::Balancer => "balancer",
            Self::Discovery => "discovery",
        })
    }
}

/// Where in a plugin's life something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reading the plugin's file.
    Read,
    /// Checking who signed it.
    Signature,
    /// Compiling it, and checking that it is a component.
    Compile,
    /// Checking that it has the interface of its kind.
    World,
    /// Making an instance of it.
    Instantiate,
    /// Asking what it is.
    Describe,
    /// Giving it its configuration.
    Configure,
    /// Trying it on generated pools or requests.
    Trial,
    /// Telling it of changed endpoints.
    Update,
    /// Asking it for an endpoint.
    Pick,
    /// Telling it what came of a pick.
    Report,
    /// Asking it for what a pool knows.
    Save,
    /// Beginning a pool with what another one knew.
    Restore,
    /// Asking it for a route.
    Route,
    /// Running it as a task.
    Run,
    /// Trying a new generation beside the live one.
    Rollout,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Signature => "signature",
            Self::Compile => "compile",
            Self::World => "world",
            Self::Instantiate => "instantiate",
            Self::Describe => "describe",
            Self::Configure => "configure",
            Self::Trial => "trial",
            Self::Update => "update",
            Self::Pick => "pick",
            Self::Report => "report",
            Self::Save => "save",
            Self::Restore => "restore",
            Self::Route => "route",
            Self::Run => "run",
            Self::Rollout => "rollout",
        })
    }
}

/// The plugin failed, refused something, or broke its contract.
#[derive(Clone, Debug, thiserror::Error)]
#[error("plugin {plugin}, stage {stage}: {}", escape::line(reason))]
pub struct PluginError {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// What the plugin was doing.
    pub stage: Stage,
    /// What happened, for the operator.
    pub reason: String,
}

/// Counters of one generation, shared by all workers. A generation that fails [`QUARANTINE_AFTER`] calls within [`QUARANTINE_WINDOW`] is quarantined: workers
/// pass over it at once, and control rolls it back.
#[derive(Debug, Default)]
pub struct GenerationStats {
    /// Picks, routes or published endpoint sets.
    pub calls: AtomicU64,
    /// Time inside the calls that were timed, in nanoseconds.
    pub nanos: AtomicU64,
    /// The number of calls that `nanos` covers. One in 64 is timed, as reading the clock twice costs more than the call.
    pub timed: AtomicU64,
    /// Traps, deadline overruns and answers out of range.
    pub failures: AtomicU64,
    /// The memory of the largest instance, in bytes.
    pub memory: AtomicU64,
    /// Pools that began with what another one knew.
    pub restored: AtomicU64,
    /// Pools that began with nothing, though another pool had left something for them.
    pub lost: AtomicU64,
    /// Pools begin with nothing: restoring one has trapped or taken too long, and each such try costs an instance with all its pools.
    begins_cold: AtomicBool,
    /// The number of failures since `window`, which is in milliseconds since the first use of the clock.
    recent: AtomicU64,
    window: AtomicU64,
    quarantined: OnceLock<PluginError>,
    first_failure: OnceLock<PluginError>,
}

/// The number of failed calls within [`QUARANTINE_WINDOW`] that quarantines a generation. Each may cost a worker its deadline, and costs an instance.
pub const QUARANTINE_AFTER: u64 = 5;
/// The time within which [`QUARANTINE_AFTER`] failed calls quarantine a generation.
pub const QUARANTINE_WINDOW: Duration = Duration::from_secs(30);

/// Milliseconds on a clock that never goes back.
fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl GenerationStats {
    /// Notes that a call went well.
    pub fn succeeded(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a call failed. Returns true for the one call that quarantines the generation.
    pub fn failed(&self, error: &PluginError) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.first_failure.get_or_init(|| error.clone());
        let now = now_ms();
        let window = self.window.load(Ordering::Relaxed);
        // If two workers begin a window at once, a failure may be lost; the next ones are counted.
        if self.recent.load(Ordering::Relaxed) == 0 || now.saturating_sub(window) > QUARANTINE_WINDOW.as_millis() as u64 {
            self.window.store(now, Ordering::Relaxed);
            self.recent.store(0, Ordering::Relaxed);
        }
        self.recent.fetch_add(1, Ordering::Relaxed) + 1 >= QUARANTINE_AFTER && self.quarantined.set(error.clone()).is_ok()
    }

    /// From now on pools begin with nothing. Returns true for the first call.
    pub fn begin_cold(&self) -> bool {
        !self.begins_cold.swap(true, Ordering::Relaxed)
    }

    /// Whether pools begin with nothing.
    pub fn begins_cold(&self) -> bool {
        self.begins_cold.load(Ordering::Relaxed)
    }

    /// The first call that failed.
    pub fn first_failure(&self) -> Option<&PluginError> {
        self.first_failure.get()
    }

    /// Whether workers must pass this generation over.
    pub fn quarantined(&self) -> bool {
        self.quarantined.get().is_some()
    }

    /// The failure that quarantined the generation.
    pub fn quarantined_for(&self) -> Option<&PluginError> {
        self.quarantined.get()
    }
}

/// What is known of a generation besides its code.
#[derive(Debug)]
pub struct Generation {
    /// A number that is unique in the process.
    pub id: u64,
    /// The name of the `Plugin` object, or of the built-in plugin.
    pub plugin: Arc<str>,
    /// The number of the generation: it counts up from 1 with each version of the plugin that was accepted.
    pub number: u64,
    /// The version that the plugin names.
    pub version: String,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The generation's counters.
    pub stats: GenerationStats,
    /// What the generation shares with the plugin's other ones.
    pub shared: Shared,
}

/// The counters are calls, failures, timed calls and their nanoseconds, pools that were restored, and pools that were lost.
impl Counted<6> for Generation {
    fn counts(&self) -> [u64; 6] {
        let stats = &self.stats;
        [&stats.calls, &stats.failures, &stats.timed, &stats.nanos, &stats.restored, &stats.lost]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// What a pick may depend on besides the pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext {
    /// The hash of what the policy names (see [`crate::snapshot::HashKey`]).
    pub hash: Option<u64>,
    /// The number of the try: 0 for the first.
    pub attempt: u32,
    /// Random bits in place of the instance's own, so that two generations can be asked the same.
    pub random: Option<u64>,
}

/// What a balancer knows of a pool, in the plugin's own form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The version of that form, which the plugin chooses.
    pub version: u32,
    /// The state itself, at most [`MAX_SAVED`] bytes.
    pub data: Vec<u8>,
}

/// The largest state that a pool may leave to another, in bytes.
pub const MAX_SAVED: usize = 1 << 20;

/// A balancer's generation.
pub trait BalancerGeneration: Send + Sync {
    /// The generation's identity and counters.
    fn generation(&self) -> &Arc<Generation>;
    /// Makes a worker's instance.
    fn instantiate(&self) -> Result<Box<dyn Balancer>, PluginError>;
}

/// One worker's instance of a balancer. It serves all pools that are bound to it.
pub trait Balancer {
    /// Picks an endpoint, by its index in `pool.endpoints`; none if no endpoint will do. An index out of range is an error of the plugin, which is found here
    /// and not by the caller.
    fn pick(&mut self, pool: &Arc<Pool>, config: &Arc<str>, context: PickContext) -> Result<Option<usize>, PluginError>;
    /// Whether the plugin wants to be told what came of the last pick.
    fn wants_report(&self) -> bool {
        false
    }
    /// Tells what came of a pick from `pool`. Nothing is told if the plugin has been told of other endpoints since.
    fn report(&mut self, _pool: &Arc<Pool>, _endpoint: usize, _success: bool, _latency: Duration) -> Result<(), PluginError> {
        Ok(())
    }
    /// What the balancer knows of a pool (see [`Pool::id`]) and is worth keeping; none if there is nothing, or it cannot say.
    fn save(&mut self, _pool: u64) -> Option<Saved> {
        None
    }
    /// The pool is to begin with this when it is first picked from. A pool that has begun goes on with what it knows.
    fn inherit(&mut self, _pool: u64, _saved: Saved) {}
    /// Frees the state of all pools but the live ones (see [`Pool::id`]).
    fn retain(&mut self, live: &dyn Fn(u64) -> bool);
}

/// A router's generation.
pub trait RouterGeneration: Send + Sync {
    /// The generation's identity and counters.
    fn generation(&self) -> &Arc<Generation>;
    /// Checks a configuration and returns its static part. This does not happen on a worker, as it may take the configure deadline.
    fn configure(&self, config: &ConfigText, listener: &ListenerInfo) -> Result<RouteTable, PluginError>;
    /// Does the same with a configuration that comes in the place of another one, at the cost of what is different if the plugin can do that.
    fn reconfigure(&self, before: &RouteTable, config: &ConfigText) -> Result<RouteTable, PluginError> {
        self.configure(config, &before.listener)
    }
    /// Makes a worker's instance.
    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError>;
}

/// One worker's instance of a router. It serves all tables that are bound to it.
pub trait Router {
    /// Routes a request by a table. The indices of rule and backend are checked here.
    fn route(&mut self, table: &Arc<RouteTable>, request: &RouteView<'_>) -> Result<Decision, PluginError>;
    /// Frees the state of all tables but the live ones (see [`RouteTable::id`]).
    fn retain(&mut self, live: &dyn Fn(u64) -> bool);
}
