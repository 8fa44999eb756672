//! Which files a discovery plugin may read, as `capabilities.allowedFiles` names them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A path whose last part may be a pattern: `targets.yaml`, `sd/*.json`. In a pattern `*` stands for any characters and `?` for one; neither for a
/// name that begins with a dot, so that a ConfigMap volume's `..data` is not taken for a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePattern {
    /// The folder as it is written; empty for the folder itself.
    folder: String,
    name: String,
}

impl FilePattern {
    /// The folder, which is below `base` unless it is absolute.
    pub fn folder(&self, base: &Path) -> PathBuf {
        base.join(&self.folder)
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the last part is a pattern, rather than a name.
    pub fn is_pattern(&self) -> bool {
        self.name.contains(['*', '?'])
    }

    /// Whether a file of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_pattern() { !name.starts_with('.') && matches(self.name.as_bytes(), name.as_bytes()) } else { self.name == name }
    }

    /// Whether this names the file that `other` names, which is not a pattern.
    pub fn allows(&self, other: &Self) -> bool {
        self.folder == other.folder && self.matches(&other.name)
    }

    /// Whether both are in the same folder.
    pub fn beside(&self, other: &Self) -> bool {
        self.folder == other.folder
    }

    /// The path of another name in the same folder.
    #[must_use]
    pub fn sibling(&self, name: &str) -> String {
        Self { folder: self.folder.clone(), name: name.to_owned() }.to_string()
    }
}

impl FromStr for FilePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no file such as \"targets.yaml\" or \"sd/*.json\"");
        let (folder, name) =
            text.rsplit_once('/').map_or(("", text), |(folder, name)| (if folder.is_empty() { "/" } else { folder }, name));
        let bad_name = matches!(name, "" | "." | "..") || text.contains('\0') || text.len() > 4096;
        if bad_name || folder.contains(['*', '?']) {
            return Err(wrong());
        }
        let parts: Vec<&str> = folder.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let root = if folder.starts_with('/') { "/" } else { "" };
        Ok(Self { folder: format!("{root}{}", parts.join("/")), name: name.to_owned() })
    }
}

impl fmt::Display for FilePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.folder.as_str() {
            "" => f.write_str(&self.name),
            "/" => write!(f, "/{}", self.name),
            folder => write!(f, "{folder}/{}", self.name),
        }
    }
}

/// Whether a pattern matches a name, in a time that is the product of both lengths at most: on a mismatch only the last `*` takes one character more.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The files that a plugin may read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedFiles {
    /// The folder of the `Plugin` object's own file.
    pub base: PathBuf,
    /// The files. If there are none, the plugin may read none.
    pub files: Vec<FilePattern>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> FilePattern {
        text.parse().expect(text)
    }

    #[test]
    fn the_last_part_may_be_a_pattern() {
        for (text, name, wanted) in [
            ("*.json", "a.json", true),
            ("*.json", ".json", false),
            ("*.json", "a.jsonx", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("t?.yaml", "t1.yaml", true),
            ("t?.yaml", "t.yaml", false),
            ("*", "..data", false),
            (".hidden", ".hidden", true),
            ("[a]", "[a]", true),
            ("***************************x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(pattern(text).matches(name), wanted, "{text} {name}");
        }
    }

    #[test]
    fn folders_are_compared_as_they_are_written() {
        let allowed = pattern("sd/./web/*.json");
        assert!(allowed.allows(&pattern("sd//web/a.json")) && allowed.to_string() == "sd/web/*.json");
        for other in ["web/a.json", "sd/web/../web/a.json", "/sd/web/a.json", "sd/web/a.yaml", "a.json"] {
            assert!(!allowed.allows(&pattern(other)), "{other}");
        }
        assert_eq!(pattern("a.json").folder(Path::new("/x")), Path::new("/x"));
        assert_eq!(pattern("/etc/a.json").folder(Path::new("/x")), Path::new("/etc"));
        assert_eq!(pattern("/a").to_string(), "/a");
        assert_eq!(pattern("sd/*.json").sibling("b.json"), "sd/b.json");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for wrong in ["", "a/", "..", "a/..", "*/a", "a/?/b", "a\0b"] {
            assert!(wrong.parse::<FilePattern>().is_err(), "{wrong:?}");
        }
    }
}
