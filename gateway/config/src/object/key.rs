//! The key of an object. Many maps are ordered or hashed by it, so it is one pointer: a copy costs a reference count, and it is hashed once.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// The key of an object: its kind, namespace and name.
#[derive(Clone)]
pub struct ObjectKey(Arc<Hashed>);

struct Hashed {
    named: Named,
    hash: u64,
}

/// The parts of an [`ObjectKey`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// The kind of the object.
    pub kind: String,
    /// The namespace of the object: `default` unless it names one.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object of this kind, namespace and name.
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        // Others choose the names of objects, so the hash has a secret.
        static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let named = Named { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        let hash = HASH.hash_one(&named);
        Self(Arc::new(Hashed { named, hash }))
    }
}

impl Deref for ObjectKey {
    type Target = Named;

    fn deref(&self) -> &Named {
        &self.0.named
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.named == other.0.named)
    }
}

impl Eq for ObjectKey {}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Keys are ordered by kind, namespace and name.
impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // A map that is searched mostly holds a copy of the very key.
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.named.cmp(&other.0.named) }
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
