//! Clocks, for discovery plugins. Balancers and routers are pure, and one that reads a clock is not loaded.

use std::time::{Duration, SystemTime};

/// The time of day.
///
/// ```
/// assert!(sluicegate_sdk::clock::now() > std::time::SystemTime::UNIX_EPOCH);
/// ```
pub fn now() -> SystemTime {
    #[cfg(target_arch = "wasm32")]
    {
        let now = crate::bindings::discovery::wasi::clocks::wall_clock::now();
        SystemTime::UNIX_EPOCH + Duration::new(now.seconds, now.nanoseconds)
    }
    #[cfg(not(target_arch = "wasm32"))]
    SystemTime::now()
}

/// The time of a clock that never goes back, counted from an arbitrary beginning.
///
/// ```
/// let begun = sluicegate_sdk::clock::monotonic();
/// assert!(sluicegate_sdk::clock::monotonic() >= begun);
/// ```
pub fn monotonic() -> Duration {
    #[cfg(target_arch = "wasm32")]
    {
        Duration::from_nanos(crate::bindings::discovery::wasi::clocks::monotonic_clock::now())
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}
