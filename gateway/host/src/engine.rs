//! The engine, of which a process has one, and its epoch clock.

use std::time::Duration;

use wasmtime::{Cache, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often the epoch advances; deadlines are rounded up to it. Each wake-up costs a core some microseconds: every 2 ms, they came to 0.6 %.
pub const TICK: Duration = Duration::from_millis(5);

/// The number of elements in a guest's table. Tables hold references to functions, and compiled code needs far fewer.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;
/// The largest number of instances at a time, of all workers together.
const INSTANCES: u32 = 512;

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct EngineError(wasmtime::Error);

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        Self(error)
    }
}

/// Makes the engine and starts its clock, a thread that ends with the engine. Compiled code is taken from the cache, if there is one.
pub fn engine(cache: Option<Cache>) -> Result<Engine, wasmtime::Error> {
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 4)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * 4)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(4 << 30);
    // Where address space is limited (ulimit -v) the reservation fails. Then instances are allocated one by one, which is slower and no less safe.
    let engine = Engine::new(base(cache.clone()).allocation_strategy(InstanceAllocationStrategy::Pooling(pooling)))
        .or_else(|_| Engine::new(&base(cache)))?;
    with_clock(engine)
}

/// Makes an engine that counts instructions (wasmtime's fuel: one for each, none for those that only shape blocks). It is for measurements; a gateway's
/// engine does not count.
pub(crate) fn metered(cache: Option<Cache>) -> Result<Engine, wasmtime::Error> {
    let mut config = base(cache);
    config.consume_fuel(true);
    with_clock(Engine::new(&config)?)
}

fn with_clock(engine: Engine) -> Result<Engine, wasmtime::Error> {
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("epoch".into())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map_err(wasmtime::Error::new)?;
    Ok(engine)
}

fn base(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true).cache(cache);
    config
}

/// A deadline in ticks. It is at least as long as the duration, as the first tick may come at once.
pub(crate) fn ticks(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2).saturating_add(1)
}
