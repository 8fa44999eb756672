//! The objects, their versions, and what has changed since when.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::{KINDS, Kind};

/// Where an object is: the resource, namespace and name. Resources stay together, in the order of a real server's keys.
pub(super) type Key = (String, String, String);

/// A change of an object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    /// What it was before.
    pub(super) before: Option<Value>,
    /// What it is now, or was last.
    pub(super) object: Value,
    pub(super) gone: bool,
}

/// All that the server has.
pub(super) struct World {
    /// The kinds whose CustomResourceDefinition is there, and those that need none.
    pub(super) kinds: Vec<Kind>,
    pub(super) objects: BTreeMap<Key, Value>,
    pub(super) version: u64,
    pub(super) log: Vec<Change>,
    /// Watches from an older version are too old.
    pub(super) oldest: u64,
    /// Lists of an older version are too old.
    pub(super) compacted: u64,
}

pub(super) fn key(kind: Kind, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (kind.resource(), text("namespace"), text("name"))
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            kinds: KINDS.iter().copied().filter(|kind| !kind.custom).collect(),
            objects: BTreeMap::new(),
            version: 1,
            log: Vec::new(),
            oldest: 0,
            compacted: 0,
        }
    }

    /// The kind of an object that is given.
    pub(super) fn kind_of(object: &Value) -> Kind {
        Kind::named(object["kind"].as_str().expect("an object has a kind"))
    }

    /// An object is this now. It gets the next version, and what it has none of: a uid, the time of its creation, a generation.
    pub(super) fn put(&mut self, object: Value) -> Value {
        let version = self.version + 1;
        self.put_at(version, object)
    }

    /// The same at a version, which is higher than all before.
    pub(super) fn put_at(&mut self, version: u64, mut object: Value) -> Value {
        let kind = Self::kind_of(&object);
        if kind.namespaced && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!("default");
        }
        let key = key(kind, &object);
        let before = self.objects.get(&key).cloned();
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        for (field, made) in
            [("uid", json!(format!("00000000-0000-4000-8000-{version:012}"))), ("creationTimestamp", json!("2026-11-28T12:00:00Z"))]
        {
            if metadata[field].is_null() {
                metadata[field] = before.as_ref().map_or(made, |before| before["metadata"][field].clone());
            }
        }
        if kind.custom || kind.kind == "EndpointSlice" {
            let last = before.as_ref().map_or(0, |before| before["metadata"]["generation"].as_u64().unwrap_or(0));
            let same = before.as_ref().is_some_and(|before| spec(before) == spec(&object));
            if object["metadata"]["generation"].is_null() || last > 0 {
                object["metadata"]["generation"] = json!(if same { last } else { last + 1 });
            }
        }
        self.version = self.version.max(version);
        self.log.push(Change { version, key: key.clone(), before, object: object.clone(), gone: false });
        self.objects.insert(key, object.clone());
        object
    }

    /// An object as somebody else had it, with its version.
    pub(super) fn put_as_it_is(&mut self, object: Value) {
        let version = version(&object);
        let key = key(Self::kind_of(&object), &object);
        let before = self.objects.insert(key.clone(), object.clone());
        self.version = self.version.max(version);
        self.note(Change { version, key, before, object, gone: false });
    }

    /// An object is gone, at the version of what is given, which is how it was last.
    pub(super) fn delete_as_it_was(&mut self, object: Value) {
        let version = version(&object);
        let key = key(Self::kind_of(&object), &object);
        let before = self.objects.remove(&key);
        self.version = self.version.max(version);
        self.note(Change { version, key, before, object, gone: true });
    }

    /// The log is in the order of versions.
    fn note(&mut self, change: Change) {
        let at = self.log.partition_point(|known| known.version <= change.version);
        self.log.insert(at, change);
    }

    /// An object is gone; it has the version of its end then. None: it was not there.
    pub(super) fn delete(&mut self, key: &Key) -> Option<Value> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        let mut object = before.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.log.push(Change { version: self.version, key: key.clone(), before: Some(before), object: object.clone(), gone: true });
        Some(object)
    }

    /// All that came before is too old from now on.
    pub(super) fn forget(&mut self) {
        self.version += 1;
        (self.oldest, self.compacted) = (self.version, self.version);
    }

    /// The objects of a resource as they were at a version, in their order.
    pub(super) fn at(&self, version: u64, resource: &str) -> BTreeMap<Key, Value> {
        let of = |key: &Key| key.0 == resource;
        let mut objects: BTreeMap<Key, Value> =
            self.objects.iter().filter(|(key, _)| of(key)).map(|(key, object)| (key.clone(), object.clone())).collect();
        for change in self.log.iter().rev().take_while(|change| change.version > version).filter(|change| of(&change.key)) {
            match &change.before {
                Some(before) => drop(objects.insert(change.key.clone(), before.clone())),
                None => drop(objects.remove(&change.key)),
            }
        }
        objects
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).expect("a version")
}

/// What a generation counts: all but the metadata and the status.
fn spec(object: &Value) -> Value {
    let mut spec = object.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, _| name != "metadata" && name != "status");
    }
    spec
}
