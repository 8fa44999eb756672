//! The time, as sessions, tickets and signatures have it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 if the machine's clock stands before that.
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
