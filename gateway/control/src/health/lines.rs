//! Lines of the log about endpoints. Their number in a second is limited: if a thousand endpoints fail at once, the first lines and a count say so.

use std::fmt;
use std::time::{Duration, Instant};

use super::Named;

const LINES_PER_SECOND: u32 = 20;

/// Writes lines, and counts those that are too many.
#[derive(Default)]
pub(super) struct Lines {
    window: Option<Instant>,
    written: u32,
    dropped: u64,
}

impl Lines {
    /// Logs that an endpoint is not used any more.
    pub(super) fn bad(&mut self, Named((service, _), endpoint): Named<'_>, what: &str, why: impl fmt::Display) {
        if self.may() {
            tracing::warn!(%service, %endpoint, %why, "{what}");
        }
    }

    /// Logs that an endpoint is used again.
    pub(super) fn good(&mut self, Named((service, _), endpoint): Named<'_>, what: &str) {
        if self.may() {
            tracing::info!(%service, %endpoint, "{what}");
        }
    }

    fn may(&mut self) -> bool {
        let may = self.written < LINES_PER_SECOND;
        if may {
            self.written += 1
        } else {
            self.dropped += 1
        }
        may
    }

    /// Begins a new second.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.window.is_some_and(|since| now.saturating_duration_since(since) < Duration::from_secs(1)) {
            return;
        }
        if self.dropped > 0 {
            tracing::warn!(changes = self.dropped, "more endpoints changed their health; see `sluicegate get endpoints`");
        }
        *self = Self { window: Some(now), written: 0, dropped: 0 };
    }
}
