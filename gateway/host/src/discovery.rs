//! Discovery plugins over wasm: one long-running task for each plugin, on a thread of its own. The guest waits in `objects.next`; between two
//! waits it may compute for its configure deadline, yielding to the runtime at every epoch so that it can be stopped, and it may await answers
//! from the network, both together for [`LONGEST_STEP`]. On average it may have a part of a core ([`Share`]). What it publishes is given to control
//! when it waits the next time.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_model::config_text::ConfigText;
use sluicegate_model::discovery::{
    DiscoveryGeneration, Event, Events, FoundAddress, FoundEndpoint, Key, Publications, Publisher, Running, Silent,
};
use sluicegate_model::plugin::{Generation, Limits, PluginError, PluginKind, Stage};
use sluicegate_model::pool::About;
use sluicegate_model::route::{ListenerInfo, RouteTable};
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::{IoView, async_trait};

use crate::bindings::balancer::sluicegate::plugin::{host, metrics, shared};
use crate::bindings::discovery as now;
use crate::bindings::discovery::sluicegate::plugin::{objects, publishing};
use crate::bindings::v0_1::discovery as v0_1;
use crate::kind::{Description, Kind, Loading};
use crate::state::{State, cut, explain, processor_time};
use crate::version::ContractVersion;
use crate::wasi::Wasi;
use crate::wasi::egress::{Egress, Network};

/// The largest number of events that are handed over at a time.
const BATCH: usize = 1024;
/// The largest number of events of one change that are handed over together.
const LARGEST_CHANGE: usize = 4096;
/// The largest number of endpoints of a publication.
const MAX_ENDPOINTS: usize = 100_000;
/// The processor time that a plugin may use at once, in seconds.
const BURST: f64 = 3.0;
/// A plugin may have one part in so many of the time of one core, on average.
const PARTS: f64 = 4.0;
/// The longest time from one `objects.next` to the next. It is enough for an exchange or two with a slow source, which the host's own deadlines end before.
const LONGEST_STEP: Duration = Duration::from_secs(150);
/// The least time that a guest has to say what it is, as its thread has a low priority and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// One generation of a discovery plugin.
pub struct WasmDiscovery {
    pub(crate) pre: Pre,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) egress: Arc<Egress>,
    pub(crate) generation: Arc<Generation>,
}

impl Kind for WasmDiscovery {
    const KIND: PluginKind = PluginKind::Discovery;
    const INTERFACE: &'static str = "discovering";
    type State = DiscoveryState;

    fn link(linker: &mut Linker<DiscoveryState>) -> Result<(), wasmtime::Error> {
        add_to_linker(linker)
    }

    fn load(loading: &Loading<'_>, linker: &Linker<DiscoveryState>) -> Result<(Self, Description), PluginError> {
        let pre = Pre::new(linker, loading.component, loading.contract).map_err(|e| loading.misfit(&e))?;
        let (environment, limits) = (loading.environment, loading.limits.clone());
        let (hosts, files) = (limits.allowed_hosts.clone(), limits.allowed_files.clone());
        let egress = Arc::new(Egress { hosts, files, admin: environment.admin, network: environment.network });
        // The version is known when the guest has told it.
        let mut made = Self { pre, engine: environment.engine.clone(), limits, egress, generation: loading.generation("") };
        let description = loading.description(Self::KIND, made.describe()?, Err("discovery plugins wait for what they ask".to_owned()))?;
        made.generation = loading.generation(&description.version);
        Ok((made, description))
    }

    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn trial(&self, _config: &ConfigText, _listener: Option<&ListenerInfo>) -> Result<Option<Arc<RouteTable>>, PluginError> {
        Ok(None)
    }
}

pub(crate) struct DiscoveryState {
    base: State,
    events: Arc<tokio::sync::Mutex<Inbox>>,
    publisher: Arc<dyn Publisher>,
    kinds: Vec<String>,
    generation: Arc<Generation>,
    /// What was published since the last wait.
    pending: Publications,
    pub(crate) wasi: Wasi,
    /// The thread's processor time when the guest's step began. What the guest awaits of the host is not its own time, and neither is what others compute.
    begun: Duration,
    step: Step,
    share: Share,
}

/// The part of a core that a plugin may have. A plugin that has used more waits a little longer for events.
struct Share {
    /// The credit in seconds. If it is negative, it is a debt.
    credit: f64,
    at: Instant,
    computed: Duration,
}

impl Share {
    /// The share of the calling thread.
    fn new() -> Self {
        Self { credit: BURST, at: Instant::now(), computed: processor_time() }
    }

    /// How long to wait before the guest goes on.
    fn pay(&mut self) -> Duration {
        let (at, computed) = (Instant::now(), processor_time());
        let earned = at.duration_since(self.at).as_secs_f64() / PARTS;
        let spent = computed.saturating_sub(self.computed).as_secs_f64();
        self.credit = (self.credit + earned - spent).min(BURST);
        (self.at, self.computed) = (at, computed);
        Duration::try_from_secs_f64(-self.credit * PARTS).unwrap_or_default()
    }
}

/// What the guest was not told yet. It is shared with pollables: the guest waits for one of these or for `next`, never for both.
struct Inbox {
    events: Box<dyn Events>,
    /// An event that a pollable has received, for the next `next`.
    first: Option<Event>,
}

impl Inbox {
    /// Waits until there is an event.
    async fn peek(&mut self) {
        if self.first.is_none() {
            self.first = Some(poll_fn(|cx| self.events.poll_next(cx)).await);
        }
    }

    fn take(&mut self) -> Option<Event> {
        self.first.take().or_else(|| self.events.try_next())
    }
}

struct Waiting(Arc<tokio::sync::Mutex<Inbox>>);

#[async_trait]
impl Pollable for Waiting {
    async fn ready(&mut self) {
        self.0.lock().await.peek().await;
    }
}

/// Since when the guest has not waited for events; none while it waits.
#[derive(Clone, Default)]
struct Step(Arc<Mutex<Option<Instant>>>);

impl Step {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Is ready when a step has taken longer than [`LONGEST_STEP`].
    async fn overdue(&self) {
        loop {
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match since.map(|since| LONGEST_STEP.saturating_sub(since.elapsed())) {
                Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
                None => tokio::time::sleep(LONGEST_STEP).await,
            }
        }
    }
}

impl IoView for DiscoveryState {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.wasi.table
    }
}

/// All that a discovery plugin of any version may import.
pub(crate) fn add_to_linker(linker: &mut Linker<DiscoveryState>) -> wasmtime::Result<()> {
    use crate::bindings::balancer::sluicegate::plugin::types;
    use crate::bindings::v0_1::{balancer::sluicegate::plugin as pure, discovery::sluicegate::plugin as old};
    types::add_to_linker::<_, HasSelf<State>>(linker, |s| &mut s.base)?;
    host::add_to_linker::<_, HasSelf<State>>(linker, |s| &mut s.base)?;
    metrics::add_to_linker::<_, HasSelf<State>>(linker, |s| &mut s.base)?;
    shared::add_to_linker::<_, HasSelf<State>>(linker, |s| &mut s.base)?;
    objects::add_to_linker::<_, HasSelf<DiscoveryState>>(linker, |s| s)?;
    publishing::add_to_linker::<_, HasSelf<DiscoveryState>>(linker, |s| s)?;
    pure::types::add_to_linker::<_, HasSelf<State>>(linker, |s| &mut s.base)?;
    pure::host::add_to_linker::<_, HasSelf<State>>(linker, |s| &mut s.base)?;
    old::objects::add_to_linker::<_, HasSelf<DiscoveryState>>(linker, |s| s)?;
    old::publishing::add_to_linker::<_, HasSelf<DiscoveryState>>(linker, |s| s)?;
    crate::wasi::add_to_linker(linker, |state| &mut state.wasi)
}

/// A component that is linked, but not instantiated.
#[derive(Clone)]
pub(crate) enum Pre {
    V0_1(v0_1::DiscoveryPre<DiscoveryState>),
    V0_2(now::DiscoveryPre<DiscoveryState>),
}

enum Guest {
    V0_1(v0_1::Discovery),
    V0_2(now::Discovery),
}

impl Pre {
    pub(crate) fn new(linker: &Linker<DiscoveryState>, component: &Component, version: ContractVersion) -> wasmtime::Result<Self> {
        let pre = linker.instantiate_pre(component)?;
        Ok(match version {
            ContractVersion::V0_1 => Self::V0_1(v0_1::DiscoveryPre::new(pre)?),
            ContractVersion::V0_2 => Self::V0_2(now::DiscoveryPre::new(pre)?),
        })
    }

    async fn instantiate(&self, store: &mut Store<DiscoveryState>) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::V0_1(pre) => Guest::V0_1(pre.instantiate_async(store).await?),
            Self::V0_2(pre) => Guest::V0_2(pre.instantiate_async(store).await?),
        })
    }
}

impl Guest {
    /// The guest's name, version, and schema of the configuration.
    async fn describe(&self, store: &mut Store<DiscoveryState>) -> wasmtime::Result<(String, String, String)> {
        Ok(match self {
            Self::V0_1(guest) => {
                let said = guest.sluicegate_plugin_discovering().call_describe(store).await?;
                (said.name, said.version, said.config_schema)
            }
            Self::V0_2(guest) => {
                let said = guest.sluicegate_plugin_discovering().call_describe(store).await?;
                (said.name, said.version, said.config_schema)
            }
        })
    }

    async fn run(&self, store: &mut Store<DiscoveryState>) -> wasmtime::Result<Result<(), String>> {
        match self {
            Self::V0_1(guest) => guest.sluicegate_plugin_discovering().call_run(store).await,
            Self::V0_2(guest) => guest.sluicegate_plugin_discovering().call_run(store).await,
        }
    }
}

impl DiscoveryGeneration for WasmDiscovery {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn run(self: Arc<Self>, events: Box<dyn Events>, publisher: Arc<dyn Publisher>) -> Running {
        Box::pin(async move { self.run_guest(events, publisher).await })
    }
}

impl WasmDiscovery {
    fn store(&self, events: Box<dyn Events>, publisher: Arc<dyn Publisher>, egress: Arc<Egress>) -> Store<DiscoveryState> {
        let state = DiscoveryState {
            base: State::new(self.generation.plugin.clone(), self.limits.clone(), self.generation.shared.clone()),
            events: Arc::new(tokio::sync::Mutex::new(Inbox { events, first: None })),
            publisher,
            kinds: Vec::new(),
            generation: self.generation.clone(),
            pending: Publications::default(),
            wasi: Wasi::new(self.generation.plugin.clone(), egress, self.limits.requests),
            begun: processor_time(),
            step: Step::default(),
            share: Share::new(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.base as &mut dyn ResourceLimiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if processor_time().saturating_sub(state.begun) > state.base.limits.configure_deadline {
                return Err(wasmtime::Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// Asks the guest what it is. It blocks, so it must not be called in an async context.
    pub(crate) fn describe(&self) -> Result<(String, String, String), PluginError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fail = |reason: String| PluginError { plugin: self.generation.plugin.clone(), stage: Stage::Describe, reason };
        // What the guest is must not depend on what others answer.
        let egress = Arc::new(Egress { network: Network::Offline, ..Egress::default() });
        let mut store = self.store(Box::new(Silent), Arc::new(Silent), egress);
        let described = async {
            let guest = self.pre.instantiate(&mut store).await.map_err(|e| explain(&store.data().base, Stage::Instantiate, &e))?;
            guest.describe(&mut store).await.map_err(|e| explain(&store.data().base, Stage::Describe, &e))
        };
        let deadline = self.limits.configure_deadline;
        let waited = |_| fail(format!("did not return within its deadline of {deadline:?}"));
        runtime
            .map_err(|e| fail(e.to_string()))?
            .block_on(async { tokio::time::timeout((deadline * 2).max(PATIENCE), described).await.map_err(waited)? })
    }

    /// Runs until the guest ends, which is always a failure, or the future is dropped. It needs a thread of its own, as what the thread computes counts as the
    /// guest's time.
    async fn run_guest(&self, events: Box<dyn Events>, publisher: Arc<dyn Publisher>) -> PluginError {
        let mut store = self.store(events, publisher, self.egress.clone());
        let step = store.data().step.clone();
        step.set(Some(Instant::now()));
        let guest = match self.pre.instantiate(&mut store).await {
            Ok(guest) => guest,
            Err(e) => return explain(&store.data().base, Stage::Instantiate, &e),
        };
        let ended = tokio::select! {
            ended = guest.run(&mut store) => ended,
            () = step.overdue() => Ok(Err(format!("has not waited for events for {LONGEST_STEP:?}"))),
        };
        let reason = match ended {
            Err(e) => {
                let error = explain(&store.data().base, Stage::Run, &e);
                self.generation.stats.failures.fetch_add(1, Ordering::Relaxed);
                return error;
            }
            Ok(Err(reason)) => cut(reason),
            Ok(Ok(())) => "returned, though a discovery plugin runs until it is dropped".to_owned(),
        };
        self.generation.stats.failures.fetch_add(1, Ordering::Relaxed);
        PluginError { plugin: self.generation.plugin.clone(), stage: Stage::Run, reason }
    }
}

impl objects::Host for DiscoveryState {
    fn watch(&mut self, kinds: Vec<String>) -> wasmtime::Result<()> {
        // A Secret's content must never enter a guest.
        self.kinds = kinds.into_iter().filter(|kind| kind != "Secret").collect();
        self.publisher.watches(&self.kinds);
        Ok(())
    }

    async fn next(&mut self, timeout_ms: Option<u64>) -> wasmtime::Result<Vec<objects::Event>> {
        self.step.set(None);
        if !self.pending.is_empty() {
            self.publisher.publish(std::mem::take(&mut self.pending)).await;
        }
        let rest = self.share.pay();
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        let deadline = timeout_ms.map(|ms| tokio::time::Instant::now() + Duration::from_millis(ms.min(86_400_000)));
        let inbox = self.events.clone();
        let mut inbox = inbox.lock().await;
        let mut batch = Vec::new();
        while batch.is_empty() {
            match deadline {
                Some(at) if tokio::time::timeout_at(at, inbox.peek()).await.is_err() => break,
                Some(_) => {}
                None => inbox.peek().await,
            }
            while batch.len() < BATCH || (batch.len() < LARGEST_CHANGE && inbox.events.is_within_a_change()) {
                match inbox.take() {
                    Some(event) => batch.extend(lower(event, &self.kinds)),
                    None => break,
                }
            }
        }
        self.begun = processor_time();
        self.step.set(Some(Instant::now()));
        Ok(batch)
    }

    fn subscribe(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let waiting = self.wasi.table.push(Waiting(self.events.clone()))?;
        subscribe(&mut self.wasi.table, waiting)
    }
}

fn lower(event: Event, kinds: &[String]) -> Option<objects::Event> {
    let key = |key: Key| objects::Key { namespace: key.namespace, name: key.name };
    Some(match event {
        Event::Target(k, service, config) => {
            objects::Event::TargetApplied(objects::Target { key: key(k), service: service.to_string(), config: config.to_string() })
        }
        Event::TargetGone(k) => objects::Event::TargetRemoved(key(k)),
        Event::Object(kind, ..) | Event::ObjectGone(kind, _) if !kinds.contains(&kind) => return None,
        Event::Object(kind, k, object) => objects::Event::ObjectApplied(objects::Object { kind, key: key(k), json: object.json() }),
        Event::ObjectGone(kind, k) => objects::Event::ObjectRemoved(objects::ObjectKey { kind, key: key(k) }),
        Event::Synced => objects::Event::Synced,
    })
}

/// Turns endpoints of the contract into the gateway's. What an endpoint has in common with the one before is shared, as mostly only their addresses differ.
struct Raised {
    about: Arc<About>,
    port_name: Option<Arc<str>>,
}

impl Raised {
    fn raise(&mut self, endpoint: publishing::Endpoint) -> FoundEndpoint {
        let publishing::Endpoint {
            address,
            port,
            port_name,
            ready,
            serving,
            terminating,
            weight,
            zone,
            node,
            hint_zones,
            hint_nodes,
            labels,
            annotations,
        } = endpoint;
        let about = About { zone, node, hint_zones, hint_nodes, labels, annotations };
        if *self.about != about {
            self.about = Arc::new(about);
        }
        if self.port_name.as_deref() != port_name.as_deref() {
            self.port_name = port_name.map(Arc::from);
        }
        let (address, port_name, about) = (FoundAddress::new(address), self.port_name.clone(), self.about.clone());
        FoundEndpoint { address, port, port_name, ready, serving, terminating, weight, about }
    }
}

impl publishing::Host for DiscoveryState {
    fn publish(&mut self, target: objects::Key, endpoints: Vec<publishing::Endpoint>) -> wasmtime::Result<()> {
        let key = Key { namespace: target.namespace, name: target.name };
        if endpoints.len() > MAX_ENDPOINTS {
            let reason = format!("published {} endpoints, more than {MAX_ENDPOINTS}", endpoints.len());
            return self.push(key, Err(reason));
        }
        let mut raised = Raised { about: About::nothing(), port_name: None };
        // A new list, as the contract's endpoints take three times the memory.
        let mut found = Vec::with_capacity(endpoints.len());
        found.extend(endpoints.into_iter().map(|endpoint| raised.raise(endpoint)));
        self.push(key, Ok(found))
    }

    fn fail(&mut self, target: objects::Key, reason: String) -> wasmtime::Result<()> {
        let key = Key { namespace: target.namespace, name: target.name };
        // A target that could not be looked up offline is no fault of the configuration that is checked.
        self.push(key, if self.wasi.kept_offline { Ok(Vec::new()) } else { Err(cut(reason)) })
    }
}

impl DiscoveryState {
    /// Keeps what was found until the guest waits again, where control can slow it down. For each target only what was said last counts.
    fn push(&mut self, target: Key, found: Result<Vec<FoundEndpoint>, String>) -> wasmtime::Result<()> {
        self.generation.stats.succeeded();
        self.pending.push(target, found).map_err(wasmtime::Error::msg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_overdue_only_while_the_guest_does_not_wait_for_events() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let overdue = |step: Step| async move { tokio::time::timeout(Duration::from_millis(20), step.overdue()).await.is_ok() };
            let step = Step::default();
            assert!(!overdue(step.clone()).await, "it waits");
            step.set(Some(Instant::now()));
            assert!(!overdue(step.clone()).await, "it has just begun");
            step.set(Instant::now().checked_sub(LONGEST_STEP));
            // A machine that was started just now has no time so long ago.
            assert!(Instant::now().checked_sub(LONGEST_STEP).is_none() || overdue(step).await);
        });
    }
}
