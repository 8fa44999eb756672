//! Drops what nobody looks at before an object is handed over, so that it takes less memory, and that what changes only there is no change.

use serde_json::{Map, Value};

use crate::kinds::Kind;

/// The annotation in which `kubectl apply` keeps the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Fields of the metadata that count.
const METADATA: [&str; 7] = ["name", "namespace", "labels", "annotations", "generation", "creationTimestamp", "deletionTimestamp"];

/// Drops what does not count, and says of what kind an object is: items of lists do not.
pub(super) fn trim(kind: &Kind, version: &str, object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    fields.insert("apiVersion".to_owned(), kind.api_version(version).into());
    fields.insert("kind".to_owned(), kind.kind.into());
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        metadata.retain(|name, _| METADATA.contains(&name.as_str()));
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
        if matches!(kind.kind, "Node" | "Namespace" | "EndpointSlice") {
            metadata.remove("annotations");
        }
        if matches!(kind.kind, "Service" | "EndpointSlice" | "Node") {
            metadata.remove("generation");
        }
    }
    match kind.kind {
        "Node" => {
            fields.remove("spec");
            keep(fields, "status", &["addresses"]);
        }
        "Namespace" => {
            fields.remove("spec");
            fields.remove("status");
        }
        "Service" => keep(fields, "status", &["loadBalancer"]),
        // Addresses that a leader has chosen are kept there.
        "Gateway" => keep(fields, "status", &["addresses"]),
        "Pod" => {}
        _ => drop(fields.remove("status")),
    }
}

/// Of a field that is an object, keeps these fields.
fn keep(fields: &mut Map<String, Value>, name: &str, kept: &[&str]) {
    if let Some(Value::Object(inner)) = fields.get_mut(name) {
        inner.retain(|field, _| kept.contains(&field.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_heartbeat_of_a_node_and_a_written_status_are_no_change() {
        let node = |time: &str| {
            json!({"metadata": {"name": "n", "resourceVersion": time, "labels": {"topology.kubernetes.io/zone": "a"}, "managedFields": [{}],
                "annotations": {"x": time}}, "spec": {"podCIDR": "10.0.0.0/24"},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "conditions": [{"lastHeartbeatTime": time}]}})
        };
        let (mut one, mut two) = (node("1"), node("2"));
        let kind = Kind::named("Node").expect("known");
        trim(kind, "v1", &mut one);
        trim(kind, "v1", &mut two);
        assert_eq!(one, two);
        assert_eq!(
            one,
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "a"}},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
        );
        let mut route = json!({"apiVersion": "x", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "n", "generation": 3, "annotations":
            {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}}, "spec": {}, "status": {"parents": []}});
        trim(Kind::named("HTTPRoute").expect("known"), "v1", &mut route);
        assert_eq!(
            route,
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "n", "generation": 3,
                "annotations": {"a": "b"}}, "spec": {}})
        );
    }
}
