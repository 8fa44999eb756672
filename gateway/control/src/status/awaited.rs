//! Services whose endpoints the gateway waits for before it is ready.

use std::time::Duration;

use sluicegate_model::discovery::Key;
use tokio::time::Instant;

use crate::discovery::Runner;

/// How long the gateway is not ready for want of endpoints that nothing was heard of, counted from what was heard last.
const SINCE_HEARD: Duration = Duration::from_secs(5);
/// How long the gateway is not ready for want of endpoints in all.
const AT_MOST: Duration = Duration::from_secs(60);
/// So many Services are named; of more it is said how many.
const NAMES: usize = 20;

/// The first time that endpoints are looked for: the gateway is not ready before it is over.
pub(super) struct FirstPass {
    begun: Instant,
    /// When something was heard last, and how many Services nothing was heard of then.
    heard: Instant,
    missing: usize,
}

impl FirstPass {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, heard: now, missing: usize::MAX }
    }

    /// When it is over in any case.
    pub(super) fn until(&self) -> Instant {
        (self.heard + SINCE_HEARD).min(self.begun + AT_MOST)
    }

    /// The Services whose endpoints were there when the gateway started, and are not found yet. None: all are found, or nothing more comes; it is over.
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
