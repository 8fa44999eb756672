//! When a file's content counts. A shell that is told to write a file empties it at once, and the program writes later: until the file is closed,
//! what stands in it is nobody's wish.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use sluicegate_model::plugin::hash_bytes;

use super::look::At;

/// A file that is open and has not been written for so long counts as it is: it may never be closed, or that was missed.
const SILENT: Duration = Duration::from_secs(60);
/// Where no event says that its writer is done, a file counts when it has not changed for so long.
const YOUNG: Duration = Duration::from_millis(500);
/// Within so long of a change another one may leave the same times behind: the file is read once more at the next look.
pub(super) const RACY: Duration = Duration::from_secs(2);
/// That a file waits is told after so long.
const TELL: Duration = Duration::from_secs(2);

/// A file as it was read last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) at: At,
    /// The digest of the text that counts.
    pub(super) digest: Digest,
    /// See [`RACY`].
    pub(super) racy: bool,
    /// What stands there is empty, and the text that counts is that of the version before.
    pub(super) emptied: bool,
}

/// Tells texts apart. Whoever writes them has nothing to gain by two that look the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    length: usize,
    hash: u64,
    /// There is nothing in it.
    pub(super) blank: bool,
}

impl Digest {
    pub(super) fn of(text: &str) -> Self {
        Self { length: text.len(), hash: hash_bytes(text.as_bytes()), blank: text.trim().is_empty() }
    }
}

/// What the watcher says of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    /// It was closed by a writer, renamed, or otherwise changed as a whole.
    pub(super) told: bool,
    /// It was written since somebody closed it last, the last time then.
    pub(super) written: Option<Instant>,
}

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The file is what it was.
    Same,
    /// The file is to be read.
    Read,
    /// It waits, and is looked at again after this.
    Wait(Duration),
}

pub(super) fn judge(known: Option<&Known>, at: &At, activity: Activity, first: bool, now: SystemTime) -> Verdict {
    if let Some(written) = activity.written.filter(|written| being_written(*written)) {
        return Verdict::Wait(SILENT.saturating_sub(written.elapsed()));
    }
    let other_place = known.is_some_and(|known| known.at.real != at.real);
    match known {
        Some(known) if known.at == *at && !known.racy && !activity.told && activity.written.is_none() => return Verdict::Same,
        _ if first || other_place || activity.told => return Verdict::Read,
        _ => {}
    }
    match YOUNG.saturating_sub(at.stamp.age(now)) {
        // Also of times in the future, of which nothing can be known: their age is zero for ever.
        _ if known.is_some_and(|known| known.at == *at) => Verdict::Read,
        left if left.is_zero() => Verdict::Read,
        left => Verdict::Wait(left),
    }
}

/// Whether a file that was written then, and not closed since, is to wait.
pub(super) fn being_written(last: Instant) -> bool {
    last.elapsed() < SILENT
}

/// Whether a file that was read now may have changed since without that its times show it.
pub(super) fn racy(at: &At, now: SystemTime) -> bool {
    at.stamp.age(now) < RACY
}

/// Whether it is to be told that a file waits, or after how long.
pub(super) fn tell(since: Instant) -> Result<String, Duration> {
    let waited = since.elapsed();
    if waited < TELL {
        return Err(TELL - waited);
    }
    Ok("it is open for writing and counts when it is closed, or has not been written for a minute".to_owned())
}

/// What is said of a file that had objects and is empty now: a disk that was full, or a program that failed, leaves one behind.
pub(super) fn emptied(path: &Path) -> String {
    format!("it is empty; remove {}, or leave a comment in it, if its objects are to go", path.display())
}
