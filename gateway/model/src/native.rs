//! Balancer and router without wasm: the last rung of the failure ladder, and what tests of `proxy` use.

use rand::{Rng, RngExt};

use crate::pool::Pool;

/// A uniform random choice over the pool, kube-proxy's own policy.
pub fn random_choice(pool: &Pool, random: &mut impl Rng) -> Option<usize> {
    (!pool.endpoints.is_empty()).then(|| random.random_range(0..pool.endpoints.len()))
}

/// How often a balancer is asked again when it names an endpoint that was tried already.
pub const ASK_AGAIN: u32 = 3;

/// A random choice among the endpoints that were not tried: the first of them, from a random place on. It is uniform if none was tried.
pub fn untried(endpoints: usize, tried: impl Fn(usize) -> bool, random: &mut impl Rng) -> Option<usize> {
    let start = if endpoints == 0 { 0 } else { random.random_range(0..endpoints) };
    (0..endpoints).map(|i| (start + i) % endpoints).find(|i| !tried(*i))
}
