//! Removes from objects what is not needed: most of a slice and of a Pod says nothing about endpoints, and a plugin's memory is limited.

use serde_json::{Map, Value, json};
use sluicegate_sdk::Object;

use crate::pods::{LAST_APPLIED, LONGEST_ANNOTATION};
use crate::slices::SERVICE_NAME;

/// Removes everything that this plugin does not look at.
pub(crate) fn trim(object: &mut Object) {
    let object_value = &mut object.value;
    match object.kind.as_str() {
        "EndpointSlice" => slice(object_value),
        "Pod" => pod(object_value),
        "Node" => {
            only(Some(object_value), &["metadata"]);
            only(object_value.get_mut("metadata"), &["labels"]);
        }
        _ => {}
    }
}

/// The fields of a trimmed slice: `addressType`, `endpoints` and `ports`.
pub(crate) fn said(slice: &Value) -> Value {
    slice[SAID].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The field in which a trimmed slice has the other fields, as text.
const SAID: &str = "said";

/// Trims a slice. The fields are kept as text, which takes a tenth of the memory, and read again only when the endpoints of their Service are asked for.
fn slice(slice: &mut Value) {
    let mut said = std::mem::take(slice);
    only(Some(&mut said), &["metadata", "addressType", "endpoints", "ports"]);
    let mut metadata = said.as_object_mut().and_then(|all| all.remove("metadata")).unwrap_or_default();
    only(Some(&mut metadata), &["labels"]);
    only(metadata.get_mut("labels"), &[SERVICE_NAME]);
    *slice = json!({"metadata": metadata, SAID: said.to_string()});
}

fn pod(pod: &mut Value) {
    only(Some(pod), &["metadata", "spec", "status"]);
    only(pod.get_mut("metadata"), &["labels", "annotations", "deletionTimestamp"]);
    only(pod.get_mut("spec"), &["nodeName", "containers", "initContainers"]);
    only(pod.get_mut("status"), &["phase", "podIP", "podIPs", "conditions"]);
    if let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, value| key != LAST_APPLIED && value.as_str().is_some_and(|value| value.len() <= LONGEST_ANNOTATION));
    }
    for (list, fields) in [
        ("/spec/containers", ["ports", "restartPolicy"]),
        ("/spec/initContainers", ["ports", "restartPolicy"]),
        ("/status/conditions", ["type", "status"]),
    ] {
        let items = pod.pointer_mut(list).and_then(Value::as_array_mut);
        items.into_iter().flatten().for_each(|item| only(Some(item), &fields));
    }
}

/// Removes all other fields of a map.
fn only(value: Option<&mut Value>, fields: &[&str]) {
    let Some(all) = value.and_then(Value::as_object_mut) else { return };
    let kept: Map<String, Value> =
        fields.iter().filter_map(|field| all.remove_entry(*field)).filter(|(_, value)| !value.is_null()).collect();
    *all = kept;
}
