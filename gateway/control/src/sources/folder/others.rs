//! The files that somebody else reads, such as plugins: which of them have changed, and which must not be read at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::events::{Events, Told};
use super::look::At;
use super::settle::{Digest, Known, Verdict, judge, tell};

/// What a look has found of each of the other files; an error if it is not there.
pub(super) type Looks = BTreeMap<PathBuf, Result<At, String>>;

/// The state of the other files.
#[derive(Default)]
pub(super) struct Others {
    looks: Looks,
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

    /// What the last look has found.
    pub(super) fn looks(&self) -> &Looks {
        &self.looks
    }

    /// The files to look at again: those that have to wait, and those whose content stands at one of these places.
    pub(super) fn due(&self, told: impl Fn(&Path) -> bool) -> Vec<(PathBuf, PathBuf)> {
        let places = self.looks.iter().filter_map(|(path, at)| Some((path, &at.as_ref().ok()?.real)));
        let due = places.filter(|(path, real)| self.waiting.contains_key(*path) || told(real));
        due.map(|(path, real)| (path.clone(), real.clone())).collect()
    }

    /// Takes in the files' present state. Returns those that have changed and whose content counts.
    pub(super) fn update(&mut self, looks: Looks, told: &Told, events: &Events, first: bool, now: SystemTime) -> BTreeSet<PathBuf> {
        self.again = None;
        let mut waiting = BTreeMap::new();
        let mut settled = BTreeMap::new();
        for (path, at) in &looks {
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
        let of = |path: &PathBuf| (settled.get(path), self.settled.get(path));
        let all = settled.keys().chain(self.settled.keys());
        let changed = all.filter(|path| matches!(of(path), (now, before) if now != before)).cloned().collect();
        (self.settled, self.looks) = (settled, looks);
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
