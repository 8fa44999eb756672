//! Why the gateway cannot start or go on.

use std::sync::mpsc::RecvError;

use sluicegate_control::sources::SourceError;
use sluicegate_host::EngineError;
use tokio::task::JoinError;

/// Why the gateway, or its demonstration, could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something was attempted with a socket, a file or a thread, and failed.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: String,
        /// The error that came of it.
        error: std::io::Error,
    },
    /// The engine for plugins could not start.
    #[error("the plugin engine could not start: {0}")]
    Engine(#[from] EngineError),
    /// What is to be exported to collectors cannot be.
    #[error("{0}")]
    Telemetry(#[from] sluicegate_telemetry::Error),
    /// A source of objects cannot start.
    #[error("configuration cannot be followed: {0}")]
    Source(#[from] SourceError),
    /// It is not known where the API server is, or who asks it.
    #[error("configuration cannot be followed: the API server: {0}")]
    Cluster(String),
    /// The thread that looks for the API server has ended without an answer.
    #[error("configuration cannot be followed: the API server: {0}")]
    Unanswered(#[from] RecvError),
    /// Control has ended, although nobody asked for it.
    #[error("configuration cannot be followed: control ended")]
    Ended,
    /// Control has ended by a panic.
    #[error("configuration cannot be followed: control ended: {0}")]
    Panicked(#[from] JoinError),
    /// The demonstration could not be given, or it failed.
    #[error("{0}")]
    Demo(String),
}

/// Makes an error of one of the operating system.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |error| Error::Io { what, error }
}
