//! The kinds that the server may have, and what differs between them.

use serde_json::{Value, json};

/// A kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its group, empty for the core.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its name.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it is there by a CustomResourceDefinition only.
    pub custom: bool,
}

const fn core(kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind { group: "", version: "v1", kind, plural, namespaced, custom: false }
}

const fn of(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespaced: true, custom: true }
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const OURS: &str = "sluicegate.dev";

/// All kinds.
pub const KINDS: &[Kind] = &[
    core("Service", "services", true),
    core("Pod", "pods", true),
    core("Node", "nodes", false),
    core("Namespace", "namespaces", false),
    core("Secret", "secrets", true),
    core("ConfigMap", "configmaps", true),
    core("ComponentStatus", "componentstatuses", false),
    Kind { custom: false, ..of("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices") },
    Kind { custom: false, ..of("coordination.k8s.io", "v1", "Lease", "leases") },
    Kind { custom: false, ..of("events.k8s.io", "v1", "Event", "events") },
    Kind { custom: false, namespaced: false, ..of("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions") },
    Kind { namespaced: false, ..of(GATEWAY, "v1", "GatewayClass", "gatewayclasses") },
    of(GATEWAY, "v1", "Gateway", "gateways"),
    of(GATEWAY, "v1", "ListenerSet", "listenersets"),
    of(GATEWAY, "v1", "HTTPRoute", "httproutes"),
    of(GATEWAY, "v1", "GRPCRoute", "grpcroutes"),
    of(GATEWAY, "v1", "TLSRoute", "tlsroutes"),
    of(GATEWAY, "v1", "TCPRoute", "tcproutes"),
    of(GATEWAY, "v1", "UDPRoute", "udproutes"),
    of(GATEWAY, "v1", "BackendTLSPolicy", "backendtlspolicies"),
    of(GATEWAY, "v1", "ReferenceGrant", "referencegrants"),
    of("gateway.networking.x-k8s.io", "v1alpha1", "XBackendTrafficPolicy", "xbackendtrafficpolicies"),
    of(OURS, "v1alpha1", "Plugin", "plugins"),
    of(OURS, "v1alpha1", "BackendTrafficPolicy", "backendtrafficpolicies"),
    of(OURS, "v1alpha1", "ClientTrafficPolicy", "clienttrafficpolicies"),
    of(OURS, "v1alpha1", "Backend", "backends"),
    of(OURS, "v1alpha1", "GatewayParameters", "gatewayparameters"),
    of(OURS, "v1alpha1", "HTTPRouteFilter", "httproutefilters"),
];

impl Kind {
    /// That of this name.
    pub fn named(kind: &str) -> Self {
        *KINDS.iter().find(|known| known.kind == kind).unwrap_or_else(|| panic!("the server knows no kind {kind}"))
    }

    /// `v1` or `GROUP/VERSION`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As messages name the resource: `services`, `leases.coordination.k8s.io`.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The object of a BOOKMARK: an empty one.
    pub fn empty(&self) -> Value {
        let mut object = json!({"kind": self.kind, "apiVersion": self.api_version(), "metadata": {}});
        match self.kind {
            "Service" => (object["spec"], object["status"]) = (json!({}), json!({"loadBalancer": {}})),
            "EndpointSlice" => {
                (object["addressType"], object["endpoints"], object["ports"]) = (json!(""), Value::Null, Value::Null);
            }
            _ => {}
        }
        object
    }
}
