//! Puts the files of one folder in the place of another folder's at once: a copy is made beside it, both exchange their names by one system call (renameat2(2),
//! `RENAME_EXCHANGE`), and what was there before is kept under another name. At no moment is the folder missing or half of each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sluicegate_model::unix::seconds;

/// The largest size of what is copied, in bytes, and the largest number of files and folders.
const MOST_BYTES: u64 = 1 << 30;
const MOST_ENTRIES: u64 = 100_000;
/// How deep folders may be.
const DEEPEST: u32 = 32;

/// Replaces a file or a folder by a copy of another one. Returns where what was there is kept.
pub(super) fn replace(served: &Path, by: &Path) -> Result<PathBuf, String> {
    // What is served may be a link; its target is replaced.
    let at = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let served = fs::canonicalize(served).map_err(|error| at(served, error))?;
    if served.is_dir() != by.is_dir() {
        return Err(format!("of {} and {} one is a file and the other a folder", served.display(), by.display()));
    }
    let name = served.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = |name: String| served.with_file_name(name);
    let (next, kept) = (beside(format!(".{name}.next-{}", std::process::id())), kept(&served, &name));
    let removed = |path: &Path| if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    let given_up = |error: String| {
        // It may not be there.
        let _ = removed(&next);
        format!("{error}; nothing has changed")
    };
    let _ = removed(&next);
    let mut left = (MOST_BYTES, MOST_ENTRIES);
    copy(by, &next, &mut left, DEEPEST).map_err(|error| given_up(at(by, error)))?;
    renameat_with(CWD, &next, CWD, &served, RenameFlags::EXCHANGE).map_err(|error| given_up(at(&served, error.into())))?;
    // What was served is under the other name now.
    match fs::rename(&next, &kept) {
        Ok(()) => Ok(kept),
        Err(_) => Ok(next),
    }
}

/// A name that nobody has.
fn kept(served: &Path, name: &str) -> PathBuf {
    let names = (0_u32..).map(|number| {
        let more = if number == 0 { String::new() } else { format!("-{number}") };
        served.with_file_name(format!("{name}.replaced-{}{more}", seconds()))
    });
    names.take(1_000).find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| served.with_file_name(format!("{name}.replaced")))
}

fn copy(from: &Path, to: &Path, left: &mut (u64, u64), depth: u32) -> io::Result<()> {
    let too_much = || io::Error::other("it has more files, or larger ones, than are copied here");
    let about = fs::symlink_metadata(from)?;
    left.1 = left.1.checked_sub(1).ok_or_else(too_much)?;
    if about.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if about.is_dir() {
        let depth = depth.checked_sub(1).ok_or_else(too_much)?;
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), left, depth)?;
        }
        return fs::set_permissions(to, about.permissions());
    }
    if !about.is_file() {
        return Ok(());
    }
    left.0 = left.0.checked_sub(about.len()).ok_or_else(too_much)?;
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_at_once_and_what_was_there_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (served, next) = (folder.path().join("conf"), folder.path().join("next"));
        for (of, text) in [(&served, "old"), (&next, "new")] {
            fs::create_dir_all(of.join("below")).expect("made");
            fs::write(of.join("below/a.yaml"), text).expect("written");
        }
        fs::write(served.join("gone.yaml"), "old").expect("written");
        std::os::unix::fs::symlink("below/a.yaml", next.join("link.yaml")).expect("linked");
        let kept = replace(&served, &next).expect("replaced");
        assert_eq!(fs::read_to_string(served.join("link.yaml")).expect("read"), "new");
        assert!(!served.join("gone.yaml").exists() && kept.join("gone.yaml").exists());
        assert_eq!(fs::read_to_string(next.join("below/a.yaml")).expect("read"), "new", "it is a copy");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing else is left");
        let again = replace(&served, &kept).expect("replaced");
        assert!(again != kept && fs::read_to_string(served.join("below/a.yaml")).expect("read") == "old");
        let error = replace(&served, &folder.path().join("conf/gone.yaml")).expect_err("a file is no folder");
        assert!(error.contains("one is a file"), "{error}");
        let error = replace(&served, &folder.path().join("none")).expect_err("it is not there");
        assert!(error.contains("none"), "{error}");
    }
}
