//! Documents of a source that are not this gateway's affair: other programs read the same folder of manifests, too.

use std::collections::BTreeMap;

use serde_json::Value;
use sluicegate_model::fault::{Fault, Severity};

use crate::manifest::Document;

/// The kind of a document that this gateway does not read. Such documents are skipped before anything in them is judged.
pub fn foreign(document: &Document) -> Option<&str> {
    let text = |field: &str| document.value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let file = document.origin.file().file_name().and_then(|name| name.to_str());
    let kustomization = file.is_some_and(|name| matches!(name, "kustomization.yaml" | "kustomization.yml"));
    match (text("apiVersion"), text("kind")) {
        (Some(api), Some(kind)) => (!KINDS.contains(&(api, kind))).then_some(kind),
        // Kustomize lets its own file go without `apiVersion` and `kind`.
        (None, None) if kustomization => Some("Kustomization"),
        _ => None,
    }
}

/// One line for all documents that are skipped; none if there are none.
pub fn skipped<'k>(kinds: impl IntoIterator<Item = &'k str>) -> Option<Fault> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in kinds {
        *counts.entry(kind).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let named: Vec<String> = counts.iter().map(|(kind, n)| if *n == 1 { (*kind).to_owned() } else { format!("{kind} ({n})") }).collect();
    let (objects, are) = if all == 1 { ("object", "is") } else { ("objects", "are") };
    let message = format!("{all} {objects} of kinds that this gateway does not read {are} skipped: {}", named.join(", "));
    (all > 0).then_some(Fault { severity: Severity::Warning, place: None, object: None, message, expected: None })
}

/// The kinds that are read, or at least judged: their `apiVersion` and `kind`.
pub const KINDS: &[(&str, &str)] = &[
    ("v1", "Service"),
    ("v1", "Pod"),
    ("v1", "Node"),
    ("v1", "Namespace"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("apps/v1", "Deployment"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
    ("gateway.networking.k8s.io/v1beta1", "Gateway"),
    ("gateway.networking.k8s.io/v1", "GatewayClass"),
    ("gateway.networking.k8s.io/v1beta1", "GatewayClass"),
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
    ("gateway.networking.k8s.io/v1", "ReferenceGrant"),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("gateway.networking.k8s.io/v1", "TLSRoute"),
    ("gateway.networking.k8s.io/v1", "TCPRoute"),
    ("gateway.networking.k8s.io/v1", "UDPRoute"),
    ("gateway.networking.k8s.io/v1", "ListenerSet"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"),
    ("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy"),
    ("sluicegate.dev/v1alpha1", "Plugin"),
    ("sluicegate.dev/v1alpha1", "BackendTrafficPolicy"),
    ("sluicegate.dev/v1alpha1", "ClientTrafficPolicy"),
    ("sluicegate.dev/v1alpha1", "Backend"),
    ("sluicegate.dev/v1alpha1", "GatewayParameters"),
    ("sluicegate.dev/v1alpha1", "HTTPRouteFilter"),
    ("sluicegate.dev/v1alpha1", "SluicegateConfiguration"),
];
