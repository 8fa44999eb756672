//! All objects, found by kind, namespace and name; policies are found by what they target and routes by their parents, so that nobody walks over all of them.

pub(crate) mod parents;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::object::{Body, Object, ObjectKey};

pub use parents::{GROUP, ParentRef};

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object is new, or another than before.
    Applied(Arc<Object>),
    /// An object is gone.
    Gone(ObjectKey),
}

impl Change {
    /// The key of the object that has changed.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Applied(object) => &object.key,
            Self::Gone(key) => key,
        }
    }
}

/// What a policy targets, or a route has as a parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The target's namespace, which is the policy's own too.
    pub namespace: String,
    /// The target's kind.
    pub kind: String,
    /// The target's name.
    pub name: String,
}

/// All objects, each found by its key.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    all: BTreeMap<ObjectKey, Arc<Object>>,
    /// The policies of all kinds, by what they target.
    targeting: HashMap<Target, BTreeSet<ObjectKey>>,
}

impl Objects {
    /// Takes these objects. Of two with the same key the first counts.
    pub fn new<'o>(objects: impl IntoIterator<Item = &'o Arc<Object>>) -> Self {
        let mut made = Self::default();
        for object in objects {
            if !made.all.contains_key(&object.key) {
                made.apply(object.clone());
            }
        }
        made
    }

    /// Takes in a change; returns the object as it was before.
    pub fn change(&mut self, change: &Change) -> Option<Arc<Object>> {
        match change {
            Change::Applied(object) => self.apply(object.clone()),
            Change::Gone(key) => self.remove(key),
        }
    }

    /// Adds or replaces an object; returns the one that was there.
    pub fn apply(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let old = self.remove(&object.key);
        for target in targets(&object) {
            self.targeting.entry(target).or_default().insert(object.key.clone());
        }
        self.all.insert(object.key.clone(), object);
        old
    }

    /// Removes an object, and returns it.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Object>> {
        let old = self.all.remove(key)?;
        for target in targets(&old) {
            forget(&mut self.targeting, &target, key);
        }
        Some(old)
    }

    /// All objects, ordered by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.all.values()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The object of this kind, namespace and name.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.all.get(&(kind, namespace, name) as &dyn Key)
    }

    /// The object of this key.
    pub fn of_key(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.all.get(key)
    }

    /// The objects of a kind, ordered by namespace and name.
    pub fn of_kind<'o>(&'o self, kind: &str) -> impl Iterator<Item = &'o Arc<Object>> + use<'o> {
        let kind = kind.to_owned();
        self.from(&(kind.as_str(), "", "")).take_while(move |object| object.key.kind == kind)
    }

    /// The objects of a kind in a namespace, ordered by name.
    pub fn of_namespace<'o>(&'o self, kind: &str, namespace: &str) -> impl Iterator<Item = &'o Arc<Object>> + use<'o> {
        let (kind, namespace) = (kind.to_owned(), namespace.to_owned());
        self.from(&(kind.as_str(), namespace.as_str(), ""))
            .take_while(move |object| object.key.kind == kind && object.key.namespace == namespace)
    }

    /// The policies of all kinds that have this target.
    pub fn targeting(&self, target: &Target) -> impl Iterator<Item = &Arc<Object>> {
        self.targeting.get(target).into_iter().flatten().filter_map(|key| self.all.get(key))
    }

    fn from<'o>(&'o self, first: &dyn Key) -> impl Iterator<Item = &'o Arc<Object>> + use<'o> {
        self.all.range::<dyn Key, _>((Bound::Included(first), Bound::Unbounded)).map(|(_, object)| object)
    }
}

fn forget(index: &mut HashMap<Target, BTreeSet<ObjectKey>>, of: &Target, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(of) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(of);
        }
    }
}

/// The targets of a policy; none of an object that is no policy.
pub fn targets(object: &Object) -> impl Iterator<Item = Target> {
    let named: Vec<(&str, &str)> = match &object.body {
        Body::BackendTrafficPolicy(policy) => policy.spec.target_refs.iter().map(|t| (t.kind.as_str(), t.name.as_str())).collect(),
        Body::ClientTrafficPolicy(policy) => policy.spec.target_refs.iter().map(|t| (t.kind.as_str(), t.name.as_str())).collect(),
        Body::XBackendTrafficPolicy(policy) => policy.spec.target_refs.iter().map(|t| (t.kind.as_str(), t.name.as_str())).collect(),
        Body::BackendTlsPolicy(policy) => policy.spec.target_refs.iter().map(|t| (t.kind.as_str(), t.name.as_str())).collect(),
        _ => Vec::new(),
    };
    named
        .into_iter()
        .map(|(kind, name)| Target { namespace: object.key.namespace.clone(), kind: kind.to_owned(), name: name.to_owned() })
        .collect::<BTreeSet<_>>()
        .into_iter()
}

/// An [`ObjectKey`], or the borrowed parts of one.
trait Key {
    fn parts(&self) -> (&str, &str, &str);
}

impl Key for ObjectKey {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.kind, &self.namespace, &self.name)
    }
}

impl Key for (&str, &str, &str) {
    fn parts(&self) -> (&str, &str, &str) {
        *self
    }
}

impl<'k> Borrow<dyn Key + 'k> for ObjectKey {
    fn borrow(&self) -> &(dyn Key + 'k) {
        self
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Key + '_ {}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{manifest, object};

    fn objects(text: &str) -> Vec<Arc<Object>> {
        let parsed = manifest::parse(Path::new("test.yaml"), text);
        parsed.documents.into_iter().filter_map(|document| object::decode(document).0).map(Arc::new).collect()
    }

    #[test]
    fn objects_are_found_by_kind_namespace_name_and_target_as_they_are_now() {
        let policy = |name: &str, target: &str| {
            format!(
                "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {name}, namespace: a}}\nspec: {{targetRefs: [{{group: \"\", kind: Service, name: {target}}}]}}\n---\n"
            )
        };
        let map = |namespace: &str, name: &str| {
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n---\n")
        };
        let mut all = Objects::new(&objects(&[policy("p", "web"), policy("q", "web"), map("a", "m"), map("b", "m")].concat()));
        assert_eq!(all.len(), 4);
        assert!(all.get("ConfigMap", "a", "m").is_some() && all.get("ConfigMap", "a", "n").is_none());
        assert_eq!((all.of_kind("ConfigMap").count(), all.of_kind("Config").count()), (2, 0));
        assert_eq!((all.of_namespace("ConfigMap", "a").count(), all.of_namespace("ConfigMap", "c").count()), (1, 0));
        let web = Target { namespace: "a".to_owned(), kind: "Service".to_owned(), name: "web".to_owned() };
        let names = |all: &Objects| all.targeting(&web).map(|o| o.key.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&all), ["p", "q"]);
        let old = all.change(&Change::Applied(objects(&policy("p", "other")).remove(0)));
        assert!(old.is_some_and(|old| old.key.name == "p"));
        assert_eq!(names(&all), ["q"]);
        let gone = all.targeting(&web).next().map(|o| Change::Gone(o.key.clone()));
        all.change(&gone.expect("it is there"));
        assert_eq!((names(&all), all.len()), (Vec::new(), 3));
    }
}
