//! How often one object is written: what the server refused waits, and an object that somebody else changes back each time is left alone for longer and longer.

use std::time::Duration;

use tokio::time::Instant;

/// So often in [`WITHIN`] an object is written without a pause.
pub(crate) const OFTEN: u32 = 10;
/// Counts of writes are halved after this time.
const WITHIN: Duration = Duration::from_secs(60);
/// The first pause of an object that was refused, or is written too often. It doubles each time.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);
/// After so many conflicts, one after the other, an object waits.
pub(crate) const CONFLICTS: u32 = 3;

/// When an object may be written again.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Conflicts since the last write.
    conflicts: u32,
    /// Writes lately, and since when they are counted.
    writes: u32,
    since: Option<Instant>,
    /// When it may be written again, and the pause that was.
    after: Option<Instant>,
    pause: Duration,
    /// What was wished when the server refused it; the pause is for this wish only.
    refused: Option<u64>,
}

impl Pace {
    /// Until when it is not to be written. A pause for something refused ends when something else is wished.
    pub(crate) fn waits(&mut self, print: u64, now: Instant) -> Option<Instant> {
        if self.refused.is_some_and(|refused| refused != print) {
            (self.refused, self.after, self.pause) = (None, None, Duration::ZERO);
        }
        self.after.filter(|after| now < *after)
    }

    /// It was written.
    pub(crate) fn written(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now >= since + WITHIN) {
            (self.writes, self.since) = (self.writes / 2, Some(now));
        }
        self.writes += 1;
        (self.refused, self.conflicts) = (None, 0);
        if self.writes > OFTEN {
            self.wait(now);
        } else {
            (self.after, self.pause) = (None, Duration::ZERO);
        }
    }

    /// Somebody else had written since it was read.
    pub(crate) fn conflict(&mut self, now: Instant) {
        self.conflicts += 1;
        if self.conflicts > CONFLICTS {
            self.wait(now);
        }
    }

    /// The server refuses to store this.
    pub(crate) fn refused(&mut self, print: u64, now: Instant) {
        self.refused = Some(print);
        self.wait(now);
    }

    fn wait(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST);
        self.after = Some(now + self.pause);
    }
}
