//! What a source has told and nobody has taken yet: of each unit the newest, so that it does not grow while nobody takes it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Change, What};

/// Where a source tells what changes.
#[derive(Clone, Debug)]
pub struct Feed {
    pending: Arc<Mutex<Pending>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Pending {
    units: BTreeMap<PathBuf, Vec<What>>,
    /// Something else than a unit has changed, as a file that a unit names.
    other: bool,
    synced: bool,
}

impl Feed {
    /// Whoever takes from it waits for `news`.
    pub fn new(news: Arc<Notify>) -> Self {
        Self { pending: Arc::default(), news }
    }

    /// Tells several changes, which are taken together.
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

    /// All that there was at first has been told.
    pub fn synced(&self) {
        self.lock().synced = true;
        self.news.notify_one();
    }

    pub(super) fn is_synced(&self) -> bool {
        self.lock().synced
    }

    pub(super) fn has_news(&self) -> bool {
        let pending = self.lock();
        pending.other || !pending.units.is_empty()
    }

    /// Moves what was told to `to`; true if something else has changed as well.
    pub(super) fn take(&self, to: &mut Vec<Change>) -> bool {
        let mut pending = self.lock();
        let units = std::mem::take(&mut pending.units);
        to.extend(units.into_iter().flat_map(|(unit, told)| told.into_iter().map(move |what| Change { unit: unit.clone(), what })));
        std::mem::take(&mut pending.other)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds what is told to what was, and drops what does not count any more: a content, that it cannot be read, and what holds it are left at most.
fn join(told: &mut Vec<What>, new: What) {
    match &new {
        What::Text(_) | What::Object(_) | What::Gone => told.clear(),
        What::Unreadable(_) | What::Again => told.retain(|what| matches!(what, What::Text(_) | What::Object(_))),
        What::Held(_) => told.retain(|what| !matches!(what, What::Held(_))),
    }
    told.push(new);
}
