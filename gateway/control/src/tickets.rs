//! The secrets of session tickets, over the life of a process. A new one is made every few hours. Where the operator asks for it, they are kept in a file of
//! the state folder, so that sessions are resumed after a restart, too.
//!
//! They are kept only if that is asked for, as a copy of the state folder would open the tickets of twelve hours, and with them what was recorded of these
//! sessions. Only the process's user may read the file: one that others could read, or that another user owns, is not believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sluicegate_model::tls::tickets::{TicketSecret, TicketSecrets};
use sluicegate_model::unix::seconds;

use crate::state_file::StateFile;

/// The version of the file's form.
const FORM: u32 = 1;
/// The size above which a file is not this gateway's, in bytes.
const LARGEST_FILE: u64 = 64 << 10;
/// The length of a secret's time, which stands before it, in bytes.
const TIME: usize = 8;

/// Whether secrets are kept on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persist {
    /// They end with the process, or with its last successor.
    #[default]
    No,
    /// They are kept, and the next start with this state folder goes on with them.
    Yes,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    form: u32,
    secrets: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    /// When the secret was made, in seconds since 1970.
    made: u64,
    /// The secret in base64. It is in a file, so nothing is gained by overwriting it in memory.
    secret: String,
}

fn file(folder: &Path) -> StateFile {
    StateFile::secret(folder.join("session-tickets.json"), "session tickets", LARGEST_FILE)
}

/// Loads what an earlier start left in the folder; nothing, if it is damaged or others may know it.
pub fn load(folder: &Path) -> Vec<TicketSecret> {
    let found = file(folder).load::<Kept>();
    let kept = found.content.map_or_else(|| Ok(Vec::new()), unpack);
    for damage in found.damage.iter().chain(kept.as_ref().err()) {
        tracing::warn!(damage, "the secrets of session tickets on disk are not used; TLS sessions of before may begin anew");
    }
    kept.unwrap_or_default()
}

fn unpack(kept: Kept) -> Result<Vec<TicketSecret>, String> {
    if kept.form != FORM {
        return Err(format!("session-tickets.json: it is of form {}, and this gateway reads {FORM}", kept.form));
    }
    let row = |row: Row| {
        let secret = BASE64_STANDARD.decode(&row.secret).ok()?;
        TicketSecret::from_bytes(&[&row.made.to_be_bytes()[..], &secret].concat())
    };
    let read: Option<Vec<TicketSecret>> = kept.secrets.into_iter().map(row).collect();
    read.ok_or_else(|| "session-tickets.json: a secret in it is none".to_owned())
}

/// Does what is to be done for the secrets from time to time.
pub struct TicketKeeper {
    secrets: Arc<TicketSecrets>,
    folder: PathBuf,
    persist: Persist,
    state: State,
}

/// How the file compares with the secrets.
#[derive(PartialEq, Eq)]
enum State {
    /// The secrets are saved as they are.
    Saved,
    /// The file is to be written, or removed.
    Due,
    /// The file could not be written or removed, which was told.
    Failed,
}

impl TicketKeeper {
    /// For the process that holds the state folder.
    pub fn new(secrets: Arc<TicketSecrets>, folder: PathBuf, persist: Persist) -> Self {
        Self { secrets, folder, persist, state: State::Due }
    }

    /// Makes a new secret if it is time, and brings the file up to date. What cannot be written waits for the next call, and that is told once. It blocks.
    pub fn tend(&mut self) {
        match self.secrets.rotate(seconds()) {
            Ok(true) if self.state == State::Saved => self.state = State::Due,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no new secret for session tickets could be made"),
        }
        if self.state == State::Saved {
            return;
        }
        let file = file(&self.folder);
        let done = match self.persist {
            Persist::Yes => file.save(&Kept { form: FORM, secrets: self.secrets.all().iter().map(pack).collect() }),
            Persist::No => file.remove(),
        };
        match done {
            Ok(()) => self.state = State::Saved,
            Err(_) if self.state == State::Failed => {}
            Err(error) => {
                self.state = State::Failed;
                let file = file.path().display();
                match self.persist {
                    Persist::Yes => {
                        tracing::warn!(%error, %file, "the secrets of session tickets could not be saved; after a restart sessions begin anew")
                    }
                    Persist::No => {
                        tracing::warn!(%error, %file, "the secrets of session tickets that an earlier start left there could not be removed")
                    }
                }
            }
        }
    }
}

fn pack(secret: &TicketSecret) -> Row {
    let bytes = secret.to_bytes();
    let (made, secret) = bytes.split_at(TIME);
    Row { made: made.iter().fold(0, |made, byte| made << 8 | u64::from(*byte)), secret: BASE64_STANDARD.encode(secret) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Arc<TicketSecrets> {
        Arc::new(TicketSecrets::fresh().expect("random bytes"))
    }

    fn known(secrets: &[TicketSecret]) -> Vec<Vec<u8>> {
        secrets.iter().map(|secret| secret.to_bytes().to_vec()).collect()
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart_and_goes_when_nobody_asks_for_it_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = secrets();
        secrets.rotate(seconds() + 7 * 3600).expect("random bytes");
        TicketKeeper::new(secrets.clone(), folder.path().to_owned(), Persist::Yes).tend();
        let loaded = load(folder.path());
        assert_eq!(known(&loaded), known(&secrets.all()));
        TicketKeeper::new(secrets.clone(), folder.path().to_owned(), Persist::No).tend();
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0);
        assert!(load(folder.path()).is_empty());
    }

    #[test]
    fn what_could_not_be_saved_is_saved_when_there_is_room_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let obstacle = folder.path().join("session-tickets.json.partial");
        std::fs::create_dir_all(obstacle.join("full")).expect("made");
        let secrets = secrets();
        let mut keeper = TicketKeeper::new(secrets.clone(), folder.path().to_owned(), Persist::Yes);
        keeper.tend();
        assert!(load(folder.path()).is_empty());
        std::fs::remove_dir_all(obstacle).expect("removed");
        keeper.tend();
        assert_eq!(known(&load(folder.path())), known(&secrets.all()));
    }

    #[test]
    fn what_is_damaged_is_not_put_aside_and_what_others_may_know_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = secrets();
        let (main, copy) = (folder.path().join("session-tickets.json"), folder.path().join("session-tickets.json.copy"));
        for mode in [0o604, 0o640, 0o620] {
            TicketKeeper::new(secrets.clone(), folder.path().to_owned(), Persist::Yes).tend();
            std::fs::set_permissions(&main, std::fs::Permissions::from_mode(mode)).expect("set");
            std::fs::write(&copy, "damaged").expect("written");
            assert!(load(folder.path()).is_empty(), "{mode:o}");
            assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 0, "{mode:o}");
        }
    }
}
