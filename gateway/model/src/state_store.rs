//! What balancers know of their pools, kept for a later start of the gateway. Workers put it here from time to time and when they stop, and take it when they
//! meet a pool for the first time; control writes it to disk. No request comes here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plugin::Saved;

/// The largest size of all states together, in bytes.
pub const MOST_BYTES: usize = 64 << 20;

/// Whose state it is: the key of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slot {
    /// The name of the plugin.
    pub plugin: String,
    /// The pool, by a name that a restart does not change.
    pub pool: String,
    /// The number of the worker: each has a state of its own.
    pub worker: usize,
}

/// The states that balancers have left.
#[derive(Debug, Default)]
pub struct StateStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: BTreeMap<Slot, Saved>,
    bytes: usize,
    refused: u64,
    changed: bool,
    /// Whether the last attempt to write the states down failed.
    unsaved: bool,
}

impl StateStore {
    /// A store with what an earlier start has left.
    pub fn with(kept: BTreeMap<Slot, Saved>) -> Self {
        let state_store = Self::default();
        kept.into_iter().for_each(|(slot, saved)| state_store.put(slot, saved));
        state_store.lock().changed = false;
        state_store
    }

    /// Puts a state into the store, in the place of the one that was there.
    pub fn put(&self, slot: Slot, saved: Saved) {
        let mut inner = self.lock();
        let old = inner.kept.get(&slot).map_or(0, |old| old.data.len());
        let bytes = inner.bytes - old + saved.data.len();
        if bytes > MOST_BYTES {
            inner.refused += 1;
            return;
        }
        if inner.kept.get(&slot) != Some(&saved) {
            inner.bytes = bytes;
            inner.changed = true;
            inner.kept.insert(slot, saved);
        }
    }

    /// The state that this worker has left of a pool; that of the first worker, if there were fewer workers then.
    pub fn find(&self, slot: &Slot) -> Option<Saved> {
        let inner = self.lock();
        inner.kept.get(slot).or_else(|| inner.kept.get(&Slot { worker: 0, ..slot.clone() })).cloned()
    }

    /// Drops the states that nobody wants any more.
    pub fn retain(&self, wanted: impl Fn(&Slot) -> bool) {
        let mut inner = self.lock();
        let before = inner.kept.len();
        inner.kept.retain(|slot, _| wanted(slot));
        inner.changed |= inner.kept.len() != before;
        inner.bytes = inner.kept.values().map(|saved| saved.data.len()).sum();
    }

    /// All states, if one has changed since this was called last.
    pub fn changes(&self) -> Option<BTreeMap<Slot, Saved>> {
        let mut inner = self.lock();
        std::mem::take(&mut inner.changed).then(|| inner.kept.clone())
    }

    /// Notes that what [`Self::changes`] gave could not be written down, so that it is given again. Returns true the first time in a row.
    pub fn unsaved(&self) -> bool {
        let mut inner = self.lock();
        inner.changed = true;
        !std::mem::replace(&mut inner.unsaved, true)
    }

    /// Notes that it was written down. Returns true if that failed before.
    pub fn saved(&self) -> bool {
        std::mem::take(&mut self.lock().unsaved)
    }

    /// How often there was no room for a state.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(pool: &str, worker: usize) -> Slot {
        Slot { plugin: "p".to_owned(), pool: pool.to_owned(), worker }
    }

    fn saved(bytes: usize) -> Saved {
        Saved { version: 1, data: vec![7; bytes] }
    }

    #[test]
    fn each_worker_finds_its_own_and_one_more_than_before_the_firsts() {
        let state_store = StateStore::default();
        state_store.put(slot("a", 0), saved(1));
        state_store.put(slot("a", 1), saved(2));
        assert_eq!(state_store.find(&slot("a", 1)), Some(saved(2)));
        assert_eq!(state_store.find(&slot("a", 2)), Some(saved(1)));
        assert_eq!(state_store.find(&slot("b", 0)), None);
    }

    #[test]
    fn it_is_bounded_and_says_when_it_has_changed() {
        let state_store = StateStore::with(BTreeMap::from([(slot("a", 0), saved(1))]));
        assert_eq!(state_store.changes(), None);
        state_store.put(slot("a", 0), saved(1));
        assert_eq!(state_store.changes(), None, "the same");
        state_store.put(slot("b", 0), saved(MOST_BYTES));
        assert_eq!((state_store.changes(), state_store.refused()), (None, 1));
        state_store.put(slot("a", 0), saved(MOST_BYTES));
        assert_eq!(state_store.changes().map(|kept| kept.len()), Some(1));
        state_store.retain(|_| false);
        assert_eq!(state_store.changes(), Some(BTreeMap::new()));
        state_store.put(slot("b", 0), saved(MOST_BYTES));
        assert_eq!(state_store.changes().map(|kept| kept.len()), Some(1));
    }
}
