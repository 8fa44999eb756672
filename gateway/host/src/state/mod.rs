//! What a guest can reach: its memory limit, randomness, the log ([`log`]), the statistics of the pool being picked from, and what its
//! instances have in common ([`shared`]).

pub(crate) mod boundary;
mod conditions;
pub(crate) mod handles;
mod log;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use sluicegate_model::health::Condition;
use sluicegate_model::plugin::{Limits, PluginError, Stage};
use sluicegate_model::pool::Pool;
use sluicegate_model::shared::Shared;
use sluicegate_model::stats::{EndpointStats, Sight};
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};

use crate::bindings::balancer::sluicegate::plugin::{statistics, types};
use crate::engine::{TABLE_ELEMENTS, ticks};
use crate::recorder::SampleRecorder;
use boundary::Boundary;
use handles::Handles;
use log::Window;
use shared::Numbers;

/// The largest number of elements of all tables of an instance together.
const ALL_TABLE_ELEMENTS: usize = 2 * TABLE_ELEMENTS;
/// The largest number of linear memories of an instance, of tables and of core instances. A plugin has one memory; with WASI's adapter it has some more of
/// the others. Each takes one of the places that all plugins share.
const MEMORIES: usize = 4;
const CORE_INSTANCES: usize = 64;

pub(crate) struct State {
    pub(crate) plugin: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) pool: Option<Arc<Pool>>,
    /// The size of the linear memories together, in bytes.
    pub(crate) memory: usize,
    /// The number of elements of the tables together.
    elements: usize,
    /// What the last growth added, until it is known to be done.
    growing: usize,
    /// The first limit that was reached.
    over_limit: Option<String>,
    held: Held,
    pub(crate) shared: Shared,
    pub(crate) numbers: Numbers,
    pub(crate) log: Window,
    /// Random bits by an algorithm that is the same everywhere, so that a seed determines all of them.
    random: Xoshiro256PlusPlus,
    /// The recorder, while calls are written down or played back.
    pub(crate) sample: Option<Box<SampleRecorder>>,
    overtime: Overtime,
    /// The memory of a guest that is called by its core module.
    pub(crate) boundary: Option<Boundary>,
    /// The handles that such a guest has of its own resources.
    pub(crate) handles: Handles,
    /// Whether the guest may call out: not while it allocates or frees for the host.
    pub(crate) may_leave: bool,
}

impl State {
    pub(crate) fn new(plugin: Arc<str>, limits: Limits, shared: Shared) -> Self {
        Self {
            plugin,
            limits,
            pool: None,
            memory: 0,
            elements: 0,
            growing: 0,
            over_limit: None,
            held: Held::new(&shared),
            shared,
            numbers: Numbers::default(),
            log: Window::default(),
            random: Xoshiro256PlusPlus::seed_from_u64(rand::random()),
            sample: None,
            overtime: Overtime::default(),
            boundary: None,
            handles: Handles::default(),
            may_leave: true,
        }
    }

    /// With random bits that follow from a seed.
    pub(crate) fn seeded(mut self, seed: u64) -> Self {
        self.random = Xoshiro256PlusPlus::seed_from_u64(seed);
        self
    }

    pub(crate) fn store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| state);
        // It fails where nothing is metered, which is the case in a gateway: see `Loader::metered`.
        let _ = store.set_fuel(u64::MAX);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().overtime.next()));
        store
    }
}

/// The time of a call. Epochs count the time of day, and a guest whose thread does not run is not slow. So a call is interrupted at half of its deadline, to
/// note the thread's processor time, and it is cut off at the end only if it computed meanwhile; else it has the second half once more. Up to the half this
/// costs nothing, and nearly all calls end before.
#[derive(Default)]
struct Overtime {
    half: Duration,
    /// The thread's processor time when the current half began; none in the first half.
    since: Option<Duration>,
    grants: u32,
}

/// The largest number of second halves that a call may have: even on a busy machine it is not waited for without end.
const MAX_GRANTS: u32 = 16;

impl Overtime {
    fn arm(&mut self, deadline: Duration) -> u64 {
        *self = Self { half: deadline / 2, since: None, grants: 0 };
        ticks(self.half)
    }

    fn next(&mut self) -> UpdateDeadline {
        let now = processor_time();
        let computed = self.since.map(|since| now.saturating_sub(since));
        if computed.is_some_and(|computed| computed * 2 >= self.half) || self.grants == MAX_GRANTS {
            return UpdateDeadline::Interrupt;
        }
        (self.since, self.grants) = (Some(now), self.grants + 1);
        UpdateDeadline::Continue(ticks(self.half))
    }
}

/// The processor time of this thread. If it could not be had, every call would seem to compute.
pub(crate) fn processor_time() -> Duration {
    let time = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    time.map_or_else(|_| Duration::from_secs(u64::from(u32::MAX)), Duration::from)
}

/// Arms a store: its next call must end within the plugin's deadline of a call.
pub(crate) fn arm_call(store: &mut Store<State>) {
    let state = store.data_mut();
    let ticks = state.overtime.arm(state.limits.deadline);
    store.set_epoch_deadline(ticks);
}

/// Arms a store: its next call must end within the plugin's deadline of configuring.
pub(crate) fn arm_configure(store: &mut Store<State>) {
    let state = store.data_mut();
    let ticks = state.overtime.arm(state.limits.configure_deadline);
    store.set_epoch_deadline(ticks);
}

/// How many bytes of what a guest says reach an operator.
const SAID: usize = 4096;

/// Cuts what a guest says of a failure, as it is kept, logged and shown.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > SAID {
        text.truncate(text.floor_char_boundary(SAID));
        // The rest may have been gigabytes.
        text.shrink_to_fit();
        text.push('…');
    }
    text
}

/// An instance's part of the memory that its plugin's instances hold. It is given back when this is dropped.
struct Held {
    plugin: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    fn new(shared: &Shared) -> Self {
        Self { plugin: shared.memory.clone(), bytes: 0 }
    }

    fn set(&mut self, bytes: usize) {
        self.plugin.fetch_add(bytes, Ordering::Relaxed);
        self.plugin.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The error of a failed call, for the operator.
pub(crate) fn explain(state: &State, stage: Stage, error: &wasmtime::Error) -> PluginError {
    let slow = matches!(stage, Stage::Pick | Stage::Report | Stage::Route | Stage::Save | Stage::Restore);
    let deadline = if slow { state.limits.deadline } else { state.limits.configure_deadline };
    let reason = match &state.over_limit {
        Some(limit) => format!("asked for more than {limit}"),
        None => match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => format!("did not return within its deadline of {deadline:?}"),
            Some(Trap::UnreachableCodeReached) => "trapped: unreachable code (in Rust: a panic)".to_owned(),
            Some(trap) => format!("trapped: {trap}"),
            None => cut(error.root_cause().to_string()),
        },
    };
    PluginError { plugin: state.plugin.clone(), stage, reason }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.growing = desired.saturating_sub(current);
        if self.memory.saturating_add(self.growing) > self.limits.memory {
            self.over_limit.get_or_insert_with(|| format!("its memory limit of {} bytes", self.limits.memory));
            self.growing = 0;
            return Ok(false);
        }
        self.memory += self.growing;
        self.held.set(self.memory);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.growing);
        self.held.set(self.memory);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if desired > TABLE_ELEMENTS || self.elements.saturating_add(more) > ALL_TABLE_ELEMENTS {
            let limit = || format!("{TABLE_ELEMENTS} table elements, or {ALL_TABLE_ELEMENTS} in all tables");
            self.over_limit.get_or_insert_with(limit);
            return Ok(false);
        }
        // A growth that fails nevertheless stays counted: that a table's own type allows less is the guest's affair.
        self.elements += more;
        Ok(true)
    }

    fn memories(&self) -> usize {
        MEMORIES
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }
}

/// The interface has only types.
impl types::Host for State {}

impl State {
    pub(crate) fn next_random(&mut self) -> u64 {
        match &mut self.sample {
            None => self.random.next_u64(),
            Some(sample) => sample.random(&mut self.random),
        }
    }

    /// Reads what the guest asks of an endpoint: from its statistics now, or from what the recorder has of this pick.
    fn endpoint<T>(&mut self, index: u32, read: impl FnOnce(&EndpointStats) -> T, of: impl FnOnce(Sight) -> T) -> Option<T> {
        let stats = &self.pool.as_ref()?.endpoints.get(index as usize)?.stats;
        match &mut self.sample {
            None => Some(read(stats)),
            Some(sample) => Some(of(sample.sight(index, || stats.sight()))),
        }
    }

    pub(crate) fn condition(&mut self, endpoint: u32) -> Condition {
        self.endpoint(endpoint, |s| s.health.condition(), |s| s.condition).unwrap_or(Condition::Healthy)
    }
}

impl statistics::Host for State {
    fn condition_of(&mut self, endpoint: u32) -> statistics::Condition {
        self.condition(endpoint).into()
    }

    fn in_flight(&mut self, endpoint: u32) -> u32 {
        self.endpoint(endpoint, EndpointStats::in_flight, |s| s.in_flight).unwrap_or(0)
    }

    fn latency(&mut self, endpoint: u32) -> u32 {
        self.endpoint(endpoint, EndpointStats::latency_us, |s| s.latency_us).unwrap_or(0)
    }

    fn success(&mut self, endpoint: u32) -> f32 {
        self.endpoint(endpoint, EndpointStats::success, |s| s.success).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_on(overtime: &mut Overtime) -> bool {
        matches!(overtime.next(), UpdateDeadline::Continue(_))
    }

    fn compute(time: Duration) {
        let begun = processor_time();
        while processor_time() - begun < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_call_is_cut_when_it_computed_and_not_when_its_thread_did_not_run() {
        let mut overtime = Overtime::default();
        overtime.arm(Duration::from_millis(20));
        assert!(goes_on(&mut overtime), "the half of the deadline");
        // A busy machine does this to a thread.
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(15));
            assert!(goes_on(&mut overtime));
        }
        compute(Duration::from_millis(8));
        assert!(!goes_on(&mut overtime));
    }

    #[test]
    fn a_call_is_cut_at_last_on_a_machine_that_never_runs_it() {
        let mut overtime = Overtime::default();
        overtime.arm(Duration::from_secs(3600));
        assert_eq!((0..100).take_while(|_| goes_on(&mut overtime)).count(), MAX_GRANTS as usize);
    }
}
