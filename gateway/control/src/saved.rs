//! A saved copy of what a source has told, for a start at which the source does not answer. It is written from the objects that control has, a few seconds after
//! they have changed, in several files, of which only those are written again whose objects have changed. Each is a state file: written beside and renamed into
//! place, with a checksum and a second copy.
//!
//! Secrets are left out. Whoever reads the folder would have the keys of all certificates; so what needs them waits for the source.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluicegate_config::object::Object;
use sluicegate_config::objects::{Change, Objects};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::state_file::StateFile;

/// The version of the files' form.
const FORM: u32 = 1;
/// The size above which a file is not this gateway's, in bytes.
const LARGEST_FILE: u64 = 1 << 30;
/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_secs(5);

/// The objects of a source, each in JSON, by their units.
pub type Saved = BTreeMap<PathBuf, Arc<str>>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    form: u32,
    units: BTreeMap<String, String>,
}

/// Which file: a kind, and a part of its objects.
type Part = (String, u64);

/// In how many files the objects of a kind are.
fn parts(kind: &str) -> u64 {
    match kind {
        "EndpointSlice" => 16,
        "Service" | "HTTPRoute" => 4,
        _ => 1,
    }
}

fn part(object: &Object) -> Part {
    let mut hasher = DefaultHasher::new();
    (&object.key.namespace, &object.key.name).hash(&mut hasher);
    (object.key.kind.clone(), hasher.finish() % parts(&object.key.kind))
}

fn file(folder: &Path, (kind, number): &Part) -> StateFile {
    StateFile::new(folder.join(format!("{kind}-{number}.json")), "objects of a source", LARGEST_FILE)
}

/// The files that are there.
fn there(folder: &Path) -> BTreeSet<Part> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let part = |name: &str| {
        let name = name.strip_suffix(".copy").unwrap_or(name).strip_suffix(".json")?;
        let (kind, number) = name.rsplit_once('-')?;
        Some((kind.to_owned(), number.parse().ok()?))
    };
    entries.filter_map(|entry| part(entry.file_name().to_str()?)).collect()
}

/// What was saved in a folder; none if nothing was.
pub fn load(folder: &Path) -> Option<Saved> {
    let (mut saved, mut any) = (Saved::new(), false);
    for part in there(folder) {
        let found = file(folder, &part).load::<Kept>();
        for damage in &found.damage {
            tracing::warn!(damage, "what was saved of a source's objects is damaged");
        }
        if let Some(kept) = found.content.filter(|kept| kept.form == FORM) {
            any = true;
            saved.extend(kept.units.into_iter().map(|(unit, text)| (PathBuf::from(unit), Arc::from(text))));
        }
    }
    any.then_some(saved)
}

/// Saves the objects of a source.
pub struct Saver {
    folder: PathBuf,
    /// The name of the source, with which those of its units begin.
    source: PathBuf,
    /// What has changed since it was written.
    changed: BTreeSet<Part>,
    due: Option<Instant>,
    writing: Option<JoinHandle<BTreeSet<Part>>>,
}

impl Saver {
    /// Saves into a folder what comes from the source of this name.
    pub fn new(folder: PathBuf, source: &str) -> Self {
        // Whatever they hold may be no more.
        let changed = there(&folder);
        Self { folder, source: source.into(), changed, due: None, writing: None }
    }

    fn is_saved(&self, object: &Object) -> bool {
        object.key.kind != "Secret" && object.origin.file().starts_with(&self.source)
    }

    /// Takes in changes of objects.
    pub(crate) fn note(&mut self, changes: &[(Change, Option<Arc<Object>>)]) {
        for (change, old) in changes {
            let new = match change {
                Change::Applied(object) => Some(object),
                Change::Gone(_) => None,
            };
            let saved = new.into_iter().chain(old).filter(|object| self.is_saved(object)).map(|object| part(object));
            self.changed.extend(saved.collect::<Vec<_>>());
        }
        if !self.changed.is_empty() {
            self.due.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Waits until something is to be written.
    pub(crate) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what has changed, on a thread of its own.
    pub(crate) async fn save(&mut self, objects: &Objects) {
        self.due = None;
        if let Some(writing) = &mut self.writing {
            if !writing.is_finished() {
                self.due = Some(Instant::now() + GATHER);
                return;
            }
            // What could not be written is written again.
            self.changed.extend(writing.await.unwrap_or_default());
        }
        let mut parts: BTreeMap<Part, Vec<Arc<Object>>> =
            std::mem::take(&mut self.changed).into_iter().map(|part| (part, Vec::new())).collect();
        let kinds: BTreeSet<String> = parts.keys().map(|(kind, _)| kind.clone()).collect();
        for object in kinds.iter().flat_map(|kind| objects.of_kind(kind)).filter(|object| self.is_saved(object)) {
            if let Some(of) = parts.get_mut(&part(object)) {
                of.push(object.clone());
            }
        }
        let folder = self.folder.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || write(&folder, parts)));
    }
}

/// Writes files. Returns those that could not be written.
fn write(folder: &Path, parts: BTreeMap<Part, Vec<Arc<Object>>>) -> BTreeSet<Part> {
    let mut failed = BTreeSet::new();
    let made = std::fs::create_dir_all(folder);
    for (part, objects) in parts {
        let file = file(folder, &part);
        let units = objects.iter().map(|object| (object.origin.file().display().to_string(), object.json().to_string()));
        let kept = Kept { form: FORM, units: units.collect() };
        let written = if kept.units.is_empty() { file.remove() } else { file.save(&kept) };
        if let Err(error) = written {
            // One line tells it of all.
            if failed.is_empty() {
                tracing::warn!(%error, folder = %folder.display(), "what the API server said last cannot be saved");
            }
            failed.insert(part);
        }
    }
    drop(made);
    failed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sources::{self, What};
    use crate::store::Store;

    fn told(kind: &str, name: &str, value: &str) -> sources::Change {
        let field = if kind == "Secret" { "stringData" } else { "data" };
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "n"}, field: {"v": value}});
        sources::Change { unit: format!("cluster/{kind}/n/{name}").into(), what: What::Json(object.to_string().into()) }
    }

    #[tokio::test]
    async fn what_was_told_is_there_after_a_restart_but_for_secrets_and_what_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cluster");
        assert_eq!(load(&path), None);
        let mut store = Store::default();
        let mut saver = Saver::new(path.clone(), "cluster");
        let mut other = told("ConfigMap", "other", "1");
        other.unit = "folder/file.yaml".into();
        let update = store.update(vec![told("ConfigMap", "a", "1"), told("ConfigMap", "b", "1"), told("Secret", "s", "key"), other]);
        saver.note(&update.changes);
        saver.save(store.objects()).await;
        saver.writing.take().expect("it writes").await.expect("written");
        let names = |saved: Option<Saved>| saved.map(|saved| saved.keys().map(|unit| unit.display().to_string()).collect::<Vec<_>>());
        assert_eq!(names(load(&path)).expect("saved"), ["cluster/ConfigMap/n/a", "cluster/ConfigMap/n/b"]);
        for entry in std::fs::read_dir(&path).expect("a folder").flatten() {
            assert!(!std::fs::read_to_string(entry.path()).expect("read").contains("key"), "no Secret is on the disk");
        }
        // Another process: what it does not see any more is gone from the copy, too.
        let (mut store, mut saver) = (Store::default(), Saver::new(path.clone(), "cluster"));
        let update = store.update(vec![told("ConfigMap", "b", "2")]);
        saver.note(&update.changes);
        saver.save(store.objects()).await;
        saver.writing.take().expect("it writes").await.expect("written");
        let saved = load(&path).expect("saved");
        assert!(saved.len() == 1 && saved.values().all(|text| text.contains("\"2\"")), "{saved:?}");
        let update = store.update(vec![sources::Change { unit: "cluster/ConfigMap/n/b".into(), what: What::Gone }]);
        saver.note(&update.changes);
        saver.save(store.objects()).await;
        saver.writing.take().expect("it writes").await.expect("written");
        assert_eq!(load(&path), None);
    }
}
