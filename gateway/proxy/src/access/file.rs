//! The end of the access log: standard output, or a file that is opened anew when it was renamed.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use sluicegate_model::access_log::Line;
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::writer::{self, write_all};

use super::buffer::Lines;
use super::{AccessLog, AccessLogTarget};

/// How often is looked whether the file is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The running writer.
pub(crate) struct Writer {
    inner: writer::Writer,
    line: Line,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the writer. Errors: the file cannot be opened, or the thread not started.
    pub(crate) fn start(log: &AccessLog, stats: &ProxyStats) -> Result<Self> {
        let reopen = Arc::new(AtomicBool::new(false));
        let sink = Sink { to: Target::open(&log.to)?, reopen: reopen.clone() };
        let inner = writer::Writer::start("access-log", stats.access_log.clone(), sink)?;
        Ok(Self { inner, line: log.line.clone(), reopen })
    }

    /// An end of the log for a worker.
    pub(crate) fn lines(&self) -> Lines {
        Lines::new(self.line.clone(), self.inner.queue())
    }

    /// Has the file opened anew, within a second.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes what waits, when no worker is left.
    pub(crate) fn end(self) {
        if !self.inner.end() {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }
}

struct Sink {
    to: Target,
    reopen: Arc<AtomicBool>,
}

impl writer::Sink for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write(bytes)
    }

    fn look(&mut self) {
        self.to.look(self.reopen.swap(false, Ordering::Relaxed));
    }

    fn recovered(&mut self, dropped: u64) {
        tracing::warn!(dropped, "lines of the access log were dropped, as they could not be written in time; it goes on");
    }
}

enum Target {
    Stdout(File),
    File { path: PathBuf, file: File, looked: Instant, warned: bool },
}

impl Target {
    fn open(to: &AccessLogTarget) -> Result<Self> {
        Ok(match to {
            AccessLogTarget::Stdout => Self::Stdout(std::io::stdout().as_fd().try_clone_to_owned()?.into()),
            AccessLogTarget::File(path) => {
                let file = open(path).map_err(|e| Error::new(e.kind(), format!("access log {}: {e}", path.display())))?;
                Self::File { path: path.clone(), file, looked: Instant::now(), warned: false }
            }
        })
    }

    /// Opens the file anew if that is asked for, or if another file or none has its name. Until that succeeds the old one serves.
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

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout(out) => write_all(out, bytes),
            Self::File { path, file, warned, .. } => write_all(file, bytes).inspect_err(|error| {
                if !std::mem::replace(warned, true) {
                    tracing::warn!(%error, path = %path.display(), "the access log cannot be written; lines are dropped");
                }
            }),
        }
    }
}

/// Opens the file. A pipe that nobody reads is an error, and is not waited for.
fn open(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}
