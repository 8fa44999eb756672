//! The thread that writes lines.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluicegate_model::access_log::Line;
use sluicegate_model::stats::{ProxyStats, add};

use super::buffer::{Batch, Log};
use super::{AccessLog, AccessLogTarget};

/// Buffers that may wait for the writer: with those of 32 KiB, 8 MiB.
const WAITING: usize = 256;
/// How often it looks whether its file is still there, and whether it was asked to open it anew.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// At the end it has so long to write what waits.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The running writer.
pub(crate) struct Writer {
    thread: JoinHandle<()>,
    to: SyncSender<Batch>,
    line: Line,
    reopen: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Writer {
    /// Errors: the file cannot be opened, or the thread not started.
    pub(crate) fn start(log: &AccessLog, stats: &Arc<ProxyStats>) -> Result<Self> {
        let mut sink = Sink::open(&log.to)?;
        let (to, batches) = sync_channel::<Batch>(WAITING);
        let (end, ended) = sync_channel(1);
        let reopen = Arc::new(AtomicBool::new(false));
        let (asked, stats) = (reopen.clone(), stats.clone());
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            loop {
                match batches.recv_timeout(LOOK_EVERY) {
                    Ok(batch) => {
                        sink.look(asked.swap(false, Ordering::Relaxed));
                        let written = sink.write(&batch.bytes);
                        add(if written { &stats.access_log.lines } else { &stats.access_log.dropped }, batch.lines);
                    }
                    Err(RecvTimeoutError::Timeout) => sink.look(asked.swap(false, Ordering::Relaxed)),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            // Nobody may wait for it any more.
            let _ = end.send(());
        })?;
        Ok(Self { thread, to, line: log.line.clone(), reopen, ended })
    }

    /// A worker's end.
    pub(crate) fn log(&self, stats: &Arc<ProxyStats>) -> Log {
        Log::new(self.line.clone(), self.to.clone(), stats.clone())
    }

    /// Has the file opened anew, within a second.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes what waits, now that no worker is left. A reader of standard output that has stopped reading does not hold up the end.
    pub(crate) fn end(self) {
        drop(self.to);
        if self.ended.recv_timeout(LAST_WORDS).is_ok() && self.thread.join().is_err() {
            tracing::error!("the writer of the access log ended by a panic");
        }
    }
}

enum Sink {
    Stdout,
    File { path: PathBuf, file: File, looked: Instant, warned: bool },
}

impl Sink {
    fn open(to: &AccessLogTarget) -> Result<Self> {
        Ok(match to {
            AccessLogTarget::Stdout => Self::Stdout,
            AccessLogTarget::File(path) => {
                let file = open(path).map_err(|e| Error::new(e.kind(), format!("access log {}: {e}", path.display())))?;
                Self::File { path: path.clone(), file, looked: Instant::now(), warned: false }
            }
        })
    }

    /// Opens the file anew if it is asked to, or if another or none stands under its name. Until that succeeds the old one serves.
    fn look(&mut self, asked: bool) {
        let Self::File { path, file, looked, warned } = self else { return };
        if !asked && looked.elapsed() < LOOK_EVERY {
            return;
        }
        *looked = Instant::now();
        let same = |there: std::fs::Metadata| file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (there.dev(), there.ino()));
        if !asked && std::fs::metadata(&*path).is_ok_and(same) {
            return;
        }
        match open(path) {
            Ok(opened) => (*file, *warned) = (opened, false),
            Err(error) if *warned => tracing::debug!(%error, path = %path.display(), "the access log cannot be opened anew"),
            Err(error) => {
                *warned = true;
                tracing::warn!(%error, path = %path.display(), "the access log cannot be opened anew; the file before is written on");
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush()).is_ok()
            }
            Self::File { path, file, warned, .. } => match file.write_all(bytes) {
                Ok(()) => true,
                Err(error) => {
                    if !std::mem::replace(warned, true) {
                        tracing::warn!(%error, path = %path.display(), "the access log cannot be written; lines are dropped");
                    }
                    false
                }
            },
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
