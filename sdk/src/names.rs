//! Look-ups of DNS records with their times to live, for discovery plugins, which ask by [`Ask::Names`](crate::Ask::Names). All names are absolute. They must
//! be among the `Plugin` object's `capabilities.allowedHosts`, and so must servers that are named. Natively, [`testing::records`](crate::testing::records) says
//! what is found.

use std::fmt;

use crate::bindings::discovery::sluicegate::plugin::names as wit;

pub use wit::{Answer as Record, Data, Location, Question, RecordType};

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name or the server is not among `capabilities.allowedHosts`.
    Denied,
    /// The name does not exist, or has no such record. This is for how many seconds that holds, if the server says so.
    Missing(Option<u32>),
    /// No server answered in time.
    Timeout,
    /// There are too many look-ups and requests at once.
    Busy,
    /// A server refuses or fails, or its answer cannot be read. This is what happened.
    Failed(String),
}

#[cfg(target_arch = "wasm32")]
impl From<wit::Failure> for Failure {
    fn from(failure: wit::Failure) -> Self {
        match failure {
            wit::Failure::Denied => Self::Denied,
            wit::Failure::Missing(seconds) => Self::Missing(seconds),
            wit::Failure::Timeout => Self::Timeout,
            wit::Failure::Busy => Self::Busy,
            wit::Failure::Failed(what) => Self::Failed(what),
        }
    }
}

/// Questions that are asked together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The questions, at most 64.
    pub questions: Vec<Question>,
    /// The servers to ask, as `ip:port`. If there are none, the system's servers are asked.
    pub servers: Vec<String>,
}

impl Question {
    /// Makes a query for the records of one name.
    pub fn new(name: impl Into<String>, record_type: RecordType) -> Self {
        Self { name: name.into(), record_type }
    }
}

impl std::hash::Hash for RecordType {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self as u8).hash(state);
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the name or the server is not among the plugin's capabilities.allowedHosts"),
            Self::Missing(_) => f.write_str("there is no such name, or no such record of it"),
            Self::Timeout => f.write_str("no server answered in time"),
            Self::Busy => f.write_str("too many look-ups at once"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}

/// Questions that are being asked.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Underway(wit::LookUp);

#[cfg(target_arch = "wasm32")]
impl Underway {
    pub(crate) fn begin(query: &Query) -> Result<Self, Failure> {
        wit::ask(&query.questions, &query.servers).map(Self).map_err(Failure::from)
    }

    pub(crate) fn poll(&mut self) -> Option<Vec<Result<Vec<Record>, Failure>>> {
        let answers = self.0.take()?;
        Some(answers.into_iter().map(|answer| answer.map_err(Failure::from)).collect())
    }

    pub(crate) fn pollable(&self) -> crate::bindings::discovery::wasi::io::poll::Pollable {
        self.0.subscribe()
    }
}
