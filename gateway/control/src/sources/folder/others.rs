//! The files that somebody else reads, such as plugins: which of them have changed, and which must not be read at the moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::events::{Events, Told};
use super::look::At;
use super::settle::{Digest, Known, Verdict, judge, tell};

/// The state of the other files.
#[derive(Default)]
pub(super) struct Others {
    /// Each file when its content last counted; none if it was not there.
    settled: BTreeMap<PathBuf, Option<At>>,
    /// The files that are being written or are empty, and what to report about each.
    waiting: BTreeMap<PathBuf, Option<String>>,
    since: BTreeMap<PathBuf, Instant>,
    again: Option<Duration>,
}

impl Others {
    pub(super) fn waiting(&self) -> &BTreeMap<PathBuf, Option<String>> {
        &self.waiting
    }

    pub(super) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// Takes in the files' present state. True if one whose content counts has changed.
    pub(super) fn update(
        &mut self,
        seen: &BTreeMap<PathBuf, Result<At, String>>,
        told: &Told,
        events: &Events,
        first: bool,
        now: SystemTime,
    ) -> bool {
        self.again = None;
        let mut waiting = BTreeMap::new();
        let mut settled = BTreeMap::new();
        for (path, at) in seen {
            let Ok(at) = at else {
                settled.insert(path.clone(), None);
                continue;
            };
            let known = self.settled.get(path).and_then(Option::as_ref);
            let as_known = known.map(|at| Known { at: at.clone(), digest: Digest::of(""), racy: false, emptied: false });
            let why = match judge(as_known.as_ref(), at, told.activity(&at.real, events), first, now) {
                Verdict::Wait(left) => self.held(path, left),
                _ if at.stamp.is_empty() => Some("it is empty".to_owned()),
                _ => {
                    settled.insert(path.clone(), Some(at.clone()));
                    continue;
                }
            };
            waiting.insert(path.clone(), why);
            settled.extend(self.settled.get(path).map(|at| (path.clone(), at.clone())));
        }
        self.since.retain(|path, _| waiting.contains_key(path));
        self.waiting = waiting;
        let changed = settled != self.settled;
        self.settled = settled;
        changed
    }

    /// What to report about a file that has to wait, if it has waited for long.
    fn held(&mut self, path: &Path, left: Duration) -> Option<String> {
        self.look_again(left);
        let since = *self.since.entry(path.to_path_buf()).or_insert_with(Instant::now);
        match tell(since) {
            Ok(held) => Some(held),
            Err(until) => {
                self.look_again(until);
                None
            }
        }
    }

    fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |before| before.min(after)));
    }
}
