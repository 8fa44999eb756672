//! Discovery plugins over wasm: one long-running task for each plugin, on control's runtime. The guest waits in `objects.next`; between two
//! waits it may compute for its configure deadline, yielding to the runtime at every epoch so that it delays nobody, and it may await answers
//! from the network, both together for [`LONGEST_STEP`].

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_model::plugin::{Generation, Limits, PluginError, Stage};
use tokio::sync::mpsc;
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::{IoView, async_trait};

use crate::bindings::balancer::sluicegate::plugin::{host, metrics, shared};
use crate::bindings::discovery as now;
use crate::bindings::discovery::sluicegate::plugin::{objects, publishing};
use crate::bindings::v0_1::discovery as v0_1;
use crate::engine::TICK;
use crate::state::{State, cut, explain};
use crate::version::ContractVersion;
use crate::wasi::Wasi;
use crate::wasi::egress::{Egress, Network};

/// At most this many events are handed over at a time.
const BATCH: usize = 1024;
/// A publication with more endpoints is refused.
const MAX_ENDPOINTS: usize = 100_000;
/// Bytes of all that is published between two waits: the endpoints, their texts, the targets' names.
const MAX_PUBLISHED: usize = 128 << 20;
/// From one `objects.next` to the next: enough for an exchange or two with a slow source, which the host's own deadlines end before.
const LONGEST_STEP: Duration = Duration::from_secs(150);

/// A namespace and a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What a discovery task is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Find endpoints for this Service (JSON), configured so (JSON).
    Target(Key, Arc<str>, Arc<str>),
    /// No longer.
    TargetGone(Key),
    /// An object (its kind, JSON) is new or has changed.
    Object(String, Key, Arc<str>),
    /// An object of this kind is gone.
    ObjectGone(String, Key),
    /// Everything that existed has been sent.
    Synced,
}

/// What a discovery task found.
#[derive(Clone, Debug)]
pub enum Found {
    /// These are the endpoints of a target now.
    Endpoints(Key, Vec<FoundEndpoint>),
    /// They could not be found; the last ones stay.
    Failed(Key, String),
}

/// An endpoint, as a plugin publishes it.
pub type FoundEndpoint = publishing::Endpoint;

/// One generation of a discovery plugin.
pub struct WasmDiscovery {
    pub(crate) pre: Pre,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) egress: Arc<Egress>,
    pub(crate) generation: Arc<Generation>,
}

pub(crate) struct DiscoveryState {
    base: State,
    events: Arc<tokio::sync::Mutex<Inbox>>,
    found: mpsc::Sender<Found>,
    kinds: Vec<String>,
    generation: Arc<Generation>,
    pending: Pending,
    pub(crate) wasi: Wasi,
    /// Epochs that passed while the guest computed: what it awaits of the host is not its own time.
    computed: u32,
    step: Step,
}

/// What the guest was not told yet. Shared with pollables, of which the guest waits for one or for `next`, never for both.
struct Inbox {
    events: mpsc::UnboundedReceiver<Event>,
    /// Received by a pollable, for the next `next`.
    first: Option<Event>,
}

impl Inbox {
    /// Waits for an event. Control drops the sender only together with this task.
    async fn peek(&mut self) {
        if self.first.is_none() {
            match self.events.recv().await {
                Some(event) => self.first = Some(event),
                None => std::future::pending().await,
            }
        }
    }

    fn take(&mut self) -> Option<Event> {
        self.first.take().or_else(|| self.events.try_recv().ok())
    }
}

struct Waiting(Arc<tokio::sync::Mutex<Inbox>>);

#[async_trait]
impl Pollable for Waiting {
    async fn ready(&mut self) {
        self.0.lock().await.peek().await;
    }
}

/// Since when the guest has not waited for events; none while it does.
#[derive(Clone, Default)]
struct Step(Arc<Mutex<Option<Instant>>>);

impl Step {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Ready when a step has taken longer than [`LONGEST_STEP`].
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

/// Linked, and not yet made.
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
    /// Name, version, schema of the configuration.
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

impl WasmDiscovery {
    /// Its identity and counters.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    fn store(&self, events: mpsc::UnboundedReceiver<Event>, found: mpsc::Sender<Found>, egress: Arc<Egress>) -> Store<DiscoveryState> {
        let state = DiscoveryState {
            base: State::new(self.generation.plugin.clone(), self.limits.clone(), self.generation.commons.clone()),
            events: Arc::new(tokio::sync::Mutex::new(Inbox { events, first: None })),
            found,
            kinds: Vec::new(),
            generation: self.generation.clone(),
            pending: Pending::default(),
            wasi: Wasi::new(self.generation.plugin.clone(), egress, self.limits.requests),
            computed: 0,
            step: Step::default(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.base as &mut dyn ResourceLimiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            state.computed += 1;
            if TICK * state.computed > state.base.limits.configure_deadline {
                return Err(wasmtime::Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// Asks the guest what it is. Blocks; not for an async context.
    pub(crate) fn describe(&self) -> Result<(String, String, String), PluginError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fail = |reason: String| PluginError { plugin: self.generation.plugin.clone(), stage: Stage::Describe, reason };
        let (_, events) = mpsc::unbounded_channel();
        let (found, _) = mpsc::channel(1);
        // What it is must not depend on what others answer.
        let egress = Arc::new(Egress { network: Network::Offline, ..Egress::default() });
        let mut store = self.store(events, found, egress);
        let described = async {
            let guest = self.pre.instantiate(&mut store).await.map_err(|e| explain(&store.data().base, Stage::Instantiate, &e))?;
            guest.describe(&mut store).await.map_err(|e| explain(&store.data().base, Stage::Describe, &e))
        };
        let deadline = self.limits.configure_deadline;
        let waited = |_| fail(format!("did not return within its deadline of {deadline:?}"));
        runtime.map_err(|e| fail(e.to_string()))?.block_on(async { tokio::time::timeout(deadline * 2, described).await.map_err(waited)? })
    }

    /// Runs until the guest ends, which is always a failure, or the future is dropped.
    pub async fn run(&self, events: mpsc::UnboundedReceiver<Event>, found: mpsc::Sender<Found>) -> PluginError {
        let mut store = self.store(events, found, self.egress.clone());
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
        // A Secret's content must never enter a guest (DESIGN §3).
        self.kinds = kinds.into_iter().filter(|kind| kind != "Secret").collect();
        Ok(())
    }

    async fn next(&mut self, timeout_ms: Option<u64>) -> wasmtime::Result<Vec<objects::Event>> {
        self.step.set(None);
        for found in self.pending.take() {
            if self.found.send(found).await.is_err() {
                return std::future::pending().await;
            }
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
            while batch.len() < BATCH {
                match inbox.take() {
                    Some(event) => batch.extend(lower(event, &self.kinds)),
                    None => break,
                }
            }
        }
        self.computed = 0;
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
        Event::Object(kind, k, json) => objects::Event::ObjectApplied(objects::Object { kind, key: key(k), json: json.to_string() }),
        Event::ObjectGone(kind, k) => objects::Event::ObjectRemoved(objects::ObjectKey { kind, key: key(k) }),
        Event::Synced => objects::Event::Synced,
    })
}

impl publishing::Host for DiscoveryState {
    fn publish(&mut self, target: objects::Key, endpoints: Vec<publishing::Endpoint>) -> wasmtime::Result<()> {
        let key = Key { namespace: target.namespace, name: target.name };
        if endpoints.len() > MAX_ENDPOINTS {
            let reason = format!("published {} endpoints, more than {MAX_ENDPOINTS}", endpoints.len());
            return self.push(key, Err(reason));
        }
        self.push(key, Ok(endpoints))
    }

    fn fail(&mut self, target: objects::Key, reason: String) -> wasmtime::Result<()> {
        let key = Key { namespace: target.namespace, name: target.name };
        // What could not be asked is not a fault of the configuration that is looked at.
        self.push(key, if self.wasi.kept_offline { Ok(Vec::new()) } else { Err(cut(reason)) })
    }
}

impl DiscoveryState {
    /// What was found waits for the guest's next wait, where the channel can push back; only the newest word on a target counts.
    fn push(&mut self, target: Key, word: Word) -> wasmtime::Result<()> {
        self.generation.stats.succeeded();
        self.pending.push(target, word).map_err(wasmtime::Error::msg)
    }
}

/// What is said of a target: its endpoints, or why there are none.
type Word = Result<Vec<FoundEndpoint>, String>;

/// What was found since the last wait: the newest word on each target.
#[derive(Default)]
struct Pending {
    words: HashMap<Key, (Word, usize)>,
    bytes: usize,
}

impl Pending {
    /// Fails when it is too much, which ends the guest: what is taken over only at its next wait would fill the gateway's memory, not the guest's.
    fn push(&mut self, target: Key, word: Word) -> Result<(), String> {
        if let Some((_, bytes)) = self.words.get(&target) {
            self.bytes -= bytes;
        }
        let bytes = target.namespace.len() + target.name.len() + word.as_ref().map_or_else(String::len, |endpoints| weigh(endpoints));
        self.bytes += bytes;
        self.words.insert(target, (word, bytes));
        if self.bytes > MAX_PUBLISHED {
            return Err(format!("published more than {MAX_PUBLISHED} bytes between two waits for events"));
        }
        Ok(())
    }

    fn take(&mut self) -> impl Iterator<Item = Found> + use<> {
        let words = std::mem::take(self).words.into_iter();
        words.map(|(target, (word, _))| match word {
            Ok(endpoints) => Found::Endpoints(target, endpoints),
            Err(reason) => Found::Failed(target, reason),
        })
    }
}

fn weigh(endpoints: &[FoundEndpoint]) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(k, v)| 2 * size_of::<String>() + k.len() + v.len()).sum::<usize>();
    let one = |e: &FoundEndpoint| {
        let names = e.address.len() + text(&e.port_name) + text(&e.zone) + text(&e.node);
        size_of::<FoundEndpoint>() + names + texts(&e.hint_zones) + texts(&e.hint_nodes) + pairs(&e.labels) + pairs(&e.annotations)
    };
    endpoints.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_word_on_a_target_waits_and_not_without_bound() {
        let key = |name: &str| Key { namespace: "n".to_owned(), name: name.to_owned() };
        let mut pending = Pending::default();
        for i in 0..1_000 {
            pending.push(key("a"), Err(format!("{i} {}", "x".repeat(1 << 20)))).expect("the same target");
        }
        pending.push(key("b"), Ok(Vec::new())).expect("room");
        assert_eq!(pending.take().count(), 2);
        let refused = (0..1_000).find_map(|i| pending.push(key(&i.to_string()), Err("x".repeat(1 << 20))).err());
        assert!(refused.is_some_and(|reason| reason.contains("between two waits")) && pending.words.len() < 130);
    }

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
            // A machine that was started just now has no such past.
            assert!(Instant::now().checked_sub(LONGEST_STEP).is_none() || overdue(step).await);
        });
    }
}
