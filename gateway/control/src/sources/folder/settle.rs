//! When a file's content counts. A shell that redirects into a file empties it at once, and the program writes later: until the file is closed,
//! its content is not what anybody wants.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use sluicegate_model::plugin::hash_bytes;

use super::look::At;

/// A file that is open and has not been written for this long counts as it is: it may never be closed, or the event was missed.
const SILENT: Duration = Duration::from_secs(60);
/// If no event says that its writer has finished, a file counts once it has not changed for this long.
const YOUNG: Duration = Duration::from_millis(500);
/// Within this time after a change, another change may leave the same times behind, so the file is read once more at the next look.
pub(super) const RACY: Duration = Duration::from_secs(2);
/// When a file has had to wait for this long, that is reported.
const TELL: Duration = Duration::from_secs(2);

/// A file as it was read last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) at: At,
    /// The digest of the text that counts.
    pub(super) digest: Digest,
    /// Whether the file was read within [`RACY`] of its last change.
    pub(super) racy: bool,
    /// The file is empty now, and the content that counts is that of the version before.
    pub(super) emptied: bool,
}

/// Distinguishes texts. It need not be secure: whoever writes the files gains nothing from two that have the same digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    length: usize,
    hash: u64,
    /// Whether the text is blank.
    pub(super) blank: bool,
}

impl Digest {
    pub(super) fn of(text: &str) -> Self {
        Self { length: text.len(), hash: hash_bytes(text.as_bytes()), blank: text.trim().is_empty() }
    }
}

/// What the watcher knows about a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    /// The file was closed by a writer, renamed, or otherwise changed as a whole.
    pub(super) told: bool,
    /// When the file was last written, if that was after it was last closed.
    pub(super) written: Option<Instant>,
}

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The file is the same as before.
    Same,
    /// The file is to be read.
    Read,
    /// The file has to wait, and is looked at again after this time.
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
        // This includes times in the future, which say nothing: such a file's age stays zero.
        _ if known.is_some_and(|known| known.at == *at) => Verdict::Read,
        left if left.is_zero() => Verdict::Read,
        left => Verdict::Wait(left),
    }
}

/// Whether a file that was last written at this time, and has not been closed since, has to wait.
pub(super) fn being_written(last: Instant) -> bool {
    last.elapsed() < SILENT
}

/// Whether a file that is read now may have changed since without its times showing it.
pub(super) fn racy(at: &At, now: SystemTime) -> bool {
    at.stamp.age(now) < RACY
}

/// What to report about a file that has to wait, or the time until there is something to report.
pub(super) fn tell(since: Instant) -> Result<String, Duration> {
    let waited = since.elapsed();
    if waited < TELL {
        return Err(TELL - waited);
    }
    Ok("it is open for writing and counts when it is closed, or has not been written for a minute".to_owned())
}

/// What is reported about a file that had objects and is empty now, as a full disk or a failed program leaves it behind.
pub(super) fn emptied(path: &Path) -> String {
    format!("it is empty; remove {}, or leave a comment in it, if its objects are to go", path.display())
}
