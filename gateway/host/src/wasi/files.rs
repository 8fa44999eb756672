//! Reading the files of `capabilities.allowedFiles`. A file is opened below its folder by the kernel's own rule (`openat2` with
//! `RESOLVE_BENEATH`): links are followed, as those of a ConfigMap volume (`..data`) must be, but none that leads out.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sluicegate_model::allowed_file::{AllowedFiles, FilePattern};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

use super::Wasi;
use super::watch::{Change, FolderWatch};
use crate::bindings::discovery::sluicegate::plugin::files::{self, Failure};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// The largest number of files that one pattern stands for.
const MAX_FILES: usize = 1_000;
/// How long reading a file may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl files::Host for Wasi {
    async fn matching(&mut self, pattern: String) -> wasmtime::Result<Result<Vec<String>, Failure>> {
        let wanted: FilePattern = match pattern.parse() {
            Ok(wanted) => wanted,
            Err(wrong) => return Ok(Err(Failure::Failed(wrong))),
        };
        if !wanted.is_pattern() {
            return Ok(self.may_read(&wanted).map(|()| vec![wanted.to_string()]));
        }
        let egress = self.egress.clone();
        Ok(off_the_runtime(move || list(&egress.files, &wanted)).await)
    }

    async fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, Failure>> {
        let wanted: FilePattern = match path.parse() {
            Ok(wanted) => wanted,
            Err(wrong) => return Ok(Err(Failure::Failed(wrong))),
        };
        if let Err(denied) = self.may_read(&wanted) {
            return Ok(Err(denied));
        }
        let folder = wanted.folder(&self.egress.files.base);
        if self.folders.as_ref().is_some_and(|folders| folders.waits(&folder, wanted.name())) {
            return Ok(Err(Failure::Failed("it is being written: it counts when it is closed".to_owned())));
        }
        Ok(off_the_runtime(move || open(&folder, wanted.name()).and_then(read)).await)
    }

    fn changed(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let change = if self.egress.files.files.is_empty() {
            Change::never()
        } else {
            self.folders.get_or_insert_with(|| FolderWatch::new(&self.egress.files)).next()
        };
        let change = self.table.push(change)?;
        subscribe(&mut self.table, change)
    }
}

/// Does work that may block. A disk may be far away: nobody else waits for it, and the guest not for long.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Err(_) => Err(Failure::Failed(format!("the disk did not answer within {PATIENCE:?}"))),
        Ok(Err(error)) => Err(Failure::Failed(error.to_string())),
        Ok(Ok(done)) => done,
    }
}

impl Wasi {
    fn may_read(&self, wanted: &FilePattern) -> Result<(), Failure> {
        if self.egress.files.files.iter().any(|allowed| allowed.allows(wanted)) {
            return Ok(());
        }
        self.refusals.tell(format!("the file {:?}, which is not among the plugin's capabilities.allowedFiles", wanted.to_string()));
        Err(Failure::Denied)
    }
}

/// The names that a pattern stands for, of those that are allowed.
fn list(allowed: &AllowedFiles, wanted: &FilePattern) -> Result<Vec<String>, Failure> {
    let allowing: Vec<&FilePattern> = allowed.files.iter().filter(|allowed| allowed.beside(wanted)).collect();
    if allowing.is_empty() {
        return Err(Failure::Denied);
    }
    let folder = wanted.folder(&allowed.base);
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
    let entries = std::fs::read_dir(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::Missing,
        _ => Failure::Failed(error.to_string()),
    })?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // A name that is not UTF-8 cannot be told to the guest.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if wanted.matches(&name)
            && allowing.iter().any(|allowed| allowed.matches(&name))
            && !entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            found.push(wanted.sibling(&name));
        }
        if found.len() > MAX_FILES {
            return Err(Failure::Failed(format!("{wanted} stands for more than {MAX_FILES} files")));
        }
    }
    found.sort();
    Ok(found)
}

fn open(folder: &Path, name: &str) -> Result<File, Failure> {
    let failed = |errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Failure::Missing,
        // A link leads out of the folder, or links lead in a circle.
        Errno::XDEV | Errno::LOOP => Failure::Denied,
        Errno::NOSYS => Failure::Failed("this kernel has no openat2: Linux 5.6 is needed".to_owned()),
        errno => Failure::Failed(std::io::Error::from(errno).to_string()),
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    // Opening a pipe would wait. That it is one is found out below.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(folder, name, flags, Mode::empty(), below).map(File::from).map_err(failed)
}

fn read(file: File) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(error.to_string());
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(Failure::Failed("it is no regular file".to_owned()));
    }
    let mut content = Vec::new();
    // A file may grow while it is read.
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_BYTES { Err(Failure::TooLarge(MAX_BYTES)) } else { Ok(content) }
}
