//! A kind of plugins. What differs from kind to kind stands behind [`Kind`], which each kind's own module fulfils. A new kind is such a module and a line in
//! the list of [`kinds`](crate::kinds).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate_model::config_text::ConfigText;
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
    /// The plugin's own name, which need not be the `Plugin` object's.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// The plugin's kind.
    pub kind: PluginKind,
    /// The JSON Schema of the plugin's configuration.
    pub config_schema: serde_json::Value,
    /// Why workers call the plugin as a component; nothing if they call its core module, which is quicker.
    pub component: Result<(), String>,
}

/// What all plugins of a loader have in common.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) engine: Engine,
    /// What core modules that are called by themselves import; none: all plugins are called as components.
    pub(crate) direct: Option<Arc<wasmtime::Linker<State>>>,
    /// Whether discovery plugins may send anything.
    pub(crate) network: Network,
    /// Where the admin API listens, which discovery plugins must not reach.
    pub(crate) admin: Option<SocketAddr>,
    /// Samples the picks of balancers.
    pub(crate) recorder: Arc<Recorder>,
}

/// A kind of plugin: one generation of it.
pub(crate) trait Kind: Sized {
    /// The kind.
    const KIND: PluginKind;
    /// The interface of `sluicegate:plugin` that components of this kind export.
    const INTERFACE: &'static str;
    /// The data of a store of this kind.
    type State: 'static;

    /// Adds what guests of this kind import.
    fn link(linker: &mut Linker<Self::State>) -> Result<(), wasmtime::Error>;

    /// Instantiates a component once, and asks what it is.
    fn load(loading: &Loading<'_>, linker: &Linker<Self::State>) -> Result<(Self, Description), PluginError>;

    /// The generation's identity and counters.
    fn generation(&self) -> &Arc<Generation>;

    /// Tries the generation with a configuration before it gets traffic. For a router it returns what it made of the configuration. `listener`: a router's.
    fn trial(&self, config: &ConfigText, listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError>;
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

    /// The component does not fit the world. The whole error is told, as the cause alone does not name the import.
    pub(crate) fn misfit(&self, error: &wasmtime::Error) -> PluginError {
        self.fail(Stage::World, cut(format!("{error:#}")))
    }

    /// A store for one call, with the time that is allowed for configuring.
    pub(crate) fn store(&self) -> Store<State> {
        let state = State::new(self.name.clone(), self.limits.clone(), Shared::new(self.limits));
        let mut store = state.store(&self.environment.engine);
        arm_configure(&mut store);
        store
    }

    /// Checks what the plugin says of itself. `said`: name, version and schema; `component`: why it is called as a component, if it is.
    pub(crate) fn description(
        &self,
        kind: PluginKind,
        said: (String, String, String),
        component: Result<(), String>,
    ) -> Result<Description, PluginError> {
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
        Ok(Description { name, version, kind, config_schema, component })
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

/// The error when a guest in this state could not be started.
pub(crate) fn not_started(state: &State, error: &wasmtime::Error) -> PluginError {
    explain(state, Stage::Instantiate, error)
}

/// The error when a guest in this state could not say what it is.
pub(crate) fn not_described(state: &State, error: &wasmtime::Error) -> PluginError {
    explain(state, Stage::Describe, error)
}
