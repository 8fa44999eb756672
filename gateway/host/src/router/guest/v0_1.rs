//! Routers of version 0.1: rules say nothing of retries, and a time-out of 0 means none is set.

use std::time::Duration;

use sluicegate_model::settings::Retry;

use crate::bindings::v0_1::router as wit;

#[path = "of_version.rs"]
mod of_version;
pub(super) use of_version::Guest;
pub(super) use wit::{Router, RouterPre};

fn timeout(milliseconds: Option<u32>) -> Option<Duration> {
    milliseconds.filter(|number| *number > 0).map(|number| Duration::from_millis(number.into()))
}

fn retry(_: &mut wit::exports::sluicegate::plugin::routing::Rule) -> Result<Option<Retry>, String> {
    Ok(None)
}
