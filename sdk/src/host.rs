//! Random bits. Natively they come from a seeded generator, so that tests can be repeated.

/// Returns 64 uniform random bits from a generator that belongs to the worker. They are not for secrets.
#[cfg(target_arch = "wasm32")]
pub fn random() -> u64 {
    crate::bindings::balancer::sluicegate::plugin::host::random()
}

/// Returns 64 uniform random bits, natively from a generator that belongs to the thread; see [`crate::testing::seed`]. They are not for secrets.
///
/// ```
/// sluicegate_sdk::testing::seed(7);
/// assert_ne!(sluicegate_sdk::random(), sluicegate_sdk::random());
/// ```
#[cfg(not(target_arch = "wasm32"))]
pub fn random() -> u64 {
    crate::testing::next_random()
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Any seed will do, whereas xorshift stays at 0 if it is seeded with 0.
pub(crate) fn split_mix(state: &std::cell::Cell<u64>) -> u64 {
    let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(next);
    let z = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A uniform index below `n`, and 0 if `n` is 0: Lemire's multiply-shift without its rejection step. The bias of `n / 2^64` does not matter to balancers.
pub(crate) fn below(random: u64, n: usize) -> usize {
    ((u128::from(random) * n as u128) >> 64) as usize
}

/// Makes panics write to the gateway's log where they happened, before they end as traps. Each export that starts something calls it.
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| crate::log(crate::Level::Error, &panic.to_string()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_covers_the_range_evenly() {
        crate::testing::seed(7);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[below(random(), 10)] += 1;
        }
        assert!(counts.iter().all(|&n| (9_500..10_500).contains(&n)), "{counts:?}");
        assert_eq!(below(u64::MAX, 3), 2);
        assert_eq!(below(u64::MAX, 0), 0);
    }
}
