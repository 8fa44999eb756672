//! The buffer of a worker's lines, from which they go to the writer.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use sluicegate_model::access_log::Line;
use sluicegate_model::writer::Queue;

use super::entry::Entry;
use super::line::{Clock, write};

/// The size at which a buffer is handed over, in bytes.
const FULL: usize = 32 << 10;
/// After how much time a buffer is handed over.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// One worker's end of the log. It belongs to one thread, so there are no locks.
pub(crate) struct Log {
    line: Line,
    batch: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    clock: RefCell<Clock>,
    to: Queue,
}

impl Log {
    pub(super) fn new(line: Line, to: Queue) -> Self {
        Self { line, batch: RefCell::default(), lines: Cell::new(0), clock: RefCell::default(), to }
    }

    pub(super) fn write(&self, entry: &Entry) {
        let mut batch = self.batch.borrow_mut();
        if batch.capacity() == 0 {
            batch.reserve(FULL + (FULL >> 2));
        }
        write(&mut batch, &self.line, entry, &mut self.clock.borrow_mut());
        self.lines.set(self.lines.get() + 1);
        let full = batch.len() >= FULL;
        drop(batch);
        if full {
            self.hand_over();
        }
    }

    /// Gives what there is to the writer. If the writer has too much to do, it is dropped.
    pub(crate) fn hand_over(&self) {
        let lines = self.lines.take();
        if lines > 0 {
            self.to.put(self.batch.take(), lines);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.hand_over();
    }
}
