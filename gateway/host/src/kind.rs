//! A kind of plugins. What is different from one to the next stands behind [`Kind`], which a kind's own module fulfils; a new one is such a module and
//! a line in the list of [`kinds`](crate::kinds).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_model::plugin::{Generation, GenerationStats, Limits, PluginError, PluginKind, Stage};
use sluicegate_model::record::Recorder;
use sluicegate_model::route::{ListenerInfo, RouteTable};
use sluicegate_model::shared::Shared;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use crate::state::{State, arm_configure, cut, explain};
use crate::version::ContractVersion;
use crate::wasi::egress::Network;

/// The length of the name and of the version that a plugin gives itself, in bytes.
const MAX_NAME: usize = 256;
/// The length of the schema of a plugin's configuration, in bytes.
const MAX_SCHEMA: usize = 256 << 10;

/// What a plugin says of itself.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its own name, which need not be the `Plugin` object's.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it decides.
    pub kind: PluginKind,
    /// JSON Schema of its configuration.
    pub config_schema: serde_json::Value,
}

/// What all plugins of a loader have in common.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) engine: Engine,
    /// Whether discovery plugins may send anything.
    pub(crate) network: Network,
    /// Where the admin API listens, which discovery plugins must not reach.
    pub(crate) admin: Option<SocketAddr>,
    /// Samples the picks of balancers.
    pub(crate) recorder: Arc<Recorder>,
}

/// A kind of plugin: one generation of it.
pub(crate) trait Kind: Sized {
    /// What it decides.
    const KIND: PluginKind;
    /// The interface of `sluicegate:plugin` that its components export.
    const INTERFACE: &'static str;
    /// What its stores hold.
    type State: 'static;

    /// Offers what its guests import.
    fn link(linker: &mut Linker<Self::State>) -> Result<(), wasmtime::Error>;

    /// Instantiates it once, and asks what it is.
    fn load(loading: &Loading<'_>, linker: &Linker<Self::State>) -> Result<(Self, Description), PluginError>;

    /// Its identity and counters.
    fn generation(&self) -> &Arc<Generation>;

    /// Tries it with a configuration before traffic does, and for a router returns what it made of that. `listener`: a router's.
    fn trial(&self, config: &str, listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError>;
}

/// A version of a plugin that is being loaded.
pub(crate) struct Loading<'l> {
    pub(crate) environment: &'l Environment,
    pub(crate) component: &'l Component,
    pub(crate) contract: ContractVersion,
    pub(crate) name: Arc<str>,
    pub(crate) number: u64,
    pub(crate) sha256: String,
    pub(crate) limits: &'l Limits,
    pub(crate) shared: Shared,
}

impl Loading<'_> {
    pub(crate) fn fail(&self, stage: Stage, reason: String) -> PluginError {
        PluginError { plugin: self.name.clone(), stage, reason }
    }

    /// Its component does not fit the world. All of the error is told: the cause alone does not name the import.
    pub(crate) fn misfit(&self, error: &wasmtime::Error) -> PluginError {
        self.fail(Stage::World, cut(format!("{error:#}")))
    }

    /// A store for one call, with the time for configuring.
    pub(crate) fn store(&self) -> Store<State> {
        let state = State::new(self.name.clone(), self.limits.clone(), Shared::new(self.limits));
        let mut store = state.store(&self.environment.engine);
        arm_configure(&mut store);
        store
    }

    /// What it says of itself, checked. `said`: name, version and schema.
    pub(crate) fn description(&self, kind: PluginKind, said: (String, String, String)) -> Result<Description, PluginError> {
        let (name, version, schema) = said;
        for (what, bytes, most) in
            [("name", name.len(), MAX_NAME), ("version", version.len(), MAX_NAME), ("schema", schema.len(), MAX_SCHEMA)]
        {
            if bytes > most {
                return Err(self.fail(Stage::Describe, format!("its {what} has {bytes} bytes, and may have {most}")));
            }
        }
        let config_schema =
            serde_json::from_str(&schema).map_err(|e| self.fail(Stage::Describe, format!("its configuration schema is not JSON: {e}")))?;
        Ok(Description { name, version, kind, config_schema })
    }

    /// A generation of this version.
    pub(crate) fn generation(&self, version: &str) -> Arc<Generation> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Generation {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            plugin: self.name.clone(),
            number: self.number,
            version: version.to_owned(),
            sha256: self.sha256.clone(),
            stats: GenerationStats::default(),
            shared: self.shared.clone(),
        })
    }
}

/// What went wrong when a guest in this state was started.
pub(crate) fn not_started(state: &State, error: &wasmtime::Error) -> PluginError {
    explain(state, Stage::Instantiate, error)
}

/// What went wrong when a guest in this state was asked what it is.
pub(crate) fn not_described(state: &State, error: &wasmtime::Error) -> PluginError {
    explain(state, Stage::Describe, error)
}
