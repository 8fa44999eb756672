//! Takes what waits in a queue, and exports it in batches.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::convert::Scope;
use crate::export::{Exporter, Message};
use crate::settings::Batch;

/// How often is looked for what waits. Nobody is woken by who puts something there, so that a worker makes no system call for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The end of a queue.
pub(crate) struct Queue<T> {
    pub(crate) taken: Receiver<T>,
    pub(crate) batch: Batch,
    pub(crate) scope: Arc<Scope>,
    pub(crate) exporter: Exporter,
    pub(crate) convert: fn(&Scope, Vec<T>) -> Message,
}

impl<T: Send> Queue<T> {
    /// Exports until the end is asked for, and then what is there.
    pub(crate) async fn run(mut self) {
        let mut waiting = Vec::new();
        let mut since = None::<Instant>;
        loop {
            let stopping = self.exporter.is_stopping();
            let mut over = false;
            while waiting.len() < self.batch.most.max(1) {
                match self.taken.try_recv() {
                    Ok(one) => waiting.push(one),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        over = true;
                        break;
                    }
                }
            }
            let full = waiting.len() >= self.batch.most.max(1);
            if !waiting.is_empty() {
                let begun = *since.get_or_insert_with(Instant::now);
                if full || over || stopping || begun.elapsed() >= self.batch.delay {
                    since = None;
                    let message = (self.convert)(&self.scope, std::mem::take(&mut waiting));
                    self.exporter.export(message).await;
                }
            }
            self.exporter.tell();
            if full {
                continue;
            }
            if over || stopping {
                return;
            }
            self.exporter.pause(LOOK_EVERY).await;
        }
    }
}
