//! What balancers know of their pools, on disk: one file of the state folder. It is only a help, so if something is wrong with it, there is a line in the
//! log, and the pools begin with nothing.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sluicegate_model::plugin::{MAX_SAVED, Saved};
use sluicegate_model::state_store::{MOST_BYTES, Slot, StateStore};

use crate::state_file::StateFile;

/// The version of the file's form.
const FORM: u32 = 1;
/// The size above which a file is not this gateway's: base64 and names together.
const LARGEST_FILE: u64 = 2 * MOST_BYTES as u64;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    form: u32,
    pools: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    slot: Slot,
    version: u32,
    /// The state, in base64.
    data: String,
}

fn file(folder: &Path) -> StateFile {
    StateFile::new(folder.join("plugin-state.json"), "plugin state", LARGEST_FILE)
}

/// Loads what an earlier start left in the folder.
pub fn load(folder: &Path) -> StateStore {
    let found = file(folder).load::<Kept>();
    let kept = found.content.map_or_else(|| Ok(BTreeMap::new()), unpack);
    for damage in found.damage.iter().chain(kept.as_ref().err()) {
        tracing::warn!(damage, "the state that plugins left is damaged; what cannot be read of it is begun cold");
    }
    kept.map_or_else(|_| StateStore::default(), StateStore::with)
}

fn unpack(kept: Kept) -> Result<BTreeMap<Slot, Saved>, String> {
    if kept.form != FORM {
        return Err(format!("it is of form {}, and this gateway reads {FORM}", kept.form));
    }
    let row = |row: Row| {
        let data = BASE64_STANDARD.decode(&row.data).map_err(|e| e.to_string())?;
        if data.len() > MAX_SAVED {
            Err(format!("{} bytes of one pool", data.len()))
        } else {
            Ok((row.slot, Saved { version: row.version, data }))
        }
    };
    kept.pools.into_iter().map(row).collect()
}

/// Writes the states, if one has changed since they were written last. What cannot be written waits for the next call, and that is told once. It blocks.
pub fn save(state_store: &StateStore, folder: &Path) {
    let Some(kept) = state_store.changes() else { return };
    let file = file(folder);
    let row = |(slot, saved): (Slot, Saved)| Row { slot, version: saved.version, data: BASE64_STANDARD.encode(&saved.data) };
    match file.save(&Kept { form: FORM, pools: kept.into_iter().map(row).collect() }) {
        Ok(()) if state_store.saved() => tracing::info!(file = %file.path().display(), "the state of plugins is saved again"),
        Ok(()) => {}
        Err(error) if state_store.unsaved() => {
            tracing::warn!(%error, file = %file.path().display(), "the state of plugins could not be saved; after a restart their pools begin with older state, or none");
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(worker: usize) -> Slot {
        Slot { plugin: "p".to_owned(), pool: "default/web:80/TCP".to_owned(), worker }
    }

    #[test]
    fn what_is_saved_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let state_store = load(folder.path());
        state_store.put(slot(1), Saved { version: 3, data: vec![0, 255, 7] });
        save(&state_store, folder.path());
        assert_eq!(load(folder.path()).find(&slot(1)), Some(Saved { version: 3, data: vec![0, 255, 7] }));
    }

    #[test]
    fn a_file_that_is_broken_is_as_good_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in [
            "",
            "{",
            r#"{"form":2,"pools":[]}"#,
            r#"{"form":1,"pools":[{"slot":{"plugin":"p","pool":"a","worker":0},"version":1,"data":"?"}]}"#,
        ] {
            std::fs::write(file(folder.path()).path(), text).expect("written");
            assert_eq!(load(folder.path()).find(&slot(0)), None, "{text}");
        }
    }

    #[test]
    fn what_could_not_be_saved_is_saved_when_there_is_room_again_and_damage_costs_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let state_store = load(folder.path());
        let obstacle = folder.path().join("plugin-state.json.partial");
        std::fs::create_dir_all(obstacle.join("full")).expect("made");
        state_store.put(slot(1), Saved { version: 3, data: vec![7] });
        save(&state_store, folder.path());
        std::fs::remove_dir_all(obstacle).expect("removed");
        save(&state_store, folder.path());
        std::fs::write(file(folder.path()).path(), "damaged").expect("written");
        assert_eq!(load(folder.path()).find(&slot(1)), Some(Saved { version: 3, data: vec![7] }));
    }
}
