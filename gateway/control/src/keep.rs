//! What pools of balancers know, on disk: one file of the state folder. It is a help and no more, so whatever is wrong with it is a line in the log,
//! and the pools begin cold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sluicegate_model::plugin::{MAX_SAVED, Saved};
use sluicegate_model::shelf::{MOST_BYTES, Shelf, Slot};

/// Counted up when the file's form changes.
const FORM: u32 = 1;
/// Base64 and names together; a longer file is not ours.
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
    /// Base64.
    data: String,
}

/// The file of a state folder.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("plugin-state.json")
}

/// What an earlier start left in the folder.
pub fn load(folder: &Path) -> Shelf {
    let file = file(folder);
    match read(&file) {
        Ok(kept) => Shelf::with(kept),
        Err(error) => {
            tracing::warn!(error, file = %file.display(), "the state that plugins left cannot be read; their pools begin cold");
            Shelf::default()
        }
    }
}

fn read(file: &Path) -> Result<BTreeMap<Slot, Saved>, String> {
    let size = match file.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) => metadata.len(),
    };
    if size > LARGEST_FILE {
        return Err(format!("{size} bytes are more than {LARGEST_FILE}"));
    }
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let kept: Kept = serde_json::from_str(&text).map_err(|e| e.to_string())?;
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

/// Writes what has changed since the last time, if anything has. Blocks.
pub fn save(shelf: &Shelf, folder: &Path) {
    let Some(kept) = shelf.changes() else { return };
    let file = file(folder);
    if let Err(error) = write(kept, &file) {
        tracing::warn!(%error, file = %file.display(), "the state of plugins could not be saved; after a restart their pools begin with older state, or none");
    }
}

/// Renamed into place, so that a crash leaves the old file or the new one.
fn write(kept: BTreeMap<Slot, Saved>, file: &Path) -> std::io::Result<()> {
    let row = |(slot, saved): (Slot, Saved)| Row { slot, version: saved.version, data: BASE64_STANDARD.encode(&saved.data) };
    let text = serde_json::to_vec(&Kept { form: FORM, pools: kept.into_iter().map(row).collect() })?;
    let partial = file.with_extension("json.partial");
    let mut to = File::create(&partial)?;
    to.write_all(&text)?;
    to.sync_all()?;
    std::fs::rename(partial, file)
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
        let shelf = load(folder.path());
        shelf.put(slot(1), Saved { version: 3, data: vec![0, 255, 7] });
        save(&shelf, folder.path());
        assert_eq!(load(folder.path()).find(&slot(1)), Some(Saved { version: 3, data: vec![0, 255, 7] }));
        assert!(!file(folder.path()).with_extension("json.partial").exists());
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
            std::fs::write(file(folder.path()), text).expect("written");
            assert_eq!(load(folder.path()).find(&slot(0)), None, "{text}");
        }
    }
}
