//! What is kept of an issuer in the state folder: `acme/ISSUER/account.json`, and for each name `acme/ISSUER/NAME.json` with its certificate and key. Only the
//! process's user may read the files: one that others could read, or that another user owns, is not believed.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use sluicegate_control::state_file::StateFile;
use sluicegate_model::tls::{Certificate, Wrong};

/// The version of the files' form.
const FORM: u32 = 1;
/// The size above which a file is not this gateway's, in bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// The longest part of a name that is a file's, in bytes: file systems take 255, some of which are an ending.
const LONGEST_PART: usize = 200;

/// How many files are looked at for such as can be removed.
const MOST_LOOKED_AT: usize = 10_000;

/// The state folder's part for ACME.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeptAccount {
    form: u32,
    credentials: AccountCredentials,
    /// The directory of the CA that has the account.
    directory: String,
}

/// A certificate as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kept {
    form: u32,
    /// The host name.
    pub(crate) name: String,
    /// The directory of the CA that has issued it.
    pub(crate) directory: String,
    /// The certificate and those of its authorities, in PEM.
    pub(crate) chain: String,
    /// The private key in PEM. It is in a file, so nothing is gained by overwriting it in memory.
    pub(crate) key: String,
}

impl Kept {
    pub(crate) fn new(name: String, directory: String, chain: String, key: String) -> Self {
        Self { form: FORM, name, directory, chain, key }
    }

    /// The certificate, ready to be shown.
    pub(crate) fn certificate(&self, issuer: &str) -> Result<Certificate, Wrong> {
        Certificate::from_pem(&format!("acme:{issuer}/{}", self.name), self.chain.as_bytes(), self.key.as_bytes())
    }
}

impl Folder {
    pub(crate) fn new(state: &Path) -> Self {
        Self(state.join("acme"))
    }

    fn account(&self, issuer: &str) -> StateFile {
        StateFile::secret(self.0.join(issuer).join("account.json"), "ACME account", LARGEST_FILE)
    }

    fn certificate(&self, issuer: &str, name: &str) -> StateFile {
        let folder = self.0.join(issuer).join("certificates");
        let (head, rest) = name.split_at_checked(LONGEST_PART).filter(|(_, rest)| !rest.is_empty()).unwrap_or(("", name));
        StateFile::secret(folder.join(head).join(format!("{rest}.json")), "ACME certificate", LARGEST_FILE)
    }

    /// Loads the account at this CA.
    pub(crate) fn load_account(&self, issuer: &str, directory: &str) -> Option<AccountCredentials> {
        let found = self.account(issuer).load::<KeptAccount>();
        for damage in &found.damage {
            tracing::warn!(damage, issuer, "the account at an ACME CA that is kept is not used; another one is made");
        }
        found.content.filter(|kept| kept.form == FORM && kept.directory == directory).map(|kept| kept.credentials)
    }

    pub(crate) fn save_account(&self, issuer: &str, directory: &str, credentials: AccountCredentials) -> io::Result<()> {
        save(&self.account(issuer), &KeptAccount { form: FORM, credentials, directory: directory.to_owned() })
    }

    /// Forgets an account that its CA does not know.
    pub(crate) fn remove_account(&self, issuer: &str) -> io::Result<()> {
        self.account(issuer).remove()
    }

    /// Loads the certificate of a name.
    pub(crate) fn load(&self, issuer: &str, name: &str) -> Option<Kept> {
        let found = self.certificate(issuer, name).load::<Kept>();
        for damage in &found.damage {
            tracing::warn!(damage, issuer, name, "a certificate that is kept is not used; another one is ordered");
        }
        found.content.filter(|kept| kept.form == FORM && kept.name == name)
    }

    pub(crate) fn save(&self, issuer: &str, kept: &Kept) -> io::Result<()> {
        save(&self.certificate(issuer, &kept.name), kept)
    }

    /// Looks at all certificates of an issuer, and leaves the files as they are.
    pub(crate) fn look(&self, issuer: &str, most: usize) -> Vec<Kept> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.join(issuer).join("certificates")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && folders.len() < most {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "json") && found.len() < most {
                    found.extend(StateFile::secret(path, "ACME certificate", LARGEST_FILE).look::<Kept>().content);
                }
            }
        }
        found.retain(|kept| kept.form == FORM);
        found
    }
}

impl Folder {
    /// Removes certificates of an issuer that had run out by `now` and that nobody asks for.
    pub(crate) fn prune(&self, issuer: &str, now: i64, asked: impl Fn(&str) -> bool) {
        for kept in self.look(issuer, MOST_LOOKED_AT).iter().filter(|kept| !asked(&kept.name)) {
            if kept.certificate(issuer).is_ok_and(|certificate| certificate.not_after() < now)
                && let Err(error) = self.certificate(issuer, &kept.name).remove()
            {
                tracing::warn!(issuer, name = kept.name, %error, "a certificate that has run out could not be removed");
            }
        }
    }
}

/// Writes a file, in a folder that is for this user alone.
fn save(file: &StateFile, content: &impl Serialize) -> io::Result<()> {
    if let Some(folder) = file.path().parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    file.save(content)
}

/// Whether a name can be ordered, and is fit to be a file's.
pub(crate) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_for_this_user_alone_and_found_again() {
        let state = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(state.path());
        let long = vec!["a".repeat(60); 4].join(".");
        for name in ["a.example", &long] {
            folder.save("ca", &Kept::new(name.to_owned(), "https://ca".to_owned(), "chain".to_owned(), "key".to_owned())).expect("saved");
            assert_eq!(folder.load("ca", name).map(|kept| kept.name), Some(name.to_owned()));
            assert!(folder.load("ca", "b.example").is_none() && folder.load("other", name).is_none());
        }
        let mut names: Vec<String> = folder.look("ca", 9).into_iter().map(|kept| kept.name).collect();
        names.sort();
        assert_eq!(names, ["a.example".to_owned(), long]);
        let file = state.path().join("acme/ca/certificates/a.example.json");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&state.path().join("acme")), mode(&state.path().join("acme/ca"))), (0o600, 0o700, 0o700));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
        let copy = state.path().join("acme/ca/certificates/a.example.json.copy");
        std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o640)).expect("set");
        assert!(folder.load("ca", "a.example").is_none(), "others may know the key");
    }

    #[test]
    fn what_has_run_out_and_nobody_asks_for_is_removed() {
        let state = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(state.path());
        let make = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
            Kept::new(name.to_owned(), "https://ca".to_owned(), made.cert.pem(), made.signing_key.serialize_pem())
        };
        for name in ["a.example", "b.example"] {
            folder.save("ca", &make(name)).expect("saved");
        }
        folder.prune("ca", 0, |_| false);
        assert_eq!(folder.look("ca", 9).len(), 2, "they are good");
        folder.prune("ca", i64::MAX, |name| name == "a.example");
        assert_eq!(folder.look("ca", 9).into_iter().map(|kept| kept.name).collect::<Vec<_>>(), ["a.example"]);
    }

    #[test]
    fn only_host_names_are_ordered_and_become_files() {
        for name in ["a.example", "xn--bcher-kva.example", "a", "1.2.example"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a..b", "../a", "a/b", "*.example", "A.example", "-a.example", "a.example.", &"a.".repeat(127)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
