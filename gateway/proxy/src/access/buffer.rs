//! A worker's lines on their way to the writer.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use sluicegate_model::access_log::Line;
use sluicegate_model::stats::{ProxyStats, add};

use super::entry::Entry;
use super::line::{Clock, write};

/// A buffer is handed over when it has so many bytes,
const FULL: usize = 32 << 10;
/// or so much time has passed.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Some lines.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

impl Batch {
    fn empty() -> Self {
        Self { bytes: Vec::new(), lines: 0 }
    }
}

/// One worker's end of the log. One thread: no locks.
pub(crate) struct Log {
    line: Line,
    batch: RefCell<Batch>,
    clock: RefCell<Clock>,
    to: SyncSender<Batch>,
    stats: Arc<ProxyStats>,
}

impl Log {
    pub(super) fn new(line: Line, to: SyncSender<Batch>, stats: Arc<ProxyStats>) -> Self {
        Self { line, batch: RefCell::new(Batch::empty()), clock: RefCell::default(), to, stats }
    }

    pub(super) fn write(&self, entry: &Entry) {
        let mut batch = self.batch.borrow_mut();
        if batch.bytes.capacity() == 0 {
            batch.bytes.reserve(FULL + (FULL >> 2));
        }
        write(&mut batch.bytes, &self.line, entry, &mut self.clock.borrow_mut());
        batch.lines += 1;
        let full = batch.bytes.len() >= FULL;
        drop(batch);
        if full {
            self.hand_over();
        }
    }

    /// Gives what there is to the writer; if that has too much to do, it is dropped.
    pub(crate) fn hand_over(&self) {
        let batch = std::mem::replace(&mut *self.batch.borrow_mut(), Batch::empty());
        let lines = batch.lines;
        if lines > 0 && self.to.try_send(batch).is_err() {
            add(&self.stats.access_log.dropped, lines);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.hand_over();
    }
}
