//! From bytes to a generation: componentize, compile, check the world, ask for the description, try it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use sluicegate_model::commons::Commons;
use sluicegate_model::plugin::{Generation, GenerationStats, Limits, PluginError, PluginKind, Stage};
use sluicegate_model::record::Recorder;
use sluicegate_model::status::Compiled;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::balancer::{self, WasmBalancer};
use crate::cache::CodeCache;
use crate::discovery::{self, DiscoveryState, WasmDiscovery};
use crate::router::{self, WasmRouter};
use crate::state::{State, arm_configure, cut, explain};
use crate::version;
use crate::wasi::egress::{Egress, Network};

/// Larger files are refused before they are compiled.
pub const MAX_PLUGIN_BYTES: usize = 32 << 20;
/// Of the name and the version that a plugin gives itself, in bytes,
const MAX_NAME: usize = 256;
/// and of its configuration's schema.
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

/// A checked generation, ready for workers.
#[derive(Clone)]
pub enum Loaded {
    /// Of a balancer.
    Balancer(Arc<WasmBalancer>),
    /// Of a router.
    Router(Arc<WasmRouter>),
    /// Of a discovery plugin.
    Discovery(Arc<WasmDiscovery>),
}

impl Loaded {
    /// Its identity and counters.
    pub fn generation(&self) -> &Arc<Generation> {
        match self {
            Self::Balancer(b) => &b.generation,
            Self::Router(r) => &r.generation,
            Self::Discovery(d) => &d.generation,
        }
    }
}

/// Loads plugins. Cheap to clone.
#[derive(Clone)]
pub struct Loader {
    pub(crate) engine: Engine,
    balancers: Arc<Linker<State>>,
    routers: Arc<Linker<State>>,
    discoveries: Arc<Linker<DiscoveryState>>,
    network: Network,
    admin: Option<SocketAddr>,
    cache: Option<Arc<CodeCache>>,
    recorder: Arc<Recorder>,
}

impl Loader {
    /// Makes the engine. Do it once a process.
    pub fn new() -> Result<Self, wasmtime::Error> {
        Self::on(crate::engine::engine(None)?, None)
    }

    /// The same, and keeps compiled code in this folder for the next start. Without it, where the folder cannot be had.
    pub fn keeping(folder: &Path) -> Result<Self, wasmtime::Error> {
        let cache = CodeCache::open(folder).inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept: the next start compiles all plugins anew");
        });
        let cache = cache.ok();
        Self::on(crate::engine::engine(cache.as_ref().map(CodeCache::wasmtime))?, cache)
    }

    /// The same as [`Loader::new`] on an engine of its own that counts the instructions guests carry out, which makes them slower.
    pub fn metered() -> Result<Self, wasmtime::Error> {
        Self::on(crate::engine::metered()?, None)
    }

    fn on(engine: Engine, cache: Option<CodeCache>) -> Result<Self, wasmtime::Error> {
        let mut balancers = Linker::new(&engine);
        balancer::guest::add_to_linker(&mut balancers)?;
        let mut routers = Linker::new(&engine);
        router::guest::add_to_linker(&mut routers)?;
        let mut discoveries = Linker::new(&engine);
        discovery::add_to_linker(&mut discoveries)?;
        let (network, admin, recorder) = (Network::Online, None, Arc::default());
        let (balancers, routers, discoveries) = (balancers.into(), routers.into(), discoveries.into());
        Ok(Self { engine, balancers, routers, discoveries, network, admin, cache: cache.map(Arc::new), recorder })
    }

    /// How many plugins' code was found compiled, and how many were compiled and kept, since the start.
    pub fn compiled(&self) -> Compiled {
        let (found, anew) = self.cache.as_ref().map_or((0, 0), |cache| cache.counts());
        Compiled { found, anew }
    }

    /// The same, whose balancers' picks this one may sample.
    #[must_use]
    pub fn recorded_by(self, recorder: Arc<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// The same, whose discovery plugins must not reach the admin API, which listens there.
    #[must_use]
    pub fn guarding(self, admin: SocketAddr) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// The same, whose discovery plugins send nothing; what they could not find for that reason is no fault.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { network: Network::Offline, ..self }
    }

    /// Loads one version of a plugin. `number` is the generation's, counted by the caller for each plugin. Takes tens of milliseconds of CPU: not on a worker.
    pub fn load(
        &self,
        plugin: &str,
        number: u64,
        bytes: &[u8],
        kind: PluginKind,
        limits: &Limits,
    ) -> Result<(Loaded, Description), PluginError> {
        self.load_with(plugin, number, bytes, kind, limits, Commons::new(limits))
    }

    /// The same of whatever kind it is.
    pub fn load_any(&self, plugin: &str, bytes: &[u8], limits: &Limits) -> Result<(Loaded, Description), PluginError> {
        self.load_as(plugin, 1, bytes, None, limits, Commons::new(limits))
    }

    /// The same as [`Loader::load`], with what its instances have in common with those of other generations.
    pub fn load_with(
        &self,
        plugin: &str,
        number: u64,
        bytes: &[u8],
        kind: PluginKind,
        limits: &Limits,
        commons: Commons,
    ) -> Result<(Loaded, Description), PluginError> {
        self.load_as(plugin, number, bytes, Some(kind), limits, commons)
    }

    fn load_as(
        &self,
        plugin: &str,
        number: u64,
        bytes: &[u8],
        wanted: Option<PluginKind>,
        limits: &Limits,
        commons: Commons,
    ) -> Result<(Loaded, Description), PluginError> {
        let name: Arc<str> = plugin.into();
        let fail = |stage, reason: String| PluginError { plugin: name.clone(), stage, reason };
        let component = self.compile(bytes).map_err(|(stage, reason)| fail(stage, reason))?;
        let (kind, contract) = version::of(&self.engine, &component).map_err(|reason| fail(Stage::World, reason))?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != kind) {
            return Err(fail(Stage::World, format!("it is a {kind}, and a {wanted} is wanted")));
        }
        let state = || State::new(name.clone(), limits.clone(), Commons::new(limits));
        // All of it: the cause alone does not name the import.
        let world = |e: wasmtime::Error| fail(Stage::World, cut(format!("{e:#}")));
        let start = |state: &State, e| explain(state, Stage::Instantiate, &e);
        let mut store = state().store(&self.engine);
        arm_configure(&mut store);
        let describe = |state: &State, e| explain(state, Stage::Describe, &e);
        let generation = |description: &Description| {
            static NEXT: AtomicU64 = AtomicU64::new(1);
            Arc::new(Generation {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                plugin: name.clone(),
                number,
                version: description.version.clone(),
                sha256: sha256(bytes),
                stats: GenerationStats::default(),
                commons: commons.clone(),
            })
        };
        match kind {
            PluginKind::Balancer => {
                let pre = balancer::guest::Pre::new(&self.balancers, &component, contract).map_err(world)?;
                let guest = pre.instantiate(&mut store).map_err(|e| start(store.data(), e))?;
                let (n, v, schema) = guest.describe(&mut store).map_err(|e| describe(store.data(), e))?;
                let description = description(n, v, kind, &schema).map_err(|r| fail(Stage::Describe, r))?;
                let made = WasmBalancer {
                    pre,
                    engine: self.engine.clone(),
                    limits: limits.clone(),
                    generation: generation(&description),
                    recorder: self.recorder.clone(),
                };
                Ok((Loaded::Balancer(made.into()), description))
            }
            PluginKind::Router => {
                let pre = router::guest::Pre::new(&self.routers, &component, contract).map_err(world)?;
                let guest = pre.instantiate(&mut store).map_err(|e| start(store.data(), e))?;
                let (n, v, schema) = guest.describe(&mut store).map_err(|e| describe(store.data(), e))?;
                let description = description(n, v, kind, &schema).map_err(|r| fail(Stage::Describe, r))?;
                let made = WasmRouter { pre, engine: self.engine.clone(), limits: limits.clone(), generation: generation(&description) };
                Ok((Loaded::Router(made.into()), description))
            }
            PluginKind::Discovery => {
                let pre = discovery::Pre::new(&self.discoveries, &component, contract).map_err(world)?;
                let mut made = WasmDiscovery {
                    pre,
                    engine: self.engine.clone(),
                    limits: limits.clone(),
                    egress: Arc::new(Egress {
                        hosts: limits.allowed_hosts.clone(),
                        files: limits.allowed_files.clone(),
                        admin: self.admin,
                        network: self.network,
                    }),
                    generation: generation(&Description {
                        name: String::new(),
                        version: String::new(),
                        kind,
                        config_schema: serde_json::Value::Null,
                    }),
                };
                let (n, v, schema) = made.describe()?;
                let description = description(n, v, kind, &schema).map_err(|r| fail(Stage::Describe, r))?;
                made.generation = generation(&description);
                Ok((Loaded::Discovery(made.into()), description))
            }
        }
    }

    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<Component, (Stage, String)> {
        let component = componentize(bytes)?;
        let compile = || Component::new(&self.engine, component).map_err(|e| format!("{e:#}"));
        let compiled = match &self.cache {
            Some(cache) => cache.around(compile),
            None => compile(),
        };
        compiled.map_err(|reason| (Stage::Compile, reason))
    }
}

/// Wraps a core module, as `cargo build` leaves it, into a component; a component stays as it is.
pub fn componentize(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, (Stage, String)> {
    if bytes.len() > MAX_PLUGIN_BYTES {
        return Err((Stage::Read, format!("{} bytes are more than the {MAX_PLUGIN_BYTES} a plugin may have", bytes.len())));
    }
    let compile = |reason: String| (Stage::Compile, reason);
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(bytes.into()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            // First: the encoder trusts its input's sections, and panics on a truncated file.
            wasmparser::validate(bytes).map_err(|e| compile(format!("not a valid module: {e}")))?;
            wit_component::ComponentEncoder::default()
                .validate(true)
                .module(bytes)
                .and_then(|encoder| encoder.encode())
                .map(Into::into)
                .map_err(|e| compile(format!("not a plugin: {e:#}")))
        }
        _ => Err(compile("not WebAssembly: it does not begin with `\\0asm` and a version".to_owned())),
    }
}

/// Hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn description(name: String, version: String, kind: PluginKind, schema: &str) -> Result<Description, String> {
    for (what, bytes, most) in [("name", name.len(), MAX_NAME), ("version", version.len(), MAX_NAME), ("schema", schema.len(), MAX_SCHEMA)]
    {
        if bytes > most {
            return Err(format!("its {what} has {bytes} bytes, and may have {most}"));
        }
    }
    let config_schema = serde_json::from_str(schema).map_err(|e| format!("its configuration schema is not JSON: {e}"))?;
    Ok(Description { name, version, kind, config_schema })
}
