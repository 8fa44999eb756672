//! Files, for discovery plugins: those that the `Plugin` object's `capabilities.allowedFiles` names. Paths are relative to the folder of that object's file.
//! The gateway refuses other files, links that lead out of a file's folder, and files of more than 4 MiB. Natively, [`testing::file`](crate::testing::file)
//! provides files.

use std::fmt;

#[cfg(target_arch = "wasm32")]
use crate::bindings::discovery::sluicegate::plugin::files as wit;

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The file is not among `capabilities.allowedFiles`, or a link leads out of its folder.
    Denied,
    /// The file does not exist.
    Missing,
    /// The file is larger than this many bytes.
    TooLarge(u64),
    /// There is another reason, such as permissions.
    Failed(String),
}

#[cfg(target_arch = "wasm32")]
impl From<wit::Failure> for Failure {
    fn from(failure: wit::Failure) -> Self {
        match failure {
            wit::Failure::Denied => Self::Denied,
            wit::Failure::Missing => Self::Missing,
            wit::Failure::TooLarge(limit) => Self::TooLarge(limit),
            wit::Failure::Failed(what) => Self::Failed(what),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("it is not among the plugin's capabilities.allowedFiles, or a link out of its folder"),
            Self::Missing => f.write_str("it is not there"),
            Self::TooLarge(limit) => write!(f, "it is larger than {limit} bytes"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}

/// Returns the paths that a path or a pattern (`sd/*.json`) stands for, sorted.
///
/// # Errors
/// The files may not be read, or cannot be. It is no error that a pattern fits no file.
#[cfg(target_arch = "wasm32")]
pub fn matching(pattern: &str) -> Result<Vec<String>, Failure> {
    wit::matching(pattern).map_err(Failure::from)
}

/// Returns the content of a file.
///
/// # Errors
/// The file cannot be read.
#[cfg(target_arch = "wasm32")]
pub fn read(path: &str) -> Result<Vec<u8>, Failure> {
    wit::read(path).map_err(Failure::from)
}

/// Returns the paths that a path or a pattern (`sd/*.json`) stands for, sorted, of the files of [`testing::file`](crate::testing::file).
///
/// # Errors
/// There are none natively.
#[cfg(not(target_arch = "wasm32"))]
pub fn matching(pattern: &str) -> Result<Vec<String>, Failure> {
    let Some((before, after)) = pattern.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let fits = |path: &&String| path.len() >= before.len() + after.len() && path.starts_with(before) && path.ends_with(after);
    Ok(crate::testing::files(|files| files.keys().filter(fits).cloned().collect()))
}

/// Returns the content of a file of [`testing::file`](crate::testing::file).
///
/// # Errors
/// There is no such file.
#[cfg(not(target_arch = "wasm32"))]
pub fn read(path: &str) -> Result<Vec<u8>, Failure> {
    crate::testing::files(|files| files.get(path).cloned()).ok_or(Failure::Missing)
}
