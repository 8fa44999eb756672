//! Key-value state that all instances of the plugin share, on all workers. It stays while the gateway runs, also when the plugin is swapped. The `Plugin`
//! object's `limits` bound its entries and bytes; a key has at most 256 bytes, and a value 64 KiB. Each call takes a short lock, so avoid it on the way of
//! every request where you can.
//!
//! ```
//! use sluicegate_sdk::shared;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), shared::Error> {
//! // How many failures were there within ten seconds, over all workers?
//! let failures = shared::add("failures/10.0.0.1:80", 1, Some(Duration::from_secs(10)))?;
//! assert_eq!(failures, 1);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

/// A value, and the version that identifies the write of it.
///
/// ```
/// use sluicegate_sdk::shared;
/// let version = shared::set("leader", b"a", None).unwrap();
/// assert_eq!(shared::get("leader"), Some(shared::Entry { value: b"a".to_vec(), version }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// The version of the entry, which each write changes.
    pub version: u64,
}

/// Why nothing was written.
///
/// ```
/// use sluicegate_sdk::shared::{self, Error};
/// assert_eq!(shared::set(&"k".repeat(257), b"", None), Err(Error::TooLarge));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The plugin has as many entries or bytes as it may have, and none has expired.
    Full,
    /// The key or the value is too long.
    TooLarge,
    /// The entry has changed since it was read.
    Conflict,
    /// The value is not a number that [`add`] wrote.
    NotANumber,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the plugin's shared state is full",
            Self::TooLarge => "a key has at most 256 bytes, and a value 64 KiB",
            Self::Conflict => "the entry has changed",
            Self::NotANumber => "the value is not a number",
        })
    }
}

impl std::error::Error for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// Returns the entry of a key.
///
/// ```
/// assert_eq!(sluicegate_sdk::shared::get("nothing"), None);
/// ```
pub fn get(key: &str) -> Option<Entry> {
    host::get(key)
}

/// Writes an entry, whatever was there, and returns its version. If there is a time to live, the entry expires after it.
///
/// ```
/// use std::time::Duration;
/// use sluicegate_sdk::{shared, testing};
/// shared::set("seen", b"1", Some(Duration::from_secs(5))).unwrap();
/// testing::pass(Duration::from_secs(5));
/// assert_eq!(shared::get("seen"), None);
/// ```
///
/// # Errors
/// There is no room, or the key or value is too long.
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64, Error> {
    host::set(key, value, ttl.map(ms))
}

/// Writes an entry only if it still has this version, which [`get`] returned. Without a version it writes only if there is no entry.
///
/// ```
/// use sluicegate_sdk::shared::{self, Error};
/// let version = shared::compare_and_set("leader", None, b"a", None).unwrap();
/// assert_eq!(shared::compare_and_set("leader", None, b"b", None), Err(Error::Conflict));
/// assert!(shared::compare_and_set("leader", Some(version), b"b", None).is_ok());
/// ```
///
/// # Errors
/// [`Error::Conflict`]: the entry has changed. Other errors are those of [`set`].
pub fn compare_and_set(key: &str, expected: Option<u64>, value: &[u8], ttl: Option<Duration>) -> Result<u64, Error> {
    host::compare_and_set(key, expected, value, ttl.map(ms))
}

/// Adds to a number and returns the sum. A number that does not exist counts as 0. The time to live counts from the call that makes the entry, so the number
/// says what happened within that time.
///
/// ```
/// use sluicegate_sdk::shared;
/// shared::add("requests", 2, None).unwrap();
/// assert_eq!(shared::add("requests", 3, None), Ok(5));
/// ```
///
/// # Errors
/// [`Error::NotANumber`]: something else was written there. Other errors are those of [`set`].
pub fn add(key: &str, amount: i64, ttl: Option<Duration>) -> Result<i64, Error> {
    host::add(key, amount, ttl.map(ms))
}

/// Removes an entry. Returns whether there was one.
///
/// ```
/// use sluicegate_sdk::shared;
/// shared::set("key", b"", None).unwrap();
/// assert!(shared::remove("key") && !shared::remove("key"));
/// ```
pub fn remove(key: &str) -> bool {
    host::remove(key)
}

fn ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(target_arch = "wasm32")]
mod host {
    use super::{Entry, Error};
    use crate::bindings::balancer::sluicegate::plugin::shared::{self, Failure};

    pub(super) use shared::remove;

    fn error(failure: Failure) -> Error {
        match failure {
            Failure::Full => Error::Full,
            Failure::TooLarge => Error::TooLarge,
            Failure::Conflict => Error::Conflict,
            Failure::NotANumber => Error::NotANumber,
        }
    }

    pub(super) fn get(key: &str) -> Option<Entry> {
        shared::get(key).map(|entry| Entry { value: entry.value, version: entry.version })
    }

    pub(super) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
        shared::set(key, value, ttl_ms).map_err(error)
    }

    pub(super) fn compare_and_set(key: &str, expected: Option<u64>, value: &[u8], ttl_ms: Option<u64>) -> Result<u64, Error> {
        shared::compare_and_set(key, expected, value, ttl_ms).map_err(error)
    }

    pub(super) fn add(key: &str, amount: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        shared::add(key, amount, ttl_ms).map_err(error)
    }
}

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::shared as host;
