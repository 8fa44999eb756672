//! Unique numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that is unique in the process.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
