//! Where a path leads: each name on the way, in the folder that holds it. When one of these names comes to stand for something else (a link is
//! switched, or a folder is renamed and another takes its place), the path leads elsewhere.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

/// The number of links on one way, as the kernel limits it (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The way of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Folders without links in their names, and one name in each.
    pub(super) names: Vec<(PathBuf, OsString)>,
    /// The end of the way, without links in its name, if it exists.
    pub(super) end: Option<PathBuf>,
}

/// Follows a path as far as it leads.
///
/// # Errors
/// A folder on the way cannot be read, or the links go in a circle.
pub(super) fn follow(path: &Path) -> Result<Way> {
    let mut way = Way::default();
    let mut here = PathBuf::from("/");
    let mut left: VecDeque<OsString> = names(&std::path::absolute(path)?);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        way.names.push((here.clone(), name.clone()));
        let next = here.join(&name);
        match std::fs::symlink_metadata(&next) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(way),
            Err(error) => return Err(error),
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Error::other("its links go in a circle"));
                }
                let target = std::fs::read_link(&next)?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    left.push_front(name);
                }
            }
            Ok(_) => here = next,
        }
    }
    way.end = Some(here);
    Ok(way)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_name_on_the_way_is_told_and_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("there");
        std::fs::create_dir_all(root.join("revisions/one")).expect("made");
        std::fs::write(root.join("revisions/one/a.yaml"), "").expect("written");
        symlink("revisions/one", root.join("current")).expect("linked");
        symlink("../current/a.yaml", root.join("revisions/link.yaml")).expect("linked");
        let way = follow(&root.join("revisions/link.yaml")).expect("followed");
        assert_eq!(way.end, Some(root.join("revisions/one/a.yaml")));
        for (folder, name) in
            [("revisions", "link.yaml"), ("", "current"), ("", "revisions"), ("revisions", "one"), ("revisions/one", "a.yaml")]
        {
            let folder = root.join(folder);
            assert!(way.names.iter().any(|(f, n)| *f == folder.components().collect::<PathBuf>() && n == name), "{name} in {way:?}");
        }
        assert_eq!(follow(&root.join("current/none/b.yaml")).expect("followed").end, None);
        assert_eq!(
            follow(&root.join("current/../a")).expect("followed").names.last().map(|(f, _)| f.clone()),
            Some(root.join("revisions"))
        );
        symlink("circle", root.join("circle")).expect("linked");
        assert!(follow(&root.join("circle")).is_err());
    }
}
