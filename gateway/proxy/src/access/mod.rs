//! The access log: a line for each exchange and each connection, when it has ended. An [`entry`] gathers what a [`mod@line`] says. Each worker collects lines in
//! a [`buffer`] of its own and hands it, when it is full and every tenth of a second, to the one thread that writes ([`mod@file`]). No worker waits for that:
//! what the writer has no room for is dropped and counted. What is exported of it is a [`mod@record`] for each line. Without a log there is only an option that is empty.

mod buffer;
mod entry;
mod file;
mod line;
mod record;

use std::path::PathBuf;

use sluicegate_model::access_log::Line;
use sluicegate_model::telemetry::Outlet;
use sluicegate_model::telemetry::record::Record;

pub(crate) use buffer::{FLUSH_EVERY, Log};
pub(crate) use entry::Entry;
pub(crate) use file::Writer;

/// What the access log says, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// What a line says.
    pub line: Line,
    /// Where the lines of the log go.
    pub to: AccessLogTarget,
}

/// What is exported of the access log, and where to.
#[derive(Clone, Debug)]
pub struct ExportedLog {
    /// What a record's line says.
    pub line: Line,
    /// Takes the records.
    pub to: Outlet<Record>,
}

/// Where the lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// To the process's standard output.
    Stdout,
    /// To the end of a file, which is opened anew when it was renamed or removed, or when that is asked for.
    File(PathBuf),
}
