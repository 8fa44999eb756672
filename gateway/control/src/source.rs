//! Objects from files: reads the configured files and folders, and watches them and the plugins' files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Files larger than this are refused.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Folders within folders, at most.
const MAX_DEPTH: usize = 16;
/// An editor writes a file in several steps: changes are taken in when none came for this long…
const QUIET: Duration = Duration::from_millis(15);
/// …or when the first is this old.
const PATIENCE: Duration = Duration::from_millis(120);

/// One file, or why it could not be read.
pub type File = (PathBuf, Result<String, String>);

/// Reads all `.yaml`, `.yml` and `.json` files of the paths, sorted. Names that begin with a dot are skipped, so a ConfigMap volume's `..data` is
/// read once, by its links.
pub fn read(paths: &[PathBuf]) -> Vec<File> {
    let mut files = BTreeSet::new();
    let mut failed = Vec::new();
    for path in paths {
        collect(path, 0, &mut files, &mut failed);
    }
    files
        .into_iter()
        .map(|path| {
            let text = read_file(&path);
            (path, text)
        })
        .chain(failed)
        .collect()
}

fn collect(path: &Path, depth: usize, files: &mut BTreeSet<PathBuf>, failed: &mut Vec<File>) {
    if !path.is_dir() {
        let named = matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"));
        if depth == 0 || named {
            files.insert(path.to_owned());
        }
        return;
    }
    if depth > MAX_DEPTH {
        failed.push((path.to_owned(), Err(format!("folders are nested more than {MAX_DEPTH} deep"))));
        return;
    }
    match std::fs::read_dir(path) {
        Err(e) => failed.push((path.to_owned(), Err(e.to_string()))),
        Ok(entries) => {
            for entry in entries.flatten() {
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    collect(&entry.path(), depth + 1, files, failed);
                }
            }
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("{size} bytes are more than the {MAX_FILE_BYTES} a file may have"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

/// Tells of changes below folders.
pub struct Watcher {
    inner: notify::RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
    /// A change was seen and not yet told: kept here because `changed` may be dropped while it waits for quiet.
    pending: bool,
}

impl Watcher {
    /// Watches nothing yet.
    pub fn new() -> Result<Self, notify::Error> {
        let (sender, changes) = mpsc::channel(1);
        let inner = notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
            // Our own reading is no change. An error of the watcher (a lost event) is: everything is read again.
            if event.is_ok_and(|e| matches!(e.kind, notify::EventKind::Access(_))) {
                return;
            }
            // Full: a change is already waiting to be seen.
            let _ = sender.try_send(());
        })?;
        Ok(Self { inner, watched: BTreeSet::new(), changes, pending: false })
    }

    /// Watches the folders (a file's own folder for a file), and no longer what was watched before and is not among them.
    pub fn watch<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let wanted: BTreeSet<PathBuf> = paths.map(folder).collect();
        for gone in self.watched.difference(&wanted) {
            let _ = self.inner.unwatch(gone);
        }
        self.watched.retain(|path| wanted.contains(path));
        for path in wanted {
            if !self.watched.contains(&path) {
                match self.inner.watch(&path, RecursiveMode::Recursive) {
                    Ok(()) => drop(self.watched.insert(path)),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "cannot watch; changes here are seen only with others"),
                }
            }
        }
    }

    /// Waits for a change, and then until the changes pause. Loses nothing when it is dropped before it is ready.
    pub async fn changed(&mut self) {
        if !self.pending {
            if self.changes.recv().await.is_none() {
                return std::future::pending().await;
            }
            self.pending = true;
        }
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let quiet = (tokio::time::Instant::now() + QUIET).min(patience);
            match tokio::time::timeout_at(quiet, self.changes.recv()).await {
                Ok(Some(())) if tokio::time::Instant::now() < patience => {}
                _ => break,
            }
        }
        self.pending = false;
    }
}

fn folder(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
