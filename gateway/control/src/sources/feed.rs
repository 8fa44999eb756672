//! What a source has reported and nobody has taken yet. Only the newest change of each unit is kept, so that this does not grow while nobody takes it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Change, What};

/// What a source reports its changes to.
#[derive(Clone, Debug)]
pub struct Feed {
    pending: Arc<Mutex<Pending>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Pending {
    units: BTreeMap<PathBuf, Vec<What>>,
    /// Something other than a unit has changed, such as a file that a unit names.
    other: bool,
    synced: bool,
    /// Nobody has taken from it since it was synced.
    complete_now: bool,
}

/// What was reported besides units.
pub(super) struct Rest {
    /// Something other than a unit has changed as well.
    pub(super) other: bool,
    /// Everything there was at first is among what was taken.
    pub(super) complete: bool,
}

impl Feed {
    /// Whoever takes from the feed waits for `news`.
    pub fn new(news: Arc<Notify>) -> Self {
        Self { pending: Arc::default(), news }
    }

    /// Reports several changes, which are taken together.
    pub fn tell(&self, changes: impl IntoIterator<Item = Change>) {
        let mut pending = self.lock();
        for Change { unit, what } in changes {
            join(pending.units.entry(unit).or_default(), what);
        }
        drop(pending);
        self.news.notify_one();
    }

    /// Wakes whoever takes from it, though no unit has changed.
    pub fn nudge(&self) {
        self.lock().other = true;
        self.news.notify_one();
    }

    /// Says that everything there was at first has been reported.
    pub fn synced(&self) {
        let mut pending = self.lock();
        pending.complete_now = !pending.synced;
        pending.synced = true;
        drop(pending);
        self.news.notify_one();
    }

    pub(super) fn is_synced(&self) -> bool {
        self.lock().synced
    }

    pub(super) fn has_news(&self) -> bool {
        let pending = self.lock();
        pending.other || pending.complete_now || !pending.units.is_empty()
    }

    /// Moves what was reported to `to`.
    pub(super) fn take(&self, to: &mut Vec<Change>) -> Rest {
        let mut pending = self.lock();
        pending.complete_now = false;
        let units = std::mem::take(&mut pending.units);
        to.extend(units.into_iter().flat_map(|(unit, told)| told.into_iter().map(move |what| Change { unit: unit.clone(), what })));
        Rest { other: std::mem::take(&mut pending.other), complete: pending.synced }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a report about a unit to the earlier ones and drops those that it makes obsolete. At most three remain: a content, that it cannot be read, and
/// what holds it up.
fn join(told: &mut Vec<What>, new: What) {
    match &new {
        What::Text(_) | What::Object(_) | What::Json(_) | What::Gone => told.clear(),
        What::Unreadable(_) | What::Again => told.retain(|what| matches!(what, What::Text(_) | What::Object(_) | What::Json(_))),
        What::Held(_) => told.retain(|what| !matches!(what, What::Held(_))),
    }
    told.push(new);
}
