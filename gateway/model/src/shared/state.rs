//! Key-value state that all instances of a plugin share. It is bounded in entries and bytes, and each entry may have a time to live.
//!
//! There are sixteen shards, each with a lock that is held for one look-up and one copy. Workers of a plugin that uses this meet rarely, and other plugins
//! never come here. The bounds are kept over all shards by two atomics.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;

use crate::limits::{DEFAULT_BYTES, DEFAULT_ENTRIES};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 256;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 64 << 10;
/// What an entry costs besides its key and value, in bytes.
pub const ENTRY_COST: usize = 96;

const SHARDS: usize = 16;
/// How often a full store is swept of entries whose time is over. A plugin that goes on writing must not make each write look at everything.
const SWEEP: Duration = Duration::from_millis(100);

/// Why something was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharedError {
    /// There are as many entries or bytes as there may be.
    #[error("the plugin's shared state is full")]
    Full,
    /// The key or the value is too long.
    #[error("a key has at most {MAX_KEY} bytes, and a value {MAX_VALUE}")]
    TooLarge,
    /// The entry has another version.
    #[error("the entry has changed")]
    Conflict,
    /// The value to which `add` is to add is not a number.
    #[error("the value is not the eight bytes of a number")]
    NotANumber,
}

/// Tells the time since any beginning.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The state that the instances of one plugin share.
pub struct SharedState {
    shards: [Mutex<HashMap<Box<str>, Entry, FxBuildHasher>>; SHARDS],
    entries: AtomicUsize,
    bytes: AtomicUsize,
    most_entries: AtomicUsize,
    most_bytes: AtomicUsize,
    versions: AtomicU64,
    refused: AtomicU64,
    /// When the store was swept last, in milliseconds.
    swept: AtomicU64,
    clock: Clock,
}

#[derive(Clone)]
struct Entry {
    value: Box<[u8]>,
    version: u64,
    /// When the entry's time is over, by the clock.
    until: Option<Duration>,
}

impl Entry {
    fn is_over(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState").field("entries", &self.entries).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Default for SharedState {
    fn default() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        Self::with_clock(Arc::new(move || start.elapsed()))
    }
}

fn fits(value: &[u8]) -> Result<(), SharedError> {
    if value.len() > MAX_VALUE { Err(SharedError::TooLarge) } else { Ok(()) }
}

fn cost(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_COST
}

impl SharedState {
    /// An empty store with the default limits and a clock of the caller's, as a simulation has its own time.
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            shards: Default::default(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            most_entries: AtomicUsize::new(DEFAULT_ENTRIES),
            most_bytes: AtomicUsize::new(DEFAULT_BYTES),
            versions: AtomicU64::new(1),
            refused: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            clock,
        }
    }

    /// Sets the limits. Entries beyond them stay until they are overwritten or removed, or their time is over.
    pub fn limit(&self, entries: usize, bytes: usize) {
        self.most_entries.store(entries, Ordering::Relaxed);
        self.most_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A copy, which does not change with this store any more.
    #[must_use]
    pub fn fork(&self) -> Self {
        let copy = Self::with_clock(self.clock.clone());
        copy.limit(self.most_entries.load(Ordering::Relaxed), self.most_bytes.load(Ordering::Relaxed));
        copy.versions.store(self.versions.load(Ordering::Relaxed), Ordering::Relaxed);
        for (from, to) in self.shards.iter().zip(&copy.shards) {
            let entries = lock(from).clone();
            copy.entries.fetch_add(entries.len(), Ordering::Relaxed);
            copy.bytes.fetch_add(entries.iter().map(|(key, entry)| cost(key, &entry.value)).sum(), Ordering::Relaxed);
            *lock(to) = entries;
        }
        copy
    }

    /// The value of a key, and its version.
    pub fn get(&self, key: &str) -> Option<(Vec<u8>, u64)> {
        let shard = self.shard(key);
        let entry = shard.get(key).filter(|entry| !entry.is_over((self.clock)()))?;
        Some((entry.value.to_vec(), entry.version))
    }

    /// Writes a value, whatever was there. Returns the new version.
    pub fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64, SharedError> {
        fits(value)?;
        self.write(key, ttl, |_| Ok(Some(value.into())))
    }

    /// Writes a value if the version is the expected one; `None`: if there is no entry.
    pub fn compare_and_set(&self, key: &str, expected: Option<u64>, value: &[u8], ttl: Option<Duration>) -> Result<u64, SharedError> {
        fits(value)?;
        self.write(
            key,
            ttl,
            |entry| {
                if entry.map(|entry| entry.version) == expected { Ok(Some(value.into())) } else { Err(SharedError::Conflict) }
            },
        )
    }

    /// Adds to a number, which stops at the ends of its range, and returns the sum. The time to live is that of the first `add`.
    pub fn add(&self, key: &str, amount: i64, ttl: Option<Duration>) -> Result<i64, SharedError> {
        let mut sum = amount;
        self.write(key, ttl, |entry| {
            if let Some(entry) = entry {
                let number = <[u8; 8]>::try_from(&*entry.value).map_err(|_| SharedError::NotANumber)?;
                sum = i64::from_le_bytes(number).saturating_add(amount);
                entry.value = sum.to_le_bytes().into();
                return Ok(None);
            }
            Ok(Some(amount.to_le_bytes().into()))
        })?;
        Ok(sum)
    }

    /// Removes an entry. Returns whether there was one.
    pub fn remove(&self, key: &str) -> bool {
        let mut shard = self.shard(key);
        let Some((key, entry)) = shard.remove_entry(key) else { return false };
        self.forget(&key, &entry);
        !entry.is_over((self.clock)())
    }

    /// The number of entries, of bytes, and of writes that were refused for want of room.
    pub fn figures(&self) -> (usize, usize, u64) {
        let read = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        (read(&self.entries), read(&self.bytes), self.refused.load(Ordering::Relaxed))
    }

    /// Writes an entry. `change` returns the new value, or none if it has changed the entry in its place to one of the same size.
    fn write(
        &self,
        key: &str,
        ttl: Option<Duration>,
        mut change: impl FnMut(Option<&mut Entry>) -> Result<Option<Box<[u8]>>, SharedError>,
    ) -> Result<u64, SharedError> {
        if key.len() > MAX_KEY {
            return Err(SharedError::TooLarge);
        }
        match self.try_write(key, ttl, &mut change) {
            Err(SharedError::Full) if self.sweep() => self.try_write(key, ttl, &mut change),
            done => done,
        }
        .inspect_err(|error| {
            if *error == SharedError::Full {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn try_write(
        &self,
        key: &str,
        ttl: Option<Duration>,
        change: &mut impl FnMut(Option<&mut Entry>) -> Result<Option<Box<[u8]>>, SharedError>,
    ) -> Result<u64, SharedError> {
        let now = (self.clock)();
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|entry| entry.is_over(now))
            && let Some((key, entry)) = shard.remove_entry(key)
        {
            self.forget(&key, &entry);
        }
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        let Some(value) = change(shard.get_mut(key))? else {
            if let Some(entry) = shard.get_mut(key) {
                entry.version = version;
            }
            return Ok(version);
        };
        let until = ttl.map(|ttl| now.saturating_add(ttl));
        match shard.get_mut(key) {
            Some(entry) => {
                self.room(0, value.len().saturating_sub(entry.value.len()))?;
                self.bytes.fetch_sub(entry.value.len().saturating_sub(value.len()), Ordering::Relaxed);
                *entry = Entry { value, version, until };
            }
            None => {
                self.room(1, cost(key, &value))?;
                shard.insert(key.into(), Entry { value, version, until });
            }
        }
        Ok(version)
    }

    /// Takes room, if there is any.
    fn room(&self, entries: usize, bytes: usize) -> Result<(), SharedError> {
        if self.entries.fetch_add(entries, Ordering::Relaxed) + entries > self.most_entries.load(Ordering::Relaxed) && entries > 0 {
            self.entries.fetch_sub(entries, Ordering::Relaxed);
            return Err(SharedError::Full);
        }
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.most_bytes.load(Ordering::Relaxed) && bytes > 0 {
            self.entries.fetch_sub(entries, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(SharedError::Full);
        }
        Ok(())
    }

    fn forget(&self, key: &str, entry: &Entry) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(cost(key, &entry.value), Ordering::Relaxed);
    }

    /// Drops entries whose time is over. Returns false if the store was swept a moment ago.
    fn sweep(&self) -> bool {
        let now = (self.clock)();
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let last = self.swept.load(Ordering::Relaxed);
        let due = last == 0 || ms.saturating_sub(last) >= SWEEP.as_millis() as u64;
        if !due || self.swept.compare_exchange(last, ms.max(1), Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        for shard in &self.shards {
            lock(shard).retain(|key, entry| {
                let over = entry.is_over(now);
                if over {
                    self.forget(key, entry);
                }
                !over
            });
        }
        true
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, HashMap<Box<str>, Entry, FxBuildHasher>> {
        // A map uses the lower bits of the hash for its own places, so the shard goes by the upper ones.
        let hash = FxBuildHasher.hash_one(key);
        lock(&self.shards[(hash >> 60) as usize % SHARDS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store, and its clock, in milliseconds.
    fn timed() -> (SharedState, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000));
        let clock = time.clone();
        (SharedState::with_clock(Arc::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)))), time)
    }

    fn text(state: &SharedState, key: &str) -> Option<String> {
        state.get(key).map(|(value, _)| String::from_utf8(value).expect("text"))
    }

    #[test]
    fn a_write_is_compared_with_the_version_that_was_read() {
        let (state, _) = timed();
        assert_eq!(state.compare_and_set("k", Some(1), b"x", None), Err(SharedError::Conflict));
        let first = state.compare_and_set("k", None, b"a", None).expect("there was none");
        assert_eq!(state.compare_and_set("k", None, b"b", None), Err(SharedError::Conflict));
        let second = state.compare_and_set("k", Some(first), b"b", None).expect("as it was read");
        assert_eq!(state.compare_and_set("k", Some(first), b"c", None), Err(SharedError::Conflict));
        assert_eq!(state.get("k"), Some((b"b".to_vec(), second)));
        assert!(state.remove("k") && !state.remove("k"));
        assert_eq!(state.figures(), (0, 0, 0));
    }

    #[test]
    fn a_number_counts_what_happened_within_its_time() {
        let (state, time) = timed();
        let ttl = Some(Duration::from_millis(50));
        assert_eq!((state.add("n", 2, ttl), state.add("n", 3, ttl)), (Ok(2), Ok(5)));
        time.fetch_add(49, Ordering::Relaxed);
        assert_eq!(state.add("n", 1, ttl), Ok(6), "the time is that of the first");
        time.fetch_add(1, Ordering::Relaxed);
        assert_eq!(state.add("n", 1, ttl), Ok(1));
        state.set("n", b"text", None).expect("there is room");
        assert_eq!(state.add("n", 1, None), Err(SharedError::NotANumber));
        state.set("m", &i64::MAX.to_le_bytes(), None).expect("there is room");
        assert_eq!(state.add("m", 1, None), Ok(i64::MAX));
    }

    #[test]
    fn it_is_bounded_and_what_has_run_out_makes_room() {
        let (state, time) = timed();
        state.limit(3, 3 * (ENTRY_COST + 2));
        for key in ["a", "b"] {
            state.set(key, b"1", Some(Duration::from_millis(10))).expect("there is room");
        }
        state.set("c", b"1", None).expect("there is room");
        assert_eq!(state.set("d", b"1", None), Err(SharedError::Full), "entries");
        assert_eq!(state.set("c", b"12", None), Err(SharedError::Full), "bytes");
        assert_eq!(state.set("c", b"2", None).map(|_| text(&state, "c")), Ok(Some("2".to_owned())), "what needs no more room");
        time.fetch_add(200, Ordering::Relaxed);
        assert_eq!(text(&state, "a"), None);
        state.set("d", b"1", None).expect("two have run out");
        assert_eq!(state.figures(), (2, 2 * (ENTRY_COST + 2), 2));
        assert_eq!(state.set(&"k".repeat(MAX_KEY + 1), b"", None), Err(SharedError::TooLarge));
        assert_eq!(state.set("k", &vec![0; MAX_VALUE + 1], None), Err(SharedError::TooLarge));
    }

    #[test]
    fn a_full_store_is_not_swept_at_every_write() {
        let (state, time) = timed();
        state.limit(1, 1 << 20);
        state.set("a", b"", Some(Duration::from_millis(150))).expect("there is room");
        assert_eq!(state.set("b", b"", None), Err(SharedError::Full));
        time.fetch_add(50, Ordering::Relaxed);
        assert!(!state.sweep(), "swept a moment ago");
        time.fetch_add(100, Ordering::Relaxed);
        state.set("b", b"", None).expect("the other one has run out");
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let (state, _) = timed();
        state.set("a", b"1", None).expect("there is room");
        let fork = state.fork();
        assert_eq!(fork.figures(), state.figures());
        fork.set("a", b"2", None).expect("there is room");
        state.set("b", b"1", None).expect("there is room");
        assert_eq!((text(&state, "a"), text(&fork, "b")), (Some("1".to_owned()), None));
    }

    #[test]
    fn workers_that_add_at_once_lose_nothing() {
        let state = SharedState::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5_000).for_each(|_| assert!(state.add("n", 1, None).is_ok())));
            }
        });
        assert_eq!(state.add("n", 0, None), Ok(20_000));
    }
}
