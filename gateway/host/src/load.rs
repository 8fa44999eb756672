//! From bytes to a generation: a plugin is made a component, compiled, checked against its world, asked what it is, and tried.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_model::plugin::{Limits, PluginError, PluginKind, Stage};
use sluicegate_model::record::Recorder;
use sluicegate_model::shared::Shared;
use sluicegate_model::status::Compiled;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::background;
use crate::cache::CodeCache;
use crate::direct;
use crate::engine::EngineError;
use crate::kind::{Environment, Loading};
use crate::kinds::{INTERFACES, Linkers};
use crate::version;
use crate::wasi::egress::Network;

pub use crate::digest::sha256;
pub use crate::kind::Description;
pub use crate::kinds::Loaded;

/// The interfaces of which core modules are called by themselves.
const DIRECT: [&str; 2] = [direct::BALANCING, direct::ROUTING];

/// The largest size of a plugin's file, in bytes.
pub const MAX_PLUGIN_BYTES: usize = 32 << 20;

/// Loads plugins. It is cheap to clone.
#[derive(Clone)]
pub struct Loader {
    pub(crate) environment: Environment,
    linkers: Arc<Linkers>,
    cache: Option<Arc<CodeCache>>,
    /// The least time that a call of a plugin has.
    patience: Duration,
}

impl Loader {
    /// Makes a loader with its engine. A process does this once.
    pub fn new() -> Result<Self, EngineError> {
        Self::on(crate::engine::engine(None)?, None)
    }

    /// Makes a loader that keeps compiled code in this folder for the next start. If the folder cannot be used, nothing is kept.
    pub fn keeping(folder: &Path) -> Result<Self, EngineError> {
        let cache = CodeCache::open(folder).inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept: the next start compiles all plugins anew");
        });
        let cache = cache.ok().map(Arc::new);
        Self::on(crate::engine::engine(cache.as_ref().map(|cache| cache.wasmtime()))?, cache)
    }

    /// A loader like this one, on an engine of its own that counts the instructions guests carry out, which makes them slower.
    pub fn metered(&self) -> Result<Self, EngineError> {
        Self::on(crate::engine::metered(self.cache.as_ref().map(|cache| cache.wasmtime()))?, self.cache.clone())
    }

    /// A loader like this one that has all plugins called as components, by wasmtime alone: to compare, and to measure.
    #[must_use]
    pub fn as_components(&self) -> Self {
        Self { environment: Environment { direct: None, ..self.environment.clone() }, ..self.clone() }
    }

    fn on(engine: Engine, cache: Option<Arc<CodeCache>>) -> Result<Self, EngineError> {
        let linkers = Arc::new(Linkers::new(&engine)?);
        let direct = Some(Arc::new(direct::linker(&engine)?));
        let environment = Environment { engine, direct, network: Network::Online, admin: None, recorder: Arc::default() };
        Ok(Self { environment, linkers, cache, patience: Duration::ZERO })
    }

    /// How many plugins were found compiled, and how many were compiled and kept, since the start.
    pub fn compiled(&self) -> Compiled {
        let (found, anew) = self.cache.as_ref().map_or((0, 0), |cache| cache.counts());
        Compiled { found, anew }
    }

    /// With a recorder, which may sample the picks of balancers.
    #[must_use]
    pub fn recorded_by(mut self, recorder: Arc<Recorder>) -> Self {
        self.environment.recorder = recorder;
        self
    }

    /// With the address of the admin API, which discovery plugins must not reach.
    #[must_use]
    pub fn guarding(mut self, admin: SocketAddr) -> Self {
        self.environment.admin = Some(admin);
        self
    }

    /// Without a network for discovery plugins. What they cannot find for that reason is no fault.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.environment.network = Network::Offline;
        self
    }

    /// With a second for each call of a plugin at least: for looks at a configuration, in which nobody waits for an answer, and which may have little of a machine.
    #[must_use]
    pub fn unhurried(mut self) -> Self {
        self.patience = Duration::from_secs(1);
        self
    }

    /// Loads one version of a plugin. `number` is the generation's; the caller counts generations for each plugin. It takes tens of milliseconds of CPU, so it
    /// must not run on a worker.
    pub fn load(
        &self,
        plugin: &str,
        number: u64,
        bytes: &[u8],
        kind: PluginKind,
        limits: &Limits,
    ) -> Result<(Loaded, Description), PluginError> {
        self.load_with(plugin, number, bytes, kind, limits, Shared::new(limits))
    }

    /// Loads one version of a plugin of any kind.
    pub fn load_any(&self, plugin: &str, bytes: &[u8], limits: &Limits) -> Result<(Loaded, Description), PluginError> {
        self.load_as(plugin, 1, bytes, None, limits, Shared::new(limits))
    }

    /// Does what [`Loader::load`] does, with what the instances share with those of other generations.
    pub fn load_with(
        &self,
        plugin: &str,
        number: u64,
        bytes: &[u8],
        kind: PluginKind,
        limits: &Limits,
        shared: Shared,
    ) -> Result<(Loaded, Description), PluginError> {
        self.load_as(plugin, number, bytes, Some(kind), limits, shared)
    }

    fn load_as(
        &self,
        plugin: &str,
        number: u64,
        bytes: &[u8],
        wanted: Option<PluginKind>,
        limits: &Limits,
        shared: Shared,
    ) -> Result<(Loaded, Description), PluginError> {
        let name: Arc<str> = plugin.into();
        let fail = |stage, reason: String| PluginError { plugin: name.clone(), stage, reason };
        let component = self.compile(bytes).map_err(|(stage, reason)| fail(stage, reason))?;
        let (kind, contract) =
            version::of(&self.environment.engine, &component, INTERFACES).map_err(|reason| fail(Stage::World, reason))?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != kind) {
            return Err(fail(Stage::World, format!("it is a {kind}, and a {wanted} is wanted")));
        }
        let sha256 = sha256(bytes);
        let limits = &Limits { deadline: limits.deadline.max(self.patience), ..limits.clone() };
        let loading =
            Loading { environment: &self.environment, component: &component, contract, name: name.clone(), number, sha256, limits, shared };
        self.linkers.load(kind, &loading)
    }

    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<Component, (Stage, String)> {
        let component = direct::expose(componentize(bytes)?, &DIRECT);
        let component = &component;
        let compile = || background::compile(|| Component::new(&self.environment.engine, component)).map_err(|e| format!("{e:#}"));
        let compiled = match &self.cache {
            Some(cache) => cache.around(compile),
            None => compile(),
        };
        compiled.map_err(|reason| (Stage::Compile, reason))
    }
}

/// Makes a component of a core module, as `cargo build` leaves it. A component stays as it is.
pub fn componentize(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, (Stage, String)> {
    if bytes.len() > MAX_PLUGIN_BYTES {
        return Err((Stage::Read, format!("{} bytes are more than the {MAX_PLUGIN_BYTES} a plugin may have", bytes.len())));
    }
    let compile = |reason: String| (Stage::Compile, reason);
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(bytes.into()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            // This comes first, as the encoder trusts its input's sections, and panics on a truncated file.
            wasmparser::validate(bytes).map_err(|e| compile(format!("not a valid module: {e}")))?;
            wit_component::ComponentEncoder::default()
                .validate(true)
                .module(bytes)
                .and_then(|mut encoder| encoder.encode())
                .map(Into::into)
                .map_err(|e| compile(format!("not a plugin: {e:#}")))
        }
        _ => Err(compile("not WebAssembly: it does not begin with `\\0asm` and a version".to_owned())),
    }
}
