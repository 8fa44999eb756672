//! The objects a discovery plugin watches, as it last heard of them.

use std::collections::BTreeMap;

use serde_json::Value;

/// An object of the store.
///
/// ```
/// use sluicegate_sdk::{Object, serde_json::json};
/// let node = Object { kind: "Node".into(), namespace: String::new(), name: "n1".into(), value: json!({"spec": {}}) };
/// assert!(node.value["spec"].is_object());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Such as `Pod`.
    pub kind: String,
    /// Empty for objects of the cluster, such as a `Node`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The whole object.
    pub value: Value,
}

/// All objects of the watched kinds, in the order of kind, namespace, name.
///
/// ```
/// # use sluicegate_sdk::{Object, Objects, serde_json::Value};
/// # let pod = |name: &str| Object { kind: "Pod".into(), namespace: "shop".into(), name: name.into(), value: Value::Null };
/// let mut objects = Objects::default();
/// objects.insert(pod("b"));
/// objects.insert(pod("a"));
/// assert_eq!(objects.of_kind("Pod").map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
/// assert!(objects.get("Pod", "shop", "a").is_some());
/// assert!(objects.remove("Pod", "shop", "a").is_some());
/// assert!(objects.get("Pod", "shop", "a").is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Objects(BTreeMap<String, BTreeMap<(String, String), Object>>);

impl Objects {
    /// The objects of a kind, by namespace and name.
    ///
    /// ```
    /// assert_eq!(sluicegate_sdk::Objects::default().of_kind("Pod").count(), 0);
    /// ```
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object> + '_ {
        self.0.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One object.
    ///
    /// ```
    /// assert!(sluicegate_sdk::Objects::default().get("Pod", "shop", "a").is_none());
    /// ```
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Object> {
        self.0.get(kind)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Adds or replaces an object; returns the one that was there.
    ///
    /// ```
    /// # use sluicegate_sdk::{Object, Objects, serde_json::Value};
    /// # let pod = Object { kind: "Pod".into(), namespace: "shop".into(), name: "a".into(), value: Value::Null };
    /// let mut objects = Objects::default();
    /// assert!(objects.insert(pod.clone()).is_none());
    /// assert_eq!(objects.insert(pod.clone()), Some(pod));
    /// ```
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let key = (object.namespace.clone(), object.name.clone());
        self.0.entry(object.kind.clone()).or_default().insert(key, object)
    }

    /// Removes an object, and returns it.
    ///
    /// ```
    /// assert!(sluicegate_sdk::Objects::default().remove("Pod", "shop", "a").is_none());
    /// ```
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> Option<Object> {
        self.0.get_mut(kind)?.remove(&(namespace.to_owned(), name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_kept_by_kind_namespace_and_name() {
        let object = |kind: &str, name: &str| Object { kind: kind.into(), namespace: "shop".into(), name: name.into(), value: Value::Null };
        let mut objects = Objects::default();
        assert_eq!(objects.insert(object("Pod", "b")), None);
        objects.insert(object("Pod", "a"));
        objects.insert(object("Node", "a"));
        assert_eq!(objects.of_kind("Pod").map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(objects.insert(object("Pod", "a")), Some(object("Pod", "a")));
        assert_eq!(objects.get("Node", "shop", "a"), Some(&object("Node", "a")));
        assert_eq!(objects.remove("Pod", "shop", "a"), Some(object("Pod", "a")));
        assert_eq!(objects.of_kind("Pod").count(), 1);
        assert_eq!(objects.of_kind("Secret").count(), 0);
    }
}
