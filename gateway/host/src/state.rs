//! What a guest can reach: its memory limit, randomness, the log, and the statistics of the pool being picked from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluicegate_model::plugin::{Limits, PluginError, Stage};
use sluicegate_model::pool::Pool;
use wasmtime::{ResourceLimiter, Store, Trap};

use crate::bindings::balancer::sluicegate::plugin::{host, statistics, types};
use crate::engine::ticks;

/// Log lines a guest may write each second; the rest is counted and dropped.
const LOG_LINES_PER_SECOND: u32 = 20;
/// Longer log lines are cut.
const LOG_LINE_BYTES: usize = 4096;
/// Tables of a guest hold function references: this is far above what compiled code needs.
const TABLE_ELEMENTS: usize = 100_000;

pub(crate) struct State {
    pub(crate) plugin: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) memory: usize,
    over_limit: bool,
    random: SmallRng,
    log_window: Instant,
    log_lines: u32,
}

impl State {
    pub(crate) fn new(plugin: Arc<str>, limits: Limits) -> Self {
        Self {
            plugin,
            limits,
            pool: None,
            memory: 0,
            over_limit: false,
            random: SmallRng::seed_from_u64(rand::random()),
            log_window: Instant::now(),
            log_lines: 0,
        }
    }

    pub(crate) fn store(self, engine: &wasmtime::Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| state);
        store
    }
}

/// A store whose next call must end within the plugin's call deadline.
pub(crate) fn arm_call(store: &mut Store<State>) {
    let deadline = ticks(store.data().limits.deadline);
    store.set_epoch_deadline(deadline);
}

/// A store whose next call must end within the plugin's configure deadline.
pub(crate) fn arm_configure(store: &mut Store<State>) {
    let deadline = ticks(store.data().limits.configure_deadline);
    store.set_epoch_deadline(deadline);
}

/// Says what a failed call was, in the operator's words.
pub(crate) fn explain(state: &State, stage: Stage, error: &wasmtime::Error) -> PluginError {
    let slow = matches!(stage, Stage::Pick | Stage::Report | Stage::Route);
    let deadline = if slow { state.limits.deadline } else { state.limits.configure_deadline };
    let reason = if state.over_limit {
        format!("asked for more than its memory limit of {} bytes", state.limits.memory)
    } else {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => format!("did not return within its deadline of {deadline:?}"),
            Some(Trap::UnreachableCodeReached) => "trapped: unreachable code (in Rust: a panic)".to_owned(),
            Some(trap) => format!("trapped: {trap}"),
            None => error.root_cause().to_string(),
        }
    };
    PluginError { plugin: state.plugin.clone(), stage, reason }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.memory {
            self.over_limit = true;
            return Ok(false);
        }
        self.memory = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

/// Types only.
impl types::Host for State {}

impl host::Host for State {
    fn log(&mut self, level: host::Level, mut message: String) {
        if self.log_window.elapsed() > Duration::from_secs(1) {
            if self.log_lines > LOG_LINES_PER_SECOND {
                tracing::warn!(plugin = %self.plugin, dropped = self.log_lines - LOG_LINES_PER_SECOND, "the plugin logs too much");
            }
            self.log_window = Instant::now();
            self.log_lines = 0;
        }
        self.log_lines = self.log_lines.saturating_add(1);
        if self.log_lines > LOG_LINES_PER_SECOND {
            return;
        }
        if message.len() > LOG_LINE_BYTES {
            message.truncate(message.floor_char_boundary(LOG_LINE_BYTES));
        }
        match level {
            host::Level::Debug => tracing::debug!(plugin = %self.plugin, "{message}"),
            host::Level::Info => tracing::info!(plugin = %self.plugin, "{message}"),
            host::Level::Warn => tracing::warn!(plugin = %self.plugin, "{message}"),
            host::Level::Error => tracing::error!(plugin = %self.plugin, "{message}"),
        }
    }

    fn random(&mut self) -> u64 {
        self.next_random()
    }
}

impl State {
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random.next_u64()
    }

    fn endpoint<T>(&self, index: u32, read: impl FnOnce(&sluicegate_model::stats::EndpointStats) -> T) -> Option<T> {
        Some(read(&self.pool.as_ref()?.endpoints.get(index as usize)?.stats))
    }
}

impl statistics::Host for State {
    fn in_flight(&mut self, endpoint: u32) -> u32 {
        self.endpoint(endpoint, |s| s.in_flight()).unwrap_or(0)
    }

    fn latency(&mut self, endpoint: u32) -> u32 {
        self.endpoint(endpoint, |s| s.latency_us()).unwrap_or(0)
    }

    fn success(&mut self, endpoint: u32) -> f32 {
        self.endpoint(endpoint, |s| s.success()).unwrap_or(0.0)
    }
}
