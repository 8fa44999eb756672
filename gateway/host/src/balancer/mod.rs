//! Balancers over wasm. [`guest`] is the component, and [`memory`] hands over what is known of pools. A worker's one instance serves all pools that are bound
//! to it: the guest keeps a `pool` resource for each, which is made at the first pick and told of changed endpoints before the next. After a failure the
//! store is thrown away, and made anew when it is needed.

pub(crate) mod guest;
mod memory;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Balancer, BalancerGeneration, Generation, Limits, PickContext, PluginError, PluginKind, Saved, Stage};
use sluicegate_model::pool::{Endpoint, Pool, unique};
use sluicegate_model::record::{Event, Recorded, Recorder, SMALL_POOL, Session};
use sluicegate_model::route::{ListenerInfo, RouteTable};
use sluicegate_model::shared::Shared;
use sluicegate_model::trace::ReportLine;
use wasmtime::component::Linker;
use wasmtime::{Engine, Store};

use crate::direct::Handle;
use crate::kind::{Description, Kind, Loading, not_described, not_started};
use crate::recorder::SampleRecorder;
use crate::state::{State, arm_call, arm_configure, cut, explain, processor_time};
use guest::{Guest, Outcome, Pre, Wants};

/// One generation of a balancer.
pub struct WasmBalancer {
    pub(crate) pre: Pre,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) generation: Arc<Generation>,
    pub(crate) recorder: Arc<Recorder>,
}

impl BalancerGeneration for WasmBalancer {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn instantiate(&self) -> Result<Box<dyn Balancer>, PluginError> {
        Ok(Box::new(self.instance(None, self.generation.shared.clone())))
    }
}

impl Kind for WasmBalancer {
    const KIND: PluginKind = PluginKind::Balancer;
    const INTERFACE: &'static str = "balancing";
    type State = State;

    fn link(linker: &mut Linker<State>) -> Result<(), wasmtime::Error> {
        guest::add_to_linker(linker)
    }

    fn load(loading: &Loading<'_>, linker: &Linker<State>) -> Result<(Self, Description), PluginError> {
        let pre = Pre::new(linker, loading.component, loading.contract).map_err(|e| loading.misfit(&e))?;
        let mut store = loading.store();
        let (guest, instance) = pre.start(&mut store).map_err(|e| not_started(store.data(), &e))?;
        let said = guest.describe(&mut store).map_err(|e| not_described(store.data(), &e))?;
        let (pre, component) = pre.directly(loading, &mut store, instance.as_ref());
        let description = loading.description(Self::KIND, said, component)?;
        let (engine, recorder) = (loading.environment.engine.clone(), loading.environment.recorder.clone());
        let generation = loading.generation(&description.version);
        Ok((Self { pre, engine, limits: loading.limits.clone(), generation, recorder }, description))
    }

    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn trial(&self, config: &ConfigText, _listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError> {
        WasmBalancer::trial(self, config).map(|()| None)
    }
}

impl WasmBalancer {
    /// The limits of its instances.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// An instance whose random bits follow from `seed`, and that shares nothing: the same calls get the same answers.
    pub fn seeded(&self, seed: u64) -> Instance {
        self.seeded_with(seed, Shared::new(&self.limits))
    }

    /// An instance whose random bits follow from `seed`, and that has this in common with others.
    pub fn seeded_with(&self, seed: u64, shared: Shared) -> Instance {
        self.instance(Some(seed), shared)
    }

    fn instance(&self, seed: Option<u64>, shared: Shared) -> Instance {
        Instance {
            pre: self.pre.clone(),
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            generation: self.generation.clone(),
            shared,
            recorder: self.recorder.clone(),
            number: unique(),
            seed,
            sample: None,
            sampled: None,
            inherited: HashMap::default(),
            live: None,
            calls: 0,
            reports: false,
        }
    }

    /// Picks from generated pools before the generation gets traffic: empty, one endpoint, a few, all of weight zero, many; growing and shrinking. Nothing is
    /// counted.
    pub fn trial(&self, config: &str) -> Result<(), PluginError> {
        // What the plugin writes on trial must not reach the generations that serve.
        let mut instance = self.instance(None, Shared::new(&self.limits));
        let config: Arc<str> = config.into();
        let (id, begun) = (unique(), processor_time());
        for (size, weight) in [(0_usize, 1), (1, 1), (3, 1), (3, 0), (200, 7), (2, 1)] {
            let pool = Arc::new(Pool {
                id,
                version: unique(),
                endpoints: (0..size).map(|i| generated(i, weight)).collect(),
                draining: vec![],
                panic: false,
                empty: None,
            });
            for pick in 0..64_u64 {
                // Each call has its deadline, and all together have one.
                if processor_time().saturating_sub(begun) > self.limits.configure_deadline {
                    let reason = format!("its trial took more than {:?}", self.limits.configure_deadline);
                    return Err(PluginError { plugin: self.generation.plugin.clone(), stage: Stage::Trial, reason });
                }
                let hash = (pick % 2 == 0).then_some(pick.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let context = PickContext { hash, attempt: u32::from(pick % 7 == 0), random: None };
                let picked = instance.try_pick(&pool, &config, context).map_err(|e| match e.stage {
                    Stage::Configure => e,
                    _ => PluginError {
                        reason: format!("trial on a pool of {size} endpoints, stage {}: {}", e.stage, e.reason),
                        stage: Stage::Trial,
                        ..e
                    },
                })?;
                if size == 0 && picked.is_some() {
                    return Err(PluginError {
                        plugin: self.generation.plugin.clone(),
                        stage: Stage::Trial,
                        reason: "picked an endpoint from an empty pool".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn generated(index: usize, weight: u32) -> Endpoint {
    let [_, _, high, low] = u32::try_from(index).unwrap_or(0).to_be_bytes();
    Endpoint { weight, ..Endpoint::new(std::net::SocketAddr::from(([192, 0, high, low], 80))) }
}

/// One worker's instance.
pub struct Instance {
    pre: Pre,
    engine: Engine,
    limits: Limits,
    generation: Arc<Generation>,
    shared: Shared,
    /// The seed of its random bits; none: they are drawn from the system.
    seed: Option<u64>,
    recorder: Arc<Recorder>,
    /// The number of the instance, for recordings.
    number: u64,
    /// The recorder of the next pick.
    sample: Option<Box<SampleRecorder>>,
    /// The recorder of the last pick, if it had one.
    sampled: Option<Box<SampleRecorder>>,
    /// The states that pools are to begin with, by the pools' ids.
    inherited: HashMap<u64, Saved, FxBuildHasher>,
    /// The live part. It is taken out for each call, so that a failure drops it; the box makes that cheap.
    live: Option<Box<Live>>,
    calls: u64,
    /// Whether the pool that was picked from last wants reports.
    reports: bool,
}

struct Live {
    store: Store<State>,
    guest: Guest,
    pools: HashMap<u64, GuestPool, FxBuildHasher>,
}

struct GuestPool {
    resource: Handle,
    version: u64,
    wants: Wants,
}

impl Live {
    /// Opens a pool's resource.
    fn open(&mut self, pool: u64, config: &str) -> Result<(), PluginError> {
        arm_configure(&mut self.store);
        let opened = self.guest.open(&mut self.store, config);
        let resource = opened.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?.map_err(|reason| PluginError {
            plugin: self.store.data().plugin.clone(),
            stage: Stage::Configure,
            reason: cut(reason),
        })?;
        let wants = self.guest.wants(&mut self.store, resource);
        let wants = wants.map_err(|e| explain(self.store.data(), Stage::Configure, &e))?;
        self.pools.insert(pool, GuestPool { resource, version: 0, wants });
        Ok(())
    }

    /// Tells the guest of changed endpoints and makes their statistics readable. None: the pool is not open.
    fn update(&mut self, pool: &Arc<Pool>) -> Result<Option<(Handle, bool)>, PluginError> {
        let Some(guest) = self.pools.get_mut(&pool.id) else { return Ok(None) };
        if self.store.data().pool.as_ref().is_none_or(|p| p.version != pool.version) {
            self.store.data_mut().pool = Some(pool.clone());
        }
        if guest.version != pool.version {
            arm_configure(&mut self.store);
            let updated = self.guest.update(&mut self.store, guest.resource, &pool.endpoints, guest.wants);
            updated.map_err(|e| explain(self.store.data(), Stage::Update, &e))?;
            guest.version = pool.version;
        }
        Ok(Some((guest.resource, guest.wants.contains(Wants::REPORTS))))
    }
}

impl Instance {
    /// Gives the next pick these random bits in place of drawn ones, the first with its context, the others as the guest asks for them. What the pick draws and
    /// reads is written down.
    pub fn play(&mut self, random: Vec<u64>) {
        self.sample = Some(Box::new(SampleRecorder::playing(random)));
    }

    /// What the last pick drew and read, if it was played or recorded.
    pub fn sampled(&self) -> Option<&SampleRecorder> {
        self.sampled.as_deref()
    }

    /// The guest's linear memory, in bytes; 0 before the first call and after a failure.
    pub fn memory(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.store.data().memory)
    }

    /// What is left of the fuel, which each instruction takes from; only under [`crate::Loader::metered`].
    pub fn fuel(&self) -> Option<u64> {
        self.live.as_ref()?.store.get_fuel().ok()
    }

    fn try_pick(&mut self, pool: &Arc<Pool>, config: &str, context: PickContext) -> Result<Option<usize>, PluginError> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Box::new(self.start()?),
        };
        let (resource, reports) = match live.update(pool)? {
            Some(known) => known,
            None => {
                live = self.open(live, pool.id, config)?;
                live.update(pool)?.ok_or_else(|| PluginError {
                    plugin: self.generation.plugin.clone(),
                    stage: Stage::Update,
                    reason: "the pool is not open".to_owned(),
                })?
            }
        };
        self.reports = reports;
        if self.sample.is_some() {
            live.store.data_mut().sample = self.sample.take();
        }
        arm_call(&mut live.store);
        let random = context.random.unwrap_or_else(|| live.store.data_mut().next_random());
        let context = guest::PickContext { hash: context.hash, attempt: context.attempt, random };
        let picked = live.guest.pick(&mut live.store, resource, context);
        if live.store.data().sample.is_some() {
            self.sampled = live.store.data_mut().sample.take();
        }
        let picked = picked.map_err(|e| explain(live.store.data(), Stage::Pick, &e))?;
        match picked {
            Some(index) if index as usize >= pool.endpoints.len() => Err(PluginError {
                plugin: self.generation.plugin.clone(),
                stage: Stage::Pick,
                reason: format!("picked endpoint {index} of a pool of {}: out of range", pool.endpoints.len()),
            }),
            picked => {
                // It is put back only now: any failure above has dropped the store with it.
                self.live = Some(live);
                Ok(picked.map(|index| index as usize))
            }
        }
    }

    /// A pick that a recording wants.
    #[cold]
    fn recorded(
        &mut self,
        session: &Session,
        pool: &Arc<Pool>,
        config: &Arc<str>,
        context: PickContext,
    ) -> Result<Option<usize>, PluginError> {
        self.sample = Some(Box::default());
        self.sampled = None;
        let begun = Instant::now();
        let picked = self.try_pick(pool, config, context);
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Without a recorder the pick failed before the guest was asked, so there was no decision.
        if let Some(mut sample) = self.sampled.take() {
            if pool.endpoints.len() <= SMALL_POOL {
                for (index, endpoint) in (0..).zip(&*pool.endpoints) {
                    sample.sight(index, || endpoint.stats.sight());
                }
            }
            session.tell(Event::Pick(Box::new(Recorded {
                instance: self.number,
                generation: self.generation.number,
                pool: pool.clone(),
                config: config.clone(),
                context,
                random: context.random.into_iter().chain(sample.random).collect(),
                seen: sample.seen,
                cut: sample.cut,
                picked: picked.as_ref().map(|picked| *picked).map_err(|error| error.reason.clone()),
                nanoseconds,
            })));
        }
        picked
    }

    fn try_report(&mut self, pool: &Arc<Pool>, outcome: Outcome) -> Result<(), PluginError> {
        // Without an instance, or after an update, the index has no meaning any more.
        let Some(guest) = self.live.as_ref().and_then(|live| live.pools.get(&pool.id)).filter(|g| g.version == pool.version) else {
            return Ok(());
        };
        let resource = guest.resource;
        let Some(mut live) = self.live.take() else { return Ok(()) };
        arm_call(&mut live.store);
        let reported = live.guest.report(&mut live.store, resource, outcome);
        reported.map_err(|e| explain(live.store.data(), Stage::Report, &e))?;
        self.live = Some(live);
        Ok(())
    }

    fn start(&mut self) -> Result<Live, PluginError> {
        let mut state = State::new(self.generation.plugin.clone(), self.limits.clone(), self.shared.clone());
        if let Some(seed) = &mut self.seed {
            state = state.seeded(*seed);
            *seed = seed.wrapping_add(1);
        }
        let mut store = state.store(&self.engine);
        arm_configure(&mut store);
        let guest = self.pre.instantiate(&mut store).map_err(|e| explain(store.data(), Stage::Instantiate, &e))?;
        Ok(Live { store, guest, pools: HashMap::default() })
    }
}

impl Balancer for Instance {
    fn pick(&mut self, pool: &Arc<Pool>, config: &Arc<str>, context: PickContext) -> Result<Option<usize>, PluginError> {
        self.calls += 1;
        let begun = self.calls.is_multiple_of(64).then(Instant::now);
        let picked = match self.recorder.sampling(&self.generation.plugin, self.calls) {
            None => self.try_pick(pool, config, context),
            Some(session) => self.recorded(&session, pool, config, context),
        };
        let stats = &self.generation.stats;
        match &picked {
            Ok(_) => stats.succeeded(),
            Err(error) => {
                if stats.failed(error) {
                    tracing::error!(%error, generation = self.generation.number, "the generation failed too often and is quarantined");
                }
            }
        }
        if let Some(begun) = begun {
            stats.nanos.fetch_add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            stats.timed.fetch_add(1, Ordering::Relaxed);
            let memory = self.live.as_ref().map_or(0, |live| live.store.data().memory);
            stats.memory.fetch_max(memory as u64, Ordering::Relaxed);
        }
        picked
    }

    fn wants_report(&self) -> bool {
        self.reports
    }

    fn report(&mut self, pool: &Arc<Pool>, endpoint: usize, success: bool, latency: Duration) -> Result<(), PluginError> {
        if let Some(session) = self.recorder.following(&self.generation.plugin) {
            let latency_microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            let (instance, pool) = (self.number, (pool.id, pool.version));
            session.tell(Event::Report(ReportLine { instance, pool, endpoint, success, latency_microseconds }));
        }
        let latency_us = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let outcome = Outcome { endpoint: u32::try_from(endpoint).unwrap_or(u32::MAX), success, latency_us };
        let reported = self.try_report(pool, outcome);
        if let Err(error) = &reported
            && self.generation.stats.failed(error)
        {
            tracing::error!(%error, generation = self.generation.number, "the generation failed too often and is quarantined");
        }
        reported
    }

    fn save(&mut self, pool: u64) -> Option<Saved> {
        self.saved(pool)
    }

    fn inherit(&mut self, pool: u64, saved: Saved) {
        if !self.live.as_ref().is_some_and(|live| live.pools.contains_key(&pool)) {
            self.inherited.insert(pool, saved);
        }
    }

    fn retain(&mut self, alive: &dyn Fn(u64) -> bool) {
        self.inherited.retain(|pool, _| alive(*pool));
        let Some(live) = &mut self.live else { return };
        let dead: Vec<u64> = live.pools.keys().copied().filter(|id| !alive(*id)).collect();
        for id in dead {
            if let Some(pool) = live.pools.remove(&id) {
                arm_configure(&mut live.store);
                if live.guest.free(&mut live.store, pool.resource).is_err() {
                    // A guest that traps while it frees a pool is not worth keeping. The other pools are opened anew.
                    self.live = None;
                    return;
                }
            }
        }
    }
}
