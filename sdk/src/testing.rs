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

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): any seed will do, unlike xorshift's, where 0 stays 0.
pub(crate) fn next_random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
