//! Balancer and router without wasm: the last rung of the failure ladder, and what tests of `proxy` use.

use rand::{Rng, RngExt};

use crate::pool::Pool;

/// A uniform random choice over the pool, kube-proxy's own policy (SERVICE-SEMANTICS §11).
pub fn random_choice(pool: &Pool, random: &mut impl Rng) -> Option<usize> {
    (!pool.endpoints.is_empty()).then(|| random.random_range(0..pool.endpoints.len()))
}
