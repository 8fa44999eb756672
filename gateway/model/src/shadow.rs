//! What may be ordered about a configuration in the shadow of the one that is served: it is loaded beside it, and asked what it would have decided about requests
//! that are answered. Whoever serves carries it out.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// A configuration that is to be compared with the one that is served.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// The file or folder on the gateway's machine, by its whole path.
    pub path: PathBuf,
    /// Of how many requests one is compared, at least 1.
    #[serde(default = "one")]
    pub every: u64,
    /// How many requests are compared a second, at most.
    #[serde(default = "thousand")]
    pub rate: u64,
}

fn one() -> u64 {
    1
}

fn thousand() -> u64 {
    1_000
}

/// The largest number of requests that are compared in a second.
pub const MOST_RATE: u64 = 20_000;

/// Carries out orders about a configuration in the shadow. Each call may take seconds. An error says why it was not done, and then nothing has changed.
pub trait Shadow: Send + Sync {
    /// Loads a configuration and compares it from now on, in the place of one that is compared already. Returns what is to be known of it.
    ///
    /// # Errors
    /// It cannot be read, or requests cannot be sampled.
    fn begin(&self, asked: Asked) -> Result<String, String>;

    /// What was compared so far, as JSON; none: no configuration is in the shadow.
    fn status(&self) -> Option<Value>;

    /// Has what is in the shadow served.
    ///
    /// # Errors
    /// There is nothing, or it has changed since it was loaded, or the files that are served cannot be replaced.
    fn promote(&self) -> Result<String, String>;

    /// Ends the comparison.
    ///
    /// # Errors
    /// There is nothing.
    fn end(&self) -> Result<String, String>;
}
