//! The buffer of a worker's lines, from which they go to the writer.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use sluicegate_model::access_log::Line;
use sluicegate_model::writer::Queue;

use super::ExportedLog;
use super::entry::Entry;
use super::line::{Clock, write};
use super::record::record;

/// The size at which a buffer is handed over, in bytes.
const FULL: usize = 32 << 10;
/// After how much time a buffer is handed over.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// One worker's end of the log. It belongs to one thread, so there are no locks.
pub(crate) struct Log {
    lines: Option<Lines>,
    exported: Option<ExportedLog>,
    clock: RefCell<Clock>,
}

/// Its lines, as they are written somewhere.
pub(crate) struct Lines {
    line: Line,
    batch: RefCell<Vec<u8>>,
    count: Cell<u64>,
    to: Queue,
}

impl Log {
    /// None: there is no log.
    pub(crate) fn new(lines: Option<Lines>, exported: Option<ExportedLog>) -> Option<Self> {
        (lines.is_some() || exported.is_some()).then(|| Self { lines, exported, clock: RefCell::default() })
    }

    pub(super) fn write(&self, entry: &Entry) {
        let clock = &mut *self.clock.borrow_mut();
        if let Some(lines) = &self.lines {
            lines.write(entry, clock);
        }
        if let Some(exported) = &self.exported {
            exported.to.put(record(&exported.line, entry, clock));
        }
    }

    /// Gives the lines that there are to the writer. If the writer has too much to do, they are dropped.
    pub(crate) fn hand_over(&self) {
        if let Some(lines) = &self.lines {
            lines.hand_over();
        }
    }
}

impl Lines {
    pub(super) fn new(line: Line, to: Queue) -> Self {
        Self { line, batch: RefCell::default(), count: Cell::new(0), to }
    }

    fn write(&self, entry: &Entry, clock: &mut Clock) {
        let mut batch = self.batch.borrow_mut();
        if batch.capacity() == 0 {
            batch.reserve(FULL + (FULL >> 2));
        }
        write(&mut batch, &self.line, entry, clock);
        self.count.set(self.count.get() + 1);
        let full = batch.len() >= FULL;
        drop(batch);
        if full {
            self.hand_over();
        }
    }

    fn hand_over(&self) {
        let lines = self.count.take();
        if lines > 0 {
            self.to.put(self.batch.take(), lines);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.hand_over();
    }
}
