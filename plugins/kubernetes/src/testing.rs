//! What the tests of this crate share: a service `shop/cart`, and objects in its namespace.

use serde_json::{Value, json};
use sluicegate_sdk::{Discovery, Object, Objects, PublishedEndpoint, Service};

use crate::{Config, Kubernetes};

/// The service `shop/cart` with this `spec`.
pub(crate) fn service(spec: Value) -> Service {
    Service { namespace: "shop".into(), name: "cart".into(), object: json!({"spec": spec}) }
}

/// Makes an object from its JSON. The namespace is `shop` unless the metadata says otherwise.
pub(crate) fn object(kind: &str, value: Value) -> Object {
    let text = |field: &str, default: &str| value["metadata"][field].as_str().unwrap_or(default).to_owned();
    Object { kind: kind.into(), namespace: text("namespace", "shop"), name: text("name", ""), value }
}

/// The endpoints that are found for the service among these objects.
pub(crate) fn find(spec: Value, found: &[(&str, Value)]) -> Vec<PublishedEndpoint> {
    let mut objects = Objects::default();
    for (kind, value) in found {
        let mut object = object(kind, value.clone());
        Kubernetes::trim(&mut object);
        objects.insert(object);
    }
    let service = service(spec);
    let mut plugin = Kubernetes::open(&service, Config {}).expect("the service of a test is right");
    plugin.endpoints(&service, &objects).expect("the plugin has no way to fail here")
}

/// The `address:port` of each endpoint.
pub(crate) fn addresses(endpoints: &[PublishedEndpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port)).collect()
}

/// Merges `patch` into `value` (RFC 7396).
pub(crate) fn merge(mut value: Value, patch: Value) -> Value {
    match (&mut value, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            for (key, patch) in patch {
                let old = fields.remove(&key).unwrap_or(Value::Null);
                if !patch.is_null() {
                    fields.insert(key, merge(old, patch));
                }
            }
            value
        }
        (_, patch) => patch,
    }
}
