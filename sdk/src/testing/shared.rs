//! Shared state of a test's thread, with a clock that the test moves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use crate::shared::{Entry, Error};

#[derive(Default)]
struct Store {
    entries: HashMap<String, (Entry, Option<u64>)>,
    version: u64,
    now: u64,
    room: Option<usize>,
}

thread_local! {
    static STORE: RefCell<Store> = RefCell::default();
}

/// Lets time pass for this thread's entries with a time to live.
///
/// ```
/// use std::time::Duration;
/// use sluicegate_sdk::{shared, testing::pass};
/// shared::add("n", 1, Some(Duration::from_secs(1))).unwrap();
/// pass(Duration::from_secs(1));
/// assert_eq!(shared::add("n", 1, None), Ok(1));
/// ```
pub fn pass(time: Duration) {
    STORE.with_borrow_mut(|store| store.now += u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2));
}

/// Limits the number of entries of this thread's state.
///
/// ```
/// use sluicegate_sdk::{shared::{self, Error}, testing::room};
/// room(1);
/// assert!(shared::set("a", b"", None).is_ok() && shared::set("a", b"x", None).is_ok());
/// assert_eq!(shared::set("b", b"", None), Err(Error::Full));
/// ```
pub fn room(entries: usize) {
    STORE.with_borrow_mut(|store| store.room = Some(entries));
}

impl Store {
    fn live(&mut self, key: &str) -> Option<&mut Entry> {
        if self.entries.get(key).is_some_and(|(_, until)| until.is_some_and(|until| until <= self.now)) {
            self.entries.remove(key);
        }
        self.entries.get_mut(key).map(|(entry, _)| entry)
    }

    fn write(&mut self, key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
        if key.len() > 256 || value.len() > 64 << 10 {
            return Err(Error::TooLarge);
        }
        if self.room.is_some_and(|room| !self.entries.contains_key(key) && self.entries.len() >= room) {
            return Err(Error::Full);
        }
        self.version += 1;
        let entry = Entry { value: value.to_vec(), version: self.version };
        self.entries.insert(key.to_owned(), (entry, ttl_ms.map(|ttl| self.now.saturating_add(ttl))));
        Ok(self.version)
    }
}

pub(crate) fn get(key: &str) -> Option<Entry> {
    STORE.with_borrow_mut(|store| store.live(key).cloned())
}

pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
    STORE.with_borrow_mut(|store| store.write(key, value, ttl_ms))
}

pub(crate) fn compare_and_set(key: &str, expected: Option<u64>, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
    STORE.with_borrow_mut(|store| {
        if store.live(key).map(|entry| entry.version) != expected {
            return Err(Error::Conflict);
        }
        store.write(key, value, ttl_ms)
    })
}

pub(crate) fn add(key: &str, amount: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
    STORE.with_borrow_mut(|store| {
        let version = store.version + 1;
        let Some(entry) = store.live(key) else {
            store.write(key, &amount.to_le_bytes(), ttl_ms)?;
            return Ok(amount);
        };
        let number = <[u8; 8]>::try_from(entry.value.as_slice()).map_err(|_| Error::NotANumber)?;
        let sum = i64::from_le_bytes(number).saturating_add(amount);
        (entry.value, entry.version) = (sum.to_le_bytes().to_vec(), version);
        store.version = version;
        Ok(sum)
    })
}

pub(crate) fn remove(key: &str) -> bool {
    STORE.with_borrow_mut(|store| store.live(key).is_some() && store.entries.remove(key).is_some())
}
