//! Services whose endpoints the gateway waits for before it is ready.

use std::time::Duration;

use sluicegate_model::discovery::Key;
use tokio::time::Instant;

use crate::discovery::Runner;

/// How long the gateway is not ready for want of endpoints that have not been found, counted from the last time that any were.
const SINCE_HEARD: Duration = Duration::from_secs(5);
/// How long the gateway is not ready for want of endpoints in all.
const AT_MOST: Duration = Duration::from_secs(60);
/// How many Services are named; of further ones only the number is given.
const NAMES: usize = 20;

/// The time in which endpoints are looked for first. The gateway is not ready before it is over.
pub(super) struct FirstPass {
    begun: Instant,
    /// When endpoints were last found, and for how many Services none had been then.
    heard: Instant,
    missing: usize,
}

impl FirstPass {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, heard: now, missing: usize::MAX }
    }

    /// When this time is over in any case.
    pub(super) fn until(&self) -> Instant {
        (self.heard + SINCE_HEARD).min(self.begun + AT_MOST)
    }

    /// The Services that existed when the gateway started and whose endpoints are not found yet. None if the time is over: all are found, or nothing
    /// more comes.
    pub(super) fn awaited(&mut self, runner: &Runner) -> Option<Vec<String>> {
        let (missing, now) = (runner.missing().count(), Instant::now());
        if missing != self.missing {
            (self.missing, self.heard) = (missing, now);
        }
        if missing == 0 || now >= self.until() {
            return None;
        }
        let mut names: Vec<&Key> = runner.missing().collect();
        names.sort_unstable();
        let shown = names.iter().take(NAMES).map(|key| format!("{}/{}", key.namespace, key.name));
        Some(shown.chain((missing > NAMES).then(|| format!("and {} more", missing - NAMES))).collect())
    }
}
