//! The monotonic clock, which counts from the start of the task, and the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::Wasi;
use crate::bindings::discovery::wasi::clocks::{monotonic_clock, wall_clock};

/// The longest wait. The host ends a task that waits so long anyway.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

struct Deadline(Instant);

#[async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        tokio::time::sleep_until(self.0).await;
    }
}

impl Wasi {
    fn wait(&mut self, wait: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = self.table.push(Deadline(Instant::now() + wait.min(LONGEST_WAIT)))?;
        subscribe(&mut self.table, deadline)
    }
}

impl monotonic_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wait(Duration::from_nanos(when).saturating_sub(self.started.elapsed()))
    }

    fn subscribe_duration(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wait(Duration::from_nanos(when))
    }
}

impl wall_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}
