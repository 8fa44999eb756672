//! What the API server said last about each object whose status the gateway may write. The source tells it, whoever writes statuses looks it up. Of an object
//! only what such a writer needs is kept: its identity, its version, and its status as compact text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sluicegate_config::object::ObjectKey;
use sluicegate_config::plan::LOAD_BALANCER_CLASS;
use tokio::sync::watch;

/// The groups of kinds with a status that the gateway writes.
const GROUPS: [&str; 3] = ["gateway.networking.k8s.io", "gateway.networking.x-k8s.io", "sluicegate.dev"];
/// Kinds of these groups that have no status, or none that says anything.
const WITHOUT: [&str; 3] = ["ReferenceGrant", "GatewayParameters", "HTTPRouteFilter"];
/// The annotation of Services that this gateway makes. Its value tells what they were made from.
pub(crate) const MADE: &str = "sluicegate.dev/made-from";

/// What the API server said last about objects. Copies share it.
#[derive(Clone)]
pub struct Seen {
    shared: Arc<Shared>,
}

struct Shared {
    known: Mutex<Known>,
    /// Counts what has changed.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    objects: HashMap<ObjectKey, Arc<Said>>,
    /// Services that this gateway has made, without what does not count.
    made: HashMap<ObjectKey, Arc<Value>>,
}

/// What was said about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// `metadata.generation`; Services have none.
    pub generation: Option<i64>,
    /// `status` as JSON; none if there is none.
    pub status: Option<Box<str>>,
}

impl Said {
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(Box::from);
        let status = object.get("status").filter(|status| !status.is_null());
        Some(Self {
            uid: text("uid")?,
            version: text("resourceVersion")?,
            generation: metadata.get("generation").and_then(Value::as_i64),
            status: status.map(|status| status.to_string().into_boxed_str()),
        })
    }

    /// The status; `null` if there is none.
    pub fn status(&self) -> Value {
        // It was written by serde_json itself.
        self.status.as_deref().and_then(|status| serde_json::from_str(status).ok()).unwrap_or_default()
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { known: Mutex::default(), changed: watch::Sender::new(0) }) }
    }
}

impl Seen {
    /// An object is this now, by a list or by a watch. Items of a list need their `kind` and `apiVersion` filled in.
    pub fn applied(&self, object: &Value) {
        let Some(key) = key(object) else { return };
        let (said, made) = (Said::of(object).filter(|_| is_written(object)), made(object));
        // A Service that is given another class of load balancer is no longer ours.
        self.change(|Known { objects, made: services }| set(objects, &key, said) | set(services, &key, made));
    }

    /// An object is gone. `namespace` is none for kinds without namespaces.
    pub fn gone(&self, kind: &str, namespace: Option<&str>, name: &str) {
        let key = ObjectKey::new(kind, namespace.unwrap_or_default(), name);
        self.change(|Known { objects, made }| set(objects, &key, None) | set(made, &key, None));
    }

    /// What was said about an object; none if it is not known to be there.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Said>> {
        self.lock().objects.get(key).cloned()
    }

    /// All objects of a kind, in no order.
    pub fn of_kind(&self, kind: &str) -> Vec<(ObjectKey, Arc<Said>)> {
        self.lock().objects.iter().filter(|(key, _)| key.kind == kind).map(|(key, said)| (key.clone(), said.clone())).collect()
    }

    /// The Services that this gateway has made: their metadata, cluster IP and ports.
    pub(crate) fn made(&self) -> HashMap<ObjectKey, Arc<Value>> {
        self.lock().made.clone()
    }

    /// Something else that statuses are made of has changed.
    pub(crate) fn touch(&self) {
        self.shared.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells whenever something has changed. No change is missed between two looks at it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `change` says whether anything is different now.
    fn change(&self, change: impl FnOnce(&mut Known) -> bool) {
        if change(&mut self.lock()) {
            self.shared.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// What is known of an object is this now. True: it was something else.
fn set<T: PartialEq>(known: &mut HashMap<ObjectKey, Arc<T>>, key: &ObjectKey, now: Option<T>) -> bool {
    match now {
        None => known.remove(key).is_some(),
        Some(now) if known.get(key).is_some_and(|known| **known == now) => false,
        Some(now) => {
            known.insert(key.clone(), Arc::new(now));
            true
        }
    }
}

/// What counts of a Service that this gateway has made. None: it is something else.
pub(crate) fn made(object: &Value) -> Option<Value> {
    let metadata = &object["metadata"];
    let ours = object["kind"] == "Service" && object["apiVersion"] == "v1" && metadata["annotations"][MADE].is_string();
    let field = |name: &str| metadata[name].clone();
    ours.then(|| {
        json!({
            "metadata": {
                "uid": field("uid"), "resourceVersion": field("resourceVersion"), "labels": field("labels"), "annotations": field("annotations"),
                "ownerReferences": field("ownerReferences"), "deletionTimestamp": field("deletionTimestamp"),
            },
            "spec": {"clusterIP": object["spec"]["clusterIP"], "ports": object["spec"]["ports"]},
        })
    })
}

fn key(object: &Value) -> Option<ObjectKey> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    Some(ObjectKey::new(text("/kind")?, text("/metadata/namespace").unwrap_or_default(), text("/metadata/name")?))
}

/// Whether the object's status may be the gateway's to write.
fn is_written(object: &Value) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, kind) = (text("/apiVersion").split_once('/').map_or("", |(group, _)| group), text("/kind"));
    if group.is_empty() {
        return kind == "Service" && text("/spec/type") == "LoadBalancer" && text("/spec/loadBalancerClass") == LOAD_BALANCER_CLASS;
    }
    GROUPS.contains(&group) && !WITHOUT.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(version: u64, status: &Value) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {"rules": []}, "status": status,
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": version.to_string(), "managedFields": []},
        })
    }

    #[test]
    fn the_last_word_about_an_object_is_kept_until_it_is_gone() {
        let seen = Seen::default();
        let mut changes = seen.changes();
        let key = ObjectKey::new("HTTPRoute", "shop", "web");
        seen.applied(&route(1, &Value::Null));
        let said = seen.get(&key).expect("it is known");
        assert_eq!((&*said.uid, &*said.version, said.generation, said.status()), ("u", "1", Some(3), Value::Null));
        assert!(changes.has_changed().expect("there"));
        changes.mark_unchanged();
        seen.applied(&route(1, &Value::Null));
        assert!(!changes.has_changed().expect("there"), "it is the same");
        seen.applied(&route(2, &json!({"parents": []})));
        assert!(changes.has_changed().expect("there"));
        assert_eq!(seen.get(&key).expect("it is known").status(), json!({"parents": []}));
        assert_eq!(seen.of_kind("HTTPRoute").len(), 1);
        assert!(seen.of_kind("Gateway").is_empty());
        seen.gone("HTTPRoute", Some("shop"), "web");
        assert!(seen.get(&key).is_none());
    }

    #[test]
    fn objects_whose_status_is_not_ours_are_not_kept() {
        let object = |version: &str, kind: &str, spec: &Value| json!({"apiVersion": version, "kind": kind, "spec": spec, "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1"}});
        let ours = json!({"type": "LoadBalancer", "loadBalancerClass": "sluicegate.dev/gateway"});
        let cases = [
            ("v1", "Service", ours.clone(), true),
            ("v1", "Service", json!({"type": "LoadBalancer"}), false),
            ("v1", "Service", json!({"type": "LoadBalancer", "loadBalancerClass": "other.example/x"}), false),
            ("v1", "Service", json!({"type": "ClusterIP"}), false),
            ("v1", "Secret", json!({}), false),
            ("discovery.k8s.io/v1", "EndpointSlice", json!({}), false),
            ("serving.example/v1", "Service", ours, false),
            ("gateway.networking.k8s.io/v1", "ReferenceGrant", json!({}), false),
            ("gateway.networking.k8s.io/v1", "ListenerSet", json!({}), true),
            ("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy", json!({}), true),
            ("sluicegate.dev/v1alpha1", "Plugin", json!({}), true),
            ("sluicegate.dev/v1alpha1", "GatewayParameters", json!({}), false),
        ];
        for (version, kind, spec, kept) in cases {
            let seen = Seen::default();
            seen.applied(&object(version, kind, &spec));
            assert_eq!(seen.get(&ObjectKey::new(kind, "b", "a")).is_some(), kept, "{version} {kind} {spec}");
        }
        let seen = Seen::default();
        seen.applied(&object("v1", "Service", &json!({"type": "LoadBalancer", "loadBalancerClass": "sluicegate.dev/gateway"})));
        seen.applied(&object("v1", "Service", &json!({"type": "ClusterIP"})));
        assert!(seen.of_kind("Service").is_empty(), "it has become another type");
        seen.applied(&json!({"kind": "Gateway"}));
        seen.applied(&json!(["nonsense"]));
    }
}
