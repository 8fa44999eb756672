//! Compiled code, which is kept between starts in a folder of the gateway's own.
//!
//! wasmtime's cache finds an entry by the hash of the component, of the engine's version and settings and of the processor's features, so an entry of
//! another engine is never used. But it runs machine code from an entry unchecked. So before each load every entry must have the SHA-256 that was written
//! down beside it when this gateway compiled it. An entry that does not is removed, and the plugin is compiled anew. Only this user can write to the
//! folder: whoever else could, could as well replace the gateway.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use wasmtime::{Cache, CacheConfig};

use crate::digest::sha256;

/// The number of files above which the entries used longest ago are removed. Each entry has a file of figures beside it, which counts.
const MOST_FILES: u64 = 2048;
const MOST_BYTES: u64 = 256 << 20;

/// The folder of compiled code.
pub(crate) struct CodeCache {
    cache: Cache,
    /// wasmtime's folder: `…/modules/<engine>/<hash>`.
    entries: PathBuf,
    /// The gateway's folder: for each entry, by its name, its SHA-256.
    sums: PathBuf,
    /// The entries that were checked, each with what it was then. It is locked while something is compiled, so that no entry is looked at half way.
    checked: Mutex<HashMap<PathBuf, Stamp>>,
    /// It is locked meanwhile as well, as other processes may use the folder: a successor, or a command beside a gateway.
    lock: File,
}

/// Changes whenever a file's content does, as nobody can set the time of the last change of an inode (`ctime`).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl CodeCache {
    /// Makes the folder, or takes it if it is this user's.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().recursive(false).mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Links are not followed, as one could lead to somebody else's folder.
        let found = fs::symlink_metadata(folder)?;
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it is no folder of this user's own"));
        }
        if found.mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
            // What others could write until now is not trusted.
            fs::remove_dir_all(folder)?;
            fs::DirBuilder::new().mode(0o700).create(folder)?;
        }
        let folder = folder.canonicalize()?;
        let (entries, sums) = (folder.join("code"), folder.join("sums"));
        fs::create_dir_all(&entries)?;
        fs::create_dir_all(&sums)?;
        // Entries that are unsound have to be removed before anything is compiled, so a folder that cannot be written is of no use.
        let lock = File::create(folder.join("lock"))?;
        let locked = lock.lock();
        let probe = sums.join("probe.partial");
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe))?;
        if locked.is_ok() {
            lock.unlock()?;
        }
        let mut config = CacheConfig::new();
        config
            .with_directory(&entries)
            .with_file_count_soft_limit(MOST_FILES)
            .with_files_total_size_soft_limit(MOST_BYTES)
            // Else wasmtime would rewrite an entry that is used often, and its sum would be wrong.
            .with_optimized_compression_usage_counter_threshold(u64::MAX);
        let cache = Cache::new(config).map_err(|e| io::Error::other(format!("{e:#}")))?;
        Ok(Self { cache, entries, sums, checked: Mutex::default(), lock })
    }

    pub(crate) fn wasmtime(&self) -> Cache {
        self.cache.clone()
    }

    /// How often code was found, and how often it was compiled.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.cache.cache_hits() as u64, self.cache.cache_misses() as u64)
    }

    /// Compiles something while only sound entries are in the folder.
    pub(crate) fn around<T>(&self, compile: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        // On a file system without locks, what another process has just compiled may be removed before its sum is written; then it is compiled once more.
        let locked = self.lock.lock().inspect_err(|error| tracing::debug!(%error, "the folder of compiled code has no lock"));
        let compiled = self.check(&mut checked).and_then(|()| {
            let before = self.cache.cache_misses();
            let compiled = compile();
            if self.cache.cache_misses() != before {
                self.seal(&mut checked);
            }
            compiled
        });
        if locked.is_ok() {
            let _ = self.lock.unlock();
        }
        compiled
    }

    /// Removes entries that do not have the sum written down for them.
    fn check(&self, checked: &mut HashMap<PathBuf, Stamp>) -> Result<(), String> {
        let mut present = HashMap::new();
        for entry in self.all() {
            let Some(stamp) = stamp(&entry) else { continue };
            if checked.get(&entry) == Some(&stamp) || self.sound(&entry) {
                present.insert(entry, stamp);
                continue;
            }
            let name = entry.display();
            tracing::warn!(entry = %name, "compiled code that is not what this gateway wrote is removed");
            // It could be the entry of what is about to be compiled, and then it would run.
            fs::remove_file(&entry).map_err(|error| format!("{name} is not what this gateway wrote, and cannot be removed: {error}"))?;
        }
        *checked = present;
        Ok(())
    }

    fn sound(&self, entry: &Path) -> bool {
        let regular = fs::symlink_metadata(entry).is_ok_and(|found| found.is_file());
        let (true, Some(sum), Ok(code)) = (regular, self.sum(entry), fs::read(entry)) else { return false };
        fs::read_to_string(sum).is_ok_and(|written| written == sha256(&code))
    }

    /// Writes down the sums of new entries.
    fn seal(&self, checked: &mut HashMap<PathBuf, Stamp>) {
        for entry in self.all() {
            if checked.contains_key(&entry) {
                continue;
            }
            let (Some(sum), Some(stamp), Ok(code)) = (self.sum(&entry), stamp(&entry), fs::read(&entry)) else { continue };
            let partial = sum.with_extension("partial");
            match fs::write(&partial, sha256(&code)).and_then(|()| fs::rename(&partial, &sum)) {
                Ok(()) => drop(checked.insert(entry, stamp)),
                Err(error) => tracing::warn!(%error, sum = %sum.display(), "compiled code is not kept"),
            }
        }
        self.forget();
    }

    /// Removes the sums of entries that wasmtime has removed.
    fn forget(&self) {
        let names: Vec<_> = self.all().into_iter().filter_map(|entry| self.sum(&entry)).collect();
        for sum in files(&self.sums) {
            if !names.contains(&sum) {
                let _ = fs::remove_file(sum);
            }
        }
    }

    /// The entries of all engines. Their names have the engine in them, so that two versions do not share a sum.
    fn all(&self) -> Vec<PathBuf> {
        let engines = folders(&self.entries.join("modules"));
        engines.iter().flat_map(|engine| files(engine)).filter(|file| file.extension().is_none()).collect()
    }

    fn sum(&self, entry: &Path) -> Option<PathBuf> {
        let engine = entry.parent()?.file_name()?.to_str()?;
        Some(self.sums.join(format!("{}@{engine}", entry.file_name()?.to_str()?)))
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(file).ok()?;
    Some(Stamp { inode: found.ino(), size: found.size(), changed: (found.ctime(), found.ctime_nsec()) })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    listed(folder, |kind| !kind.is_dir())
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    listed(folder, |kind| kind.is_dir())
}

fn listed(folder: &Path, wanted: impl Fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
    let Ok(all) = fs::read_dir(folder) else { return Vec::new() };
    all.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| wanted(&kind))).map(|entry| entry.path()).collect()
}
