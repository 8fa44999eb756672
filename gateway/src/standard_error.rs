//! Standard error, to which the log and messages for people go, by a writer that nobody waits for. A reader that stands still costs lines, which are counted, and one
//! that has ended costs all further lines. Neither costs traffic, a change, an answer of the admin API, or a signal.

use std::fs::File;
use std::io::{Result, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use sluicegate_model::stats::LogStats;
use sluicegate_model::writer::{Queue, Sink, Writer, write_all};

/// The writer's counters, of which a process has one.
static STATS: LazyLock<Arc<LogStats>> = LazyLock::new(Arc::default);
static WRITER: Mutex<Option<Writer>> = Mutex::new(None);

/// What became of the log's lines.
pub(crate) fn stats() -> Arc<LogStats> {
    STATS.clone()
}

/// Starts the writer. It is given each event of the log as a whole.
///
/// # Errors
/// There is no standard error, or no thread.
pub(crate) fn start() -> Result<impl Fn() -> Line + Send + Sync + 'static> {
    // It has a descriptor of its own. Rust's is locked while somebody writes, and everybody else who writes would wait for the lock.
    let out = std::io::stderr().as_fd().try_clone_to_owned()?;
    let writer = Writer::start("log", stats(), StandardError(out.into()))?;
    let queue = writer.queue();
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    Ok(move || Line(queue.clone()))
}

/// Writes what waits, for two seconds at most, and nothing after that.
pub(crate) fn end() {
    let writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(writer) = writer {
        writer.end();
    }
}

/// Writes a message for people, behind what was logged. It is no reason to panic that nobody reads it, as `eprintln!` does.
pub(crate) fn say(text: impl std::fmt::Display) {
    let text = format!("{text}\n").into_bytes();
    match &*WRITER.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(writer) => writer.queue().put(text, 1),
        None => drop(std::io::stderr().write_all(&text)),
    }
}

struct StandardError(File);

impl Sink for StandardError {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        write_all(&mut self.0, bytes)
    }

    fn recovered(&mut self, dropped: u64) {
        tracing::warn!(dropped, "lines of the log were dropped, as they were not read in time; it goes on");
    }
}

/// An event on its way to the writer.
pub(crate) struct Line(Queue);

impl Write for Line {
    /// The formatter writes each event by one call.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.put(bytes.to_vec(), 1);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
