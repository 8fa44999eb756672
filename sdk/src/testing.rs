//! Stands in for the host in native tests: statistics of endpoints, and random bits that repeat. Empty in wasm.
#![cfg(not(target_arch = "wasm32"))]

use std::cell::Cell;

/// The statistics that a [`Pick`](crate::Pick) made by [`Pick::fake`](crate::Pick::fake) reads. Endpoints past the end of a list read as on the
/// host before their first exchange: nothing in flight, latency 0, success 1.
#[derive(Clone, Debug, Default)]
pub struct FakeHost {
    /// Exchanges under way, by endpoint.
    pub in_flight: Vec<u32>,
    /// Mean latency in microseconds, by endpoint.
    pub latency_us: Vec<u32>,
    /// Share of successes from 0 to 1, by endpoint.
    pub success: Vec<f32>,
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(1) };
}

/// Makes the random bits of this thread begin anew, from this seed.
pub fn seed(seed: u64) {
    RANDOM.set(seed);
}

pub(crate) fn next_random() -> u64 {
    RANDOM.with(crate::host::split_mix)
}
