//! Routers of version 0.2.

use std::time::Duration;

use sluicegate_model::settings::Retry;

use crate::bindings::router as wit;

#[path = "of_version.rs"]
#[allow(clippy::duplicate_mod, reason = "the types of the two versions are alike, and not the same")]
mod of_version;
pub(super) use of_version::Guest;
pub(super) use wit::{Router, RouterPre};

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

/// A time-out. 0 means no limit.
fn timeout(number: Option<u32>) -> Option<Duration> {
    number.map(milliseconds)
}

fn retry(rule: &mut wit::exports::sluicegate::plugin::routing::Rule) -> Result<Option<Retry>, String> {
    let Some(retry) = rule.retry.take() else { return Ok(None) };
    if let Some(status) = retry.statuses.iter().find(|status| !(400..600).contains(*status)) {
        return Err(format!("retry: {status} is not the status of an error (400-599)"));
    }
    if let Some(attempts) = retry.attempts.filter(|n| *n > Retry::MOST_TIMES) {
        return Err(format!("retry: {attempts} attempts are more than {}", Retry::MOST_TIMES));
    }
    let mut statuses = retry.statuses;
    statuses.sort_unstable();
    statuses.dedup();
    Ok(Some(Retry::of_rule(retry.attempts, statuses, retry.back_off.map(milliseconds))))
}
