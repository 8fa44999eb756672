//! Routers over wasm, as [`crate::balancer`] has balancers: there is a `table` resource for each configured table. [`guest`] is the component.

pub(crate) mod guest;
mod live;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sluicegate_model::config_text::{ConfigText, Splice};
use sluicegate_model::plugin::{Generation, Limits, PluginError, PluginKind, Router, RouterGeneration, Stage};
use sluicegate_model::pool::unique;
use sluicegate_model::route::{Decision, ListenerInfo, RouteTable, RouteView, Trial};
use sluicegate_model::shared::Shared;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::direct::Handle;
use crate::kind::{Description, Kind, Loading, not_described, not_started};
use crate::state::{State, arm_configure, explain};
use guest::{Changed, MAX_RULES, Pre, Static};
use live::{Live, Running};

/// Of so many rules the instance that a table was tried in is kept, so that what changes can be tried without the rest.
const LARGE: usize = 256;
/// So many such instances are kept at a time: they take places of those that all plugins have together.
const MOST_KEPT: usize = 16;

/// How an instance is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    /// As a component, which tells what is static of a table.
    AsComponent,
    /// As workers do.
    ByWorkers,
}

/// An instance in which a table was tried.
struct Tried {
    running: Running,
    resource: Handle,
    _place: Place,
}

/// One of [`MOST_KEPT`], until it is dropped.
struct Place;

static PLACES: AtomicUsize = AtomicUsize::new(MOST_KEPT);

impl Place {
    fn take() -> Option<Self> {
        PLACES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES.fetch_add(1, Ordering::Relaxed);
    }
}

/// One generation of a router.
pub struct WasmRouter {
    pub(crate) pre: Pre,
    /// What workers call, if that is the router's core module.
    direct: Option<wasmtime::InstancePre<State>>,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) generation: Arc<Generation>,
}

impl RouterGeneration for WasmRouter {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn configure(&self, config: &ConfigText, listener: &ListenerInfo) -> Result<RouteTable, PluginError> {
        // What it writes on trial must not reach those that serve.
        let mut running = self.start(None, Shared::new(&self.limits), Called::AsComponent)?;
        let (resource, made) = running.configure(config, listener)?;
        let keeps =
            running.guest.changes_tables() && config.rules().is_some_and(|rules| rules.len() >= LARGE && rules.len() == made.rules.len());
        // They are moved: a list that is made in the place of the other one would keep that one's memory, megabytes for thousands of rules.
        let mut rules = Vec::with_capacity(made.rules.len());
        rules.extend(made.rules.into_iter().map(Arc::new));
        let id = unique();
        let (config, listener, interests) = (config.clone(), listener.clone(), made.interests);
        let mut table = RouteTable { id, config, listener, rules, interests, trial: Trial::default() };
        running.try_out(resource, &table)?;
        // Workers call it in another way. Of a large table that would double the time of a change.
        if self.direct.is_some() && table.rules.len() < LARGE {
            let mut running = self.start(None, Shared::new(&self.limits), Called::ByWorkers)?;
            let (resource, _) = running.configure(&table.config, &table.listener)?;
            running.try_out(resource, &table)?;
        }
        if let Some(place) = keeps.then(Place::take).flatten() {
            table.trial = Trial::at(Box::new(Tried { running, resource, _place: place }));
        }
        Ok(table)
    }

    fn reconfigure(&self, before: &RouteTable, config: &ConfigText) -> Result<RouteTable, PluginError> {
        match self.changed(before, config) {
            Some(table) => Ok(table),
            // It may be right all the same, and if not this says all that is wrong.
            None => self.configure(config, &before.listener),
        }
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
        let direct = guest.direct(loading, &mut store);
        let description = loading.description(Self::KIND, said, direct.as_ref().map(drop).map_err(Clone::clone))?;
        let (engine, generation) = (loading.environment.engine.clone(), loading.generation(&description.version));
        Ok((Self { pre, direct: direct.ok(), engine, limits: loading.limits.clone(), generation }, description))
    }

    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn trial(&self, config: &ConfigText, listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError> {
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

    /// The table that one becomes by what is different in its configuration; none: it is to be configured anew.
    fn changed(&self, before: &RouteTable, config: &ConfigText) -> Option<RouteTable> {
        let splices = config.changes_since(&before.config)?;
        let after = config.rules().filter(|rules| rules.len() <= MAX_RULES)?;
        let mut tried = before.trial.take()?.downcast::<Tried>().ok()?;
        let Tried { running, resource, .. } = &mut *tried;
        let Running { store, guest } = running;
        arm_configure(store);
        let changed = Changed { splices: &splices, rules: after, listener: &before.listener };
        let Static { rules: inserted, interests, .. } = guest.change(store, *resource, changed).ok()?.ok()??;
        let mut inserted = inserted.into_iter().map(Arc::new);
        let mut rules = Vec::with_capacity(after.len());
        let mut next = 0;
        for Splice { at, removed, inserted: range } in &splices {
            rules.extend_from_slice(before.rules.get(next..*at)?);
            rules.extend(inserted.by_ref().take(range.len()));
            next = at + removed;
        }
        rules.extend_from_slice(before.rules.get(next..)?);
        let (listener, trial) = (before.listener.clone(), Trial::default());
        let mut table = RouteTable { id: before.id, config: config.clone(), listener, rules, interests, trial };
        running.try_out(*resource, &table).ok()?;
        table.trial = Trial::at(tried);
        Some(table)
    }

    fn instance(&self, seed: Option<u64>, shared: Shared) -> Instance {
        Instance { router: self.clone_parts(), shared, seed, live: None, calls: 0 }
    }

    fn clone_parts(&self) -> Self {
        Self {
            pre: self.pre.clone(),
            direct: self.direct.clone(),
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            generation: self.generation.clone(),
        }
    }

    fn start(&self, seed: Option<u64>, shared: Shared, called: Called) -> Result<Running, PluginError> {
        let state = State::new(self.generation.plugin.clone(), self.limits.clone(), shared);
        let mut store = match seed {
            Some(seed) => state.seeded(seed),
            None => state,
        }
        .store(&self.engine);
        arm_configure(&mut store);
        let guest = match (&self.direct, called) {
            (Some(direct), Called::ByWorkers) => guest::start(direct, &mut store),
            _ => self.pre.instantiate(&mut store),
        };
        let guest = guest.map_err(|e| explain(store.data(), Stage::Instantiate, &e))?;
        Ok(Running { store, guest })
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
        self.live.as_ref().map_or(0, |live| live.running.store.data().memory)
    }

    /// What is left of the fuel, which each instruction takes from; only under [`crate::Loader::metered`].
    pub fn fuel(&self) -> Option<u64> {
        self.live.as_ref()?.running.store.get_fuel().ok()
    }

    fn try_route(&mut self, table: &Arc<RouteTable>, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Box::new(Live::of(self.router.start(self.seed, self.shared.clone(), Called::ByWorkers)?)),
        };
        let decision = live.route(table, view)?;
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
            let memory = self.live.as_ref().map_or(0, |live| live.running.store.data().memory);
            stats.memory.fetch_max(memory as u64, Ordering::Relaxed);
        }
        routed
    }

    fn retain(&mut self, alive: &dyn Fn(u64) -> bool) {
        if self.live.as_mut().is_some_and(|live| live.retain(alive).is_err()) {
            self.live = None;
        }
    }
}
