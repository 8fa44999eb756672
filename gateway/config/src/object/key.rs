//! What names an object. Many maps go by it, so it is one pointer, a copy costs a reference count, and it is hashed once.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// What names an object.
#[derive(Clone)]
pub struct ObjectKey(Arc<Hashed>);

struct Hashed {
    named: Named,
    hash: u64,
}

/// The parts of an [`ObjectKey`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Its kind.
    pub kind: String,
    /// Its namespace; `default` unless given.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// Of an object of this kind, namespace and name.
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        // Objects are named by strangers, so the hash has a secret.
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

/// By kind, namespace and name.
impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // Maps mostly hold copies of the key that is looked up.
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
