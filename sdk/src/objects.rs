//! The objects that a discovery plugin watches, as it was last told of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// An object that is watched.
///
/// ```
/// use sluicegate_sdk::{Object, serde_json::json};
/// let node = Object { kind: "Node".into(), namespace: String::new(), name: "n1".into(), value: json!({"spec": {}}) };
/// assert!(node.value["spec"].is_object());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The kind of the object, such as `Pod`.
    pub kind: String,
    /// The namespace of the object. It is empty for objects of the whole cluster, such as a `Node`.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The whole object, or what [`Discovery::trim`](crate::Discovery::trim) has left of it.
    pub value: Value,
}

impl Object {
    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.value["metadata"]["labels"].as_object();
        labels.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }
}

/// All objects of the watched kinds, in the order of kind, namespace and name. They are indexed by these and by their labels, so a question costs what its
/// answer contains, however many objects there are.
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
pub struct Objects(BTreeMap<String, BTreeMap<String, Space>>);

/// The objects of one kind in one namespace.
#[derive(Clone, Debug, Default)]
struct Space {
    all: BTreeMap<Arc<str>, Object>,
    /// The sorted names of the objects with a label, by the label's key and value.
    labelled: BTreeMap<String, BTreeMap<String, Vec<Arc<str>>>>,
}

impl Space {
    fn insert(&mut self, object: Object) -> Option<Object> {
        let old = self.remove(&object.name);
        let name: Arc<str> = object.name.as_str().into();
        for (key, value) in object.labels() {
            if !self.labelled.contains_key(key) {
                self.labelled.insert(key.to_owned(), BTreeMap::new());
            }
            let names = self.labelled.get_mut(key).map(|values| values.entry(value.to_owned()).or_default());
            if let Some(names) = names
                && let Err(at) = names.binary_search(&name)
            {
                names.insert(at, name.clone());
            }
        }
        self.all.insert(name, object);
        old
    }

    fn remove(&mut self, name: &str) -> Option<Object> {
        let old = self.all.remove(name)?;
        for (key, value) in old.labels() {
            let Some(values) = self.labelled.get_mut(key) else { continue };
            if let Some(names) = values.get_mut(value) {
                names.retain(|other| **other != *name);
                if names.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.labelled.remove(key);
            }
        }
        Some(old)
    }

    fn labelled(&self, key: &str, value: &str) -> &[Arc<str>] {
        self.labelled.get(key).and_then(|values| values.get(value)).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Objects {
    /// Returns the objects of a kind, in the order of namespace and name.
    ///
    /// ```
    /// assert_eq!(sluicegate_sdk::Objects::default().of_kind("Pod").count(), 0);
    /// ```
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object> + '_ {
        self.0.get(kind).into_iter().flat_map(BTreeMap::values).flat_map(|space| space.all.values())
    }

    /// Returns the objects of a kind in one namespace, in the order of their names.
    ///
    /// ```
    /// assert_eq!(sluicegate_sdk::Objects::default().of_namespace("Pod", "shop").count(), 0);
    /// ```
    pub fn of_namespace(&self, kind: &str, namespace: &str) -> impl Iterator<Item = &Object> + '_ {
        self.space(kind, namespace).into_iter().flat_map(|space| space.all.values())
    }

    /// Returns the objects of a kind in one namespace that have all of these labels, in the order of their names. If no labels are given, these are all of the
    /// namespace.
    ///
    /// ```
    /// # use sluicegate_sdk::{Object, Objects, serde_json::json};
    /// let value = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
    /// let mut objects = Objects::default();
    /// objects.insert(Object { kind: "Pod".into(), namespace: "shop".into(), name: "a".into(), value });
    /// assert_eq!(objects.labelled("Pod", "shop", &[("app", "web"), ("tier", "front")]).count(), 1);
    /// assert_eq!(objects.labelled("Pod", "shop", &[("app", "web"), ("tier", "back")]).count(), 0);
    /// ```
    pub fn labelled<'a>(&'a self, kind: &str, namespace: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &'a Object> + use<'a> {
        let space = self.space(kind, namespace);
        // The shortest of the labels' lists is walked, and its names are looked up in the others.
        let lists = space.into_iter().flat_map(|space| labels.iter().map(|(key, value)| space.labelled(key, value)));
        let mut lists: Vec<&[Arc<str>]> = lists.collect();
        lists.sort_by_key(|names| names.len());
        let any = space.filter(|_| labels.is_empty()).into_iter().flat_map(|space| space.all.values());
        let rest: Vec<&[Arc<str>]> = lists.iter().skip(1).copied().collect();
        let names = lists.first().copied().unwrap_or_default().iter();
        let all = names.filter(move |name| rest.iter().all(|names| names.binary_search(name).is_ok()));
        any.chain(all.filter_map(move |name| space?.all.get(name)))
    }

    /// Returns an object.
    ///
    /// ```
    /// assert!(sluicegate_sdk::Objects::default().get("Pod", "shop", "a").is_none());
    /// ```
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Object> {
        self.space(kind, namespace)?.all.get(name)
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
        if !self.0.contains_key(&object.kind) {
            self.0.insert(object.kind.clone(), BTreeMap::new());
        }
        let spaces = self.0.get_mut(&object.kind)?;
        if !spaces.contains_key(&object.namespace) {
            spaces.insert(object.namespace.clone(), Space::default());
        }
        spaces.get_mut(&object.namespace)?.insert(object)
    }

    /// Removes an object, and returns it.
    ///
    /// ```
    /// assert!(sluicegate_sdk::Objects::default().remove("Pod", "shop", "a").is_none());
    /// ```
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> Option<Object> {
        let spaces = self.0.get_mut(kind)?;
        let space = spaces.get_mut(namespace)?;
        let old = space.remove(name);
        if space.all.is_empty() {
            spaces.remove(namespace);
        }
        old
    }

    fn space(&self, kind: &str, namespace: &str) -> Option<&Space> {
        self.0.get(kind)?.get(namespace)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_kept_by_kind_namespace_and_name() {
        let object = |kind: &str, name: &str| Object { kind: kind.into(), namespace: "shop".into(), name: name.into(), value: Value::Null };
        let mut objects = Objects::default();
        assert_eq!(objects.insert(object("Pod", "b")), None);
        objects.insert(object("Pod", "a"));
        objects.insert(object("Node", "a"));
        assert_eq!(objects.of_kind("Pod").map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(objects.of_namespace("Pod", "shop").count(), 2);
        assert_eq!(objects.of_namespace("Pod", "other").count(), 0);
        assert_eq!(objects.insert(object("Pod", "a")), Some(object("Pod", "a")));
        assert_eq!(objects.get("Node", "shop", "a"), Some(&object("Node", "a")));
        assert_eq!(objects.remove("Pod", "shop", "a"), Some(object("Pod", "a")));
        assert_eq!(objects.of_kind("Pod").count(), 1);
        assert_eq!(objects.of_kind("Secret").count(), 0);
    }

    #[test]
    fn objects_are_found_by_their_labels_as_they_are_now() {
        let pod = |name: &str, labels: Value| Object {
            kind: "Pod".into(),
            namespace: "shop".into(),
            name: name.into(),
            value: json!({"metadata": {"labels": labels}}),
        };
        let mut objects = Objects::default();
        objects.insert(pod("b", json!({"app": "web", "tier": "front"})));
        objects.insert(pod("a", json!({"app": "web"})));
        objects.insert(pod("c", json!({"app": "other", "tier": "front", "odd": 1})));
        objects.insert(Object { namespace: "else".into(), ..pod("d", json!({"app": "web"})) });
        let found = |objects: &Objects, labels: &[(&str, &str)]| -> Vec<String> {
            objects.labelled("Pod", "shop", labels).map(|o| o.name.clone()).collect()
        };
        assert_eq!(found(&objects, &[("app", "web")]), ["a", "b"]);
        assert_eq!(found(&objects, &[("tier", "front"), ("app", "web")]), ["b"]);
        assert_eq!(found(&objects, &[("app", "web"), ("none", "x")]), [""; 0]);
        assert_eq!(found(&objects, &[]), ["a", "b", "c"]);
        objects.insert(pod("b", json!({"app": "other"})));
        assert_eq!(found(&objects, &[("app", "web")]), ["a"]);
        objects.remove("Pod", "shop", "a");
        assert_eq!(found(&objects, &[("app", "web")]), [""; 0]);
        assert_eq!(objects.labelled("Pod", "nowhere", &[("app", "web")]).count(), 0);
    }
}
