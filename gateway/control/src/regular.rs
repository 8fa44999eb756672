//! Reads files that others made. Whatever stands under a name, reading neither waits nor takes more memory than allowed: a pipe without a writer, a terminal
//! or a socket is refused before it is opened.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// The file system gives an error, it is not a file, or it is larger.
pub(crate) fn read(path: &Path, most: u64) -> Result<(Vec<u8>, Metadata)> {
    // This comes before opening, as merely opening a device may have effects (a tape rewinds, a watchdog starts).
    check(&std::fs::metadata(path)?)?;
    // Another kind of file may have taken the name since. Opening a pipe would wait without this flag.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    check(&found)?;
    let too_large = |size: u64| Error::other(format!("{size} bytes are more than the {most} a file may have"));
    if found.len() > most {
        return Err(too_large(found.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default());
    // The file may grow meanwhile.
    (&file as &File).take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(bytes.len() as u64));
    }
    Ok((bytes, found))
}

/// Checks that it is a regular file.
pub(crate) fn check(found: &Metadata) -> Result<()> {
    match kind(found.file_type()) {
        None => Ok(()),
        Some(kind) => Err(Error::new(ErrorKind::InvalidInput, format!("it is {kind}, and only regular files are read"))),
    }
}

/// What it is, if it is not a regular file.
fn kind(of: FileType) -> Option<&'static str> {
    if of.is_file() {
        None
    } else if of.is_dir() {
        Some("a folder")
    } else if of.is_fifo() {
        Some("a named pipe (FIFO)")
    } else if of.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), rustix::fs::Mode::RUSR).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("bound");
        std::os::unix::fs::symlink("fifo", path("link")).expect("linked");
        std::fs::write(path("large"), [0; 9]).expect("written");
        for (name, says) in [
            ("fifo", "named pipe"),
            ("link", "named pipe"),
            ("socket", "a socket"),
            (".", "a folder"),
            ("../../dev/zero", "a device"),
            ("large", "9 bytes are more than the 8"),
        ] {
            let path = if name.ends_with("zero") { "/dev/zero".into() } else { path(name) };
            let error = read(&path, 8).expect_err(name).to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
        std::fs::write(path("file"), "12345678").expect("written");
        assert_eq!(read(&path("file"), 8).expect("read").0, b"12345678");
    }
}
