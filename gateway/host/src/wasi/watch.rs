//! Watches the files of `capabilities.allowedFiles`: by inotify, and by a look at times and sizes every few seconds. inotify alone is not trusted, as a
//! folder may have been replaced, or be where inotify sees nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecursiveMode, Watcher as _};
use sluicegate_model::allowed_file::AllowedFiles;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::Pollable;

/// How old a change must be before it is told, as an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(15);
/// How often files are looked at, for what inotify may have missed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After how much time a file counts as it is that is open but not written to: it may never be closed, or that event was lost.
const SILENT: Duration = Duration::from_secs(60);

/// The files that are open for writing, with the times of the last writes.
type Writing = Arc<Mutex<HashMap<PathBuf, Instant>>>;

/// Watches the folders of a plugin's files, from when it first asks for changes.
pub(super) struct FolderWatch {
    changes: watch::Receiver<u64>,
    writing: Writing,
    looking: AbortHandle,
    _inner: Option<notify::RecommendedWatcher>,
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl FolderWatch {
    pub(super) fn new(allowed: &AllowedFiles) -> Self {
        let (changed, changes) = watch::channel(0_u64);
        let writing = Writing::default();
        let watcher = {
            let (changed, writing) = (changed.clone(), writing.clone());
            notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
                if counts(event, &mut writing.lock().unwrap_or_else(PoisonError::into_inner)) {
                    changed.send_modify(|count| *count = count.wrapping_add(1));
                }
            })
        };
        let mut inner = watcher.ok();
        if let Some(inner) = &mut inner {
            let mut folders: Vec<PathBuf> = allowed.files.iter().map(|file| folder_of(&file.folder(&allowed.base))).collect();
            folders.sort();
            folders.dedup();
            // One folder may fail without the others: what is not watched is looked at.
            for folder in folders {
                let _ = inner.watch(&folder, RecursiveMode::NonRecursive);
            }
        }
        let looking = tokio::spawn(look(allowed.clone(), changed)).abort_handle();
        Self { changes, writing, looking, _inner: inner }
    }

    /// Whether a file is being written, so that its content does not count yet.
    pub(super) fn waits(&self, folder: &Path, name: &str) -> bool {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.get(&folder_of(folder).join(name)).is_some_and(|last| last.elapsed() < SILENT)
    }

    /// The next change.
    pub(super) fn next(&self) -> Change {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        Change { changes: Some(changes), seen: false }
    }
}

/// Whether an event tells of a change that counts. A file that is still written does not count.
fn counts(event: Result<notify::Event, notify::Error>, writing: &mut HashMap<PathBuf, Instant>) -> bool {
    // An error of the watcher means a lost event.
    let Ok(event) = event else {
        writing.clear();
        return true;
    };
    match event.kind {
        // It counts when the file is closed. A shell that is told to write a file empties it at once, and the program writes later.
        EventKind::Modify(ModifyKind::Data(_)) => {
            writing.extend(event.paths.into_iter().map(|path| (path, Instant::now())));
            return false;
        }
        // Reading is no change.
        EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return false,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
            writing.retain(|path, _| !event.paths.contains(path));
        }
        _ => {}
    }
    true
}

async fn look(allowed: AllowedFiles, changed: watch::Sender<u64>) {
    let allowed = Arc::new(allowed);
    let mut before = None;
    loop {
        let allowed = allowed.clone();
        // A disk that does not answer holds up this task, and nobody else.
        let now = tokio::task::spawn_blocking(move || stamps(&allowed)).await.ok();
        if before.is_some() && now != before {
            changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        before = now;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What changes with a file: device, inode, size, and when the file and its inode changed.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamps(allowed: &AllowedFiles) -> Vec<(PathBuf, Option<Stamp>)> {
    let mut found = Vec::new();
    for file in &allowed.files {
        let folder = folder_of(&file.folder(&allowed.base));
        let names: Vec<String> = if file.is_pattern() {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| file.matches(name)).collect()
        } else {
            vec![file.name().to_owned()]
        };
        found.extend(names.into_iter().map(|name| {
            let path = folder.join(name);
            let stamp = std::fs::metadata(&path).ok();
            let stamp = stamp.map(|s| (s.dev(), s.ino(), s.size(), (s.mtime(), s.mtime_nsec()), (s.ctime(), s.ctime_nsec())));
            (path, stamp)
        }));
    }
    found.sort();
    found
}

fn folder_of(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}

/// A change that a guest waits for.
pub(super) struct Change {
    /// None: there are no allowed files, and so there is no change.
    changes: Option<watch::Receiver<u64>>,
    /// Whether it has been ready. Then it stays so.
    seen: bool,
}

impl Change {
    pub(super) fn never() -> Self {
        Self { changes: None, seen: false }
    }
}

#[async_trait]
impl Pollable for Change {
    async fn ready(&mut self) {
        if self.seen {
            return;
        }
        match &self.changes {
            // A copy is asked, so that this one is asked anew if the wait is broken off.
            Some(changes) if changes.clone().changed().await.is_ok() => tokio::time::sleep(QUIET).await,
            _ => std::future::pending().await,
        }
        self.seen = true;
    }
}
