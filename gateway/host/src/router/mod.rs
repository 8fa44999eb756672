//! Routers over wasm, as [`crate::balancer`] has balancers: there is a `table` resource for each configured table. [`guest`] is the component.

pub(crate) mod guest;
mod sessions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use rustc_hash::FxBuildHasher;
use sluicegate_model::config_text::{ConfigText, RuleText, Splice};
use sluicegate_model::plugin::{Generation, Limits, PluginError, PluginKind, Router, RouterGeneration, Stage};
use sluicegate_model::pool::unique;
use sluicegate_model::route::{Decision, Interests, ListenerInfo, RouteTable, RouteView, Trial};
use sluicegate_model::shared::Shared;
use wasmtime::component::{Linker, ResourceAny};
use wasmtime::{Engine, Store};

use crate::kind::{Description, Kind, Loading, not_described, not_started};
use crate::state::{State, arm_call, arm_configure, cut, explain};
use guest::{Changed, Guest, MAX_RULES, Pre, Static};

/// So many rules are given at once to a guest that can change its table.
const PORTION: usize = 256;
/// Of so many rules the instance that a table was tried in is kept, so that what changes can be tried without the rest.
const LARGE: usize = 256;
/// So many such instances are kept at a time: they take places of those that all plugins have together.
const MOST_KEPT: usize = 16;

/// An instance in which a table was tried.
struct Tried {
    live: Live,
    resource: ResourceAny,
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
        let mut live = self.start(None, Shared::new(&self.limits))?;
        let (resource, made) = live.configure(config, listener)?;
        let keeps =
            live.guest.changes_tables() && config.rules().is_some_and(|rules| rules.len() >= LARGE && rules.len() == made.rules.len());
        let (id, rules) = (unique(), made.rules.into_iter().map(Arc::new).collect());
        let (config, listener, interests) = (config.clone(), listener.clone(), made.interests);
        let mut table = RouteTable { id, config, listener, rules, interests, trial: Trial::default() };
        live.try_out(resource, &table)?;
        if let Some(place) = keeps.then(Place::take).flatten() {
            table.trial = Trial::at(Box::new(Tried { live, resource, _place: place }));
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
        let description = loading.description(Self::KIND, said)?;
        let (engine, generation) = (loading.environment.engine.clone(), loading.generation(&description.version));
        Ok((Self { pre, engine, limits: loading.limits.clone(), generation }, description))
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
        let Tried { live, resource, .. } = &mut *tried;
        arm_configure(&mut live.store);
        let changed = Changed { splices: &splices, rules: after, listener: &before.listener };
        let Static { rules: inserted, interests } = live.guest.change(&mut live.store, *resource, changed).ok()?.ok()??;
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
        live.try_out(*resource, &table).ok()?;
        table.trial = Trial::at(tried);
        Some(table)
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
    tables: HashMap<u64, Held, FxBuildHasher>,
}

/// A table of the guest's.
struct Held {
    resource: ResourceAny,
    /// What it is a table of. Another one with the same id is what it can be changed to.
    of: Arc<RouteTable>,
    /// What it reads, in the guest's own order.
    interests: Interests,
}

impl Live {
    fn failed(&self, stage: Stage, reason: String) -> PluginError {
        PluginError { plugin: self.store.data().plugin.clone(), stage, reason: cut(reason) }
    }

    /// A table, all of it within one configure deadline.
    fn configure(&mut self, config: &ConfigText, listener: &ListenerInfo) -> Result<(ResourceAny, Static), PluginError> {
        arm_configure(&mut self.store);
        if let Some(made) = self.configure_by_portions(config, listener)? {
            return Ok(made);
        }
        let configured = self.guest.configure(&mut self.store, config, listener);
        configured.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.map_err(|reason| self.failed(Stage::Configure, reason))
    }

    /// Many rules are given in portions to a guest that can change its table: what it needs to read them all at once it would keep. None: it cannot, or it refuses
    /// some, and is to see all at once to say what is wrong.
    fn configure_by_portions(
        &mut self,
        config: &ConfigText,
        listener: &ListenerInfo,
    ) -> Result<Option<(ResourceAny, Static)>, PluginError> {
        let portions = |rules: &&[RuleText]| (PORTION + 1..=MAX_RULES).contains(&rules.len()) && self.guest.changes_tables();
        let Some(rules) = config.rules().filter(portions) else { return Ok(None) };
        let Some(first) = config.with_rules(std::iter::once(0..PORTION)) else { return Ok(None) };
        let configured = self.guest.configure(&mut self.store, &first, listener);
        let configured = configured.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?;
        let Ok((resource, mut made)) = configured else { return Ok(None) };
        for at in (PORTION..rules.len()).step_by(PORTION) {
            let splice = Splice { at, removed: 0, inserted: at..rules.len().min(at + PORTION) };
            let changed = Changed { splices: &[splice], rules, listener };
            // Its rules may be others than those of the list.
            let more = if made.rules.len() == at { self.change(resource, changed)? } else { None };
            let Some(more) = more else {
                self.drop_table(resource)?;
                return Ok(None);
            };
            made.rules.extend(more.rules);
            made.interests = more.interests;
        }
        Ok(Some((resource, made)))
    }

    /// Changes a table; none: it cannot, or refuses to.
    fn change(&mut self, resource: ResourceAny, changed: Changed<'_>) -> Result<Option<Static>, PluginError> {
        let changed = self.guest.change(&mut self.store, resource, changed);
        Ok(changed.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.ok().flatten())
    }

    fn drop_table(&mut self, resource: ResourceAny) -> Result<(), PluginError> {
        resource.resource_drop(&mut self.store).map_err(|e| explain(self.store.data(), Stage::Configure, &e))
    }

    /// Has the guest hold a table.
    fn hold(&mut self, table: &Arc<RouteTable>) -> Result<(), PluginError> {
        if self.tables.get(&table.id).is_some_and(|held| Arc::ptr_eq(&held.of, table)) {
            return Ok(());
        }
        let (resource, interests) = match self.tables.remove(&table.id) {
            Some(held) => match self.become_of(&held, table)? {
                Some(interests) => (held.resource, interests),
                None => {
                    self.drop_table(held.resource)?;
                    let (resource, made) = self.configure(&table.config, &table.listener)?;
                    (resource, made.interests)
                }
            },
            None => {
                let (resource, made) = self.configure(&table.config, &table.listener)?;
                (resource, made.interests)
            }
        };
        self.tables.insert(table.id, Held { resource, of: table.clone(), interests });
        Ok(())
    }

    /// Changes a table to another one by what is different. Returns what it reads then; none: it is to be configured anew.
    fn become_of(&mut self, held: &Held, table: &RouteTable) -> Result<Option<Interests>, PluginError> {
        let (Some(splices), Some(rules)) = (table.config.changes_since(&held.of.config), table.config.rules()) else { return Ok(None) };
        arm_configure(&mut self.store);
        let changed = self.change(held.resource, Changed { splices: &splices, rules, listener: &table.listener })?;
        Ok(changed.map(|changed| changed.interests))
    }

    /// Tried before any traffic is: a plain request, and one with everything it said it reads.
    fn try_out(&mut self, resource: ResourceAny, table: &RouteTable) -> Result<(), PluginError> {
        let headers: HeaderMap = table.interests.headers.iter().map(|name| (name.clone(), HeaderValue::from_static("trial"))).collect();
        for headers in [HeaderMap::new(), headers] {
            let view = RouteView {
                method: "GET",
                host: "trial.invalid",
                path: "/trial",
                query: "",
                headers: &headers,
                client: [127, 0, 0, 1].into(),
            };
            arm_call(&mut self.store);
            let routed = self.guest.route(&mut self.store, resource, (table, &table.interests), &view);
            // It has the time of a route.
            let failed = |e: &wasmtime::Error| PluginError { stage: Stage::Trial, ..explain(self.store.data(), Stage::Route, e) };
            let routed = routed.map_err(|e| failed(&e))?;
            routed.map_err(|reason| self.failed(Stage::Trial, reason))?;
        }
        Ok(())
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

    fn try_route(&mut self, table: &Arc<RouteTable>, view: &RouteView<'_>) -> Result<Decision, PluginError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Box::new(self.router.start(self.seed, self.shared.clone())?),
        };
        live.hold(table)?;
        arm_call(&mut live.store);
        let Live { store, guest, tables } = &mut *live;
        let Some(held) = tables.get(&table.id) else { return Err(live.failed(Stage::Route, "its table is gone".to_owned())) };
        let routed = guest.route(store, held.resource, (table, &held.interests), view);
        let decision = routed.map_err(|e| explain(live.store.data(), Stage::Route, &e))?;
        let decision = decision.map_err(|reason| live.failed(Stage::Route, reason))?;
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
            if let Some(held) = live.tables.remove(&id) {
                arm_configure(&mut live.store);
                if live.drop_table(held.resource).is_err() {
                    self.live = None;
                    return;
                }
            }
        }
    }
}
