//! Routers over wasm, as [`crate::balancer`] has balancers: there is a `table` resource for each configured table. [`guest`] is the component.

pub(crate) mod guest;
mod sessions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use rustc_hash::FxBuildHasher;
use sluicegate_model::plugin::{Generation, Limits, PluginError, PluginKind, Router, RouterGeneration, Stage};
use sluicegate_model::route::{Decision, ListenerInfo, RouteTable, RouteView};
use sluicegate_model::shared::Shared;
use wasmtime::component::{Linker, ResourceAny};
use wasmtime::{Engine, Store};

use crate::kind::{Description, Kind, Loading, not_described, not_started};
use crate::state::{State, arm_call, arm_configure, cut, explain};
use guest::{Guest, Pre};

/// One generation of a router.
pub struct WasmRouter {
    pub(crate) pre: Pre,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) generation: Arc<Generation>,
}

impl RouterGeneration for WasmRouter {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn configure(&self, config: &str, listener: &ListenerInfo) -> Result<RouteTable, PluginError> {
        // What the plugin writes on trial must not reach the generations that serve.
        let shared = Shared::new(&self.limits);
        let mut live = self.start(None, shared.clone())?;
        let (resource, table) = live.configure(config, listener)?;
        let table = Arc::new(table);
        // The table is tried as it is: with ten thousand rules, configuring once more takes as long again.
        live.tables.insert(table.id, resource);
        // It is tried before it gets traffic: with a plain request, and with one that has everything the router says it reads.
        let headers: HeaderMap = table.interests.headers.iter().map(|name| (name.clone(), HeaderValue::from_static("trial"))).collect();
        let mut trial = Instance { live: Some(Box::new(live)), ..self.instance(None, shared) };
        for headers in [HeaderMap::new(), headers] {
            let view = RouteView {
                method: "GET",
                host: "trial.invalid",
                path: "/trial",
                query: "",
                headers: &headers,
                client: [127, 0, 0, 1].into(),
            };
            trial.try_route(&table, &view).map_err(|e| PluginError { stage: Stage::Trial, ..e })?;
        }
        drop(trial);
        Arc::into_inner(table).ok_or_else(|| PluginError {
            plugin: self.generation.plugin.clone(),
            stage: Stage::Configure,
            reason: "the table is still in use after its trial".to_owned(),
        })
    }

    fn instantiate(&self) -> Result<Box<dyn Router>, PluginError> {
        Ok(Box::new(self.instance(None, self.generation.shared.clone())))
    }
}

impl Kind for WasmRouter {
    const KIND: PluginKind = PluginKind::Router;
    const INTERFACE: &'static str = "routing";
    type State = State;

    fn link(linker: &mut Linker<State>) -> Result<(), wasmtime::Error> {
        guest::add_to_linker(linker)
    }

    fn load(loading: &Loading<'_>, linker: &Linker<State>) -> Result<(Self, Description), PluginError> {
        let pre = Pre::new(linker, loading.component, loading.contract).map_err(|e| loading.misfit(&e))?;
        let mut store = loading.store();
        let guest = pre.instantiate(&mut store).map_err(|e| not_started(store.data(), &e))?;
        let said = guest.describe(&mut store).map_err(|e| not_described(store.data(), &e))?;
        let description = loading.description(Self::KIND, said)?;
        let (engine, generation) = (loading.environment.engine.clone(), loading.generation(&description.version));
        Ok((Self { pre, engine, limits: loading.limits.clone(), generation }, description))
    }

    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn trial(&self, config: &str, listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError> {
        listener.map(|listener| self.configure(config, listener).map(Arc::new)).transpose()
    }
}

impl WasmRouter {
    /// The limits of its instances.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// An instance whose random bits follow from `seed`, and that shares nothing.
    pub fn seeded(&self, seed: u64) -> Instance {
        self.seeded_with(seed, Shared::new(&self.limits))
    }

    /// An instance whose random bits follow from `seed`, and that has this in common with others.
    pub fn seeded_with(&self, seed: u64, shared: Shared) -> Instance {
        self.instance(Some(seed), shared)
    }

    fn instance(&self, seed: Option<u64>, shared: Shared) -> Instance {
        Instance { router: self.clone_parts(), shared, seed, live: None, calls: 0 }
    }

    fn clone_parts(&self) -> Self {
        Self { pre: self.pre.clone(), engine: self.engine.clone(), limits: self.limits.clone(), generation: self.generation.clone() }
    }

    fn start(&self, seed: Option<u64>, shared: Shared) -> Result<Live, PluginError> {
        let state = State::new(self.generation.plugin.clone(), self.limits.clone(), shared);
        let mut store = match seed {
            Some(seed) => state.seeded(seed),
            None => state,
        }
        .store(&self.engine);
        arm_configure(&mut store);
        let guest = self.pre.instantiate(&mut store).map_err(|e| explain(store.data(), Stage::Instantiate, &e))?;
        Ok(Live { store, guest, tables: HashMap::default() })
    }
}

struct Live {
    store: Store<State>,
    guest: Guest,
    tables: HashMap<u64, ResourceAny, FxBuildHasher>,
}

impl Live {
    fn configure(&mut self, config: &str, listener: &ListenerInfo) -> Result<(ResourceAny, RouteTable), PluginError> {
        arm_configure(&mut self.store);
        let configured = self.guest.configure(&mut self.store, config, listener);
        configured.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.map_err(|reason| PluginError {
            plugin: self.store.data().plugin.clone(),
            stage: Stage::Configure,
            reason: cut(reason),
        })
    }

    fn table(&mut self, table: &RouteTable) -> Result<ResourceAny, PluginError> {
        if let Some(resource) = self.tables.get(&table.id) {
            return Ok(*resource);
        }
        let (resource, _) = self.configure(&table.config, &table.listener)?;
        self.tables.insert(table.id, resource);
        Ok(resource)
    }
}

/// One worker's instance.
pub struct Instance {
    router: WasmRouter,
    shared: Shared,
    /// The seed of its random bits; none: they are drawn from the system.
    seed: Option<u64>,
    /// The live part. It is taken out for each call, so that a failure drops it; the box makes that cheap.
    live: Option<Box<Live>>,
    calls: u64,
}

impl Instance {
    /// The guest's linear memory, in bytes; 0 before the first call and after a failure.
    pub fn memory(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.store.data().memory)
    }

    /// What is left of the fuel, which each instruction takes from; only under [`crate::Loader::metered`].
    pub fn fuel(&self) -> Option<u64> {
        self.live.as_ref()?.store.get_fuel().ok()
    }

    fn try_route(&mut self, table: &RouteTable, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Box::new(self.router.start(self.seed, self.shared.clone())?),
        };
        let resource = live.table(table)?;
        arm_call(&mut live.store);
        let routed = live.guest.route(&mut live.store, resource, table, view);
        let decision = routed.map_err(|e| explain(live.store.data(), Stage::Route, &e))?.map_err(|reason| PluginError {
            plugin: self.router.generation.plugin.clone(),
            stage: Stage::Route,
            reason: cut(reason),
        })?;
        self.live = Some(live);
        Ok(decision)
    }
}

impl Router for Instance {
    fn route(&mut self, table: &Arc<RouteTable>, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        self.calls += 1;
        let begun = self.calls.is_multiple_of(64).then(Instant::now);
        let routed = self.try_route(table, view);
        let stats = &self.router.generation.stats;
        match &routed {
            Ok(_) => stats.succeeded(),
            Err(error) => {
                if stats.failed(error) {
                    tracing::error!(%error, generation = self.router.generation.number, "the generation failed too often and is quarantined");
                }
            }
        }
        if let Some(begun) = begun {
            stats.nanos.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            stats.timed.fetch_add(1, Ordering::Relaxed);
            let memory = self.live.as_ref().map_or(0, |live| live.store.data().memory);
            stats.memory.fetch_max(memory as u64, Ordering::Relaxed);
        }
        routed
    }

    fn retain(&mut self, alive: &dyn Fn(u64) -> bool) {
        let Some(live) = &mut self.live else { return };
        let dead: Vec<u64> = live.tables.keys().copied().filter(|id| !alive(*id)).collect();
        for id in dead {
            if let Some(table) = live.tables.remove(&id) {
                arm_configure(&mut live.store);
                if table.resource_drop(&mut live.store).is_err() {
                    self.live = None;
                    return;
                }
            }
        }
    }
}
