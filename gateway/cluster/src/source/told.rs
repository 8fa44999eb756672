//! What was told of a kind, so that what the server says once more is not told again, and what is gone is found by difference. Of an object only a hash is
//! kept: the object itself is control's.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use sluicegate_control::sources::{Change, What};

use super::trim::trim;
use super::unit;
use crate::kinds::Kind;

/// The namespace and name of an object: `NAMESPACE/NAME`, or the name alone. Neither can have a slash.
pub(super) type Key = Box<str>;

/// What was told of a kind.
pub(super) struct Told {
    kind: &'static Kind,
    known: BTreeMap<Key, u64>,
    /// What is not reported yet.
    changes: Vec<Change>,
}

/// The parts of a key.
pub(super) fn parts(key: &str) -> (Option<&str>, &str) {
    key.split_once('/').map_or((None, key), |(namespace, name)| (Some(namespace), name))
}

/// The key of an object; none if it has no name.
pub(super) fn key(kind: &Kind, object: &Value) -> Option<Key> {
    let text = |field: &str| object["metadata"][field].as_str().filter(|text| !text.is_empty() && !text.contains('/'));
    let name = text("name")?;
    if kind.namespaced { Some(format!("{}/{name}", text("namespace")?).into()) } else { Some(name.into()) }
}

impl Told {
    pub(super) fn new(kind: &'static Kind) -> Self {
        Self { kind, known: BTreeMap::new(), changes: Vec::new() }
    }

    /// How many objects are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn unit(&self, key: &str) -> PathBuf {
        let (namespace, name) = parts(key);
        unit(self.kind, namespace, name)
    }

    /// Takes in an object as the server has it.
    pub(super) fn apply(&mut self, version: &str, key: Key, mut object: Value) {
        trim(self.kind, version, &mut object);
        let text: Arc<str> = object.to_string().into();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let unit = self.unit(&key);
        if self.known.insert(key, hash) != Some(hash) {
            self.changes.push(Change { unit, what: What::Json(text) });
        }
    }

    /// Takes in that an object is gone. True: it was known.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let known = self.known.remove(key).is_some();
        if known {
            let unit = self.unit(key);
            self.changes.push(Change { unit, what: What::Gone });
        }
        known
    }

    /// Takes in that objects were told by somebody else, and what they are is not known here.
    pub(super) fn adopt(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.known.entry(key).or_insert(0);
        }
    }

    /// All objects that are known but not among these.
    pub(super) fn others(&self, there: &BTreeSet<Key>) -> Vec<Key> {
        self.known.keys().filter(|key| !there.contains(*key)).cloned().collect()
    }

    /// Takes what is not reported yet.
    pub(super) fn take(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_the_same_is_not_told_again_and_what_is_gone_is_found() {
        let kind = Kind::named("Service").expect("known");
        let mut told = Told::new(kind);
        let object = |name: &str, port: u16, version: &str| json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": version}, "spec": {"ports": [{"port": port}]}});
        let apply = |told: &mut Told, object: Value| {
            let key = key(kind, &object).expect("a key");
            told.apply("v1", key, object);
            told.take().into_iter().map(|change| change.unit.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(apply(&mut told, object("a", 80, "1")), ["cluster/Service/n/a"]);
        assert!(apply(&mut told, object("a", 80, "2")).is_empty(), "only its version is another");
        assert_eq!(apply(&mut told, object("a", 81, "3")).len(), 1);
        told.adopt(["n/b".into(), "n/a".into()]);
        assert_eq!((told.len(), apply(&mut told, object("a", 81, "3")).len()), (2, 0), "what is known stays known");
        assert_eq!(told.others(&BTreeSet::from(["n/a".into()])), ["n/b".into()]);
        assert!(told.remove("n/b") && !told.remove("n/b"));
        assert!(matches!(&told.take()[..], [Change { what: What::Gone, .. }]));
        assert_eq!(key(kind, &json!({"metadata": {"name": "a/b", "namespace": "n"}})), None);
        assert_eq!(key(Kind::named("Node").expect("known"), &json!({"metadata": {"name": "a"}})), Some("a".into()));
    }
}
