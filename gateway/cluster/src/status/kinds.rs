//! The kinds whose status is written, in the order in which they are: where traffic arrives comes before what is attached to it.

use std::fmt::Write as _;

use sluicegate_config::object::ObjectKey;

/// How the status of a kind is shared with other writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// It is one controller's, but for conditions of types that this gateway does not write.
    Whole,
    /// A list with the entries of several controllers (`controllerName`): this field, and the field of an entry that says what it is about. The list is
    /// atomic, and has at most so many entries.
    Entries { list: &'static str, about: &'static str, most: usize },
    /// The addresses of a Service's load balancer.
    Addresses,
}

const PARENTS: Form = Form::Entries { list: "parents", about: "parentRef", most: 32 };
const ANCESTORS: Form = Form::Entries { list: "ancestors", about: "ancestorRef", most: 16 };

/// A kind whose status is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) form: Form,
    /// The group and version, as in paths.
    api: &'static str,
}

const fn written(api: &'static str, kind: &'static str, plural: &'static str, form: Form) -> Written {
    Written { kind, plural, form, api }
}

const GATEWAY: &str = "apis/gateway.networking.k8s.io/v1";
const EXPERIMENTAL: &str = "apis/gateway.networking.x-k8s.io/v1alpha1";
const OURS: &str = "apis/sluicegate.dev/v1alpha1";

/// All of them.
pub(crate) const KINDS: [Written; 15] = [
    written(GATEWAY, "GatewayClass", "gatewayclasses", Form::Whole),
    written(GATEWAY, "Gateway", "gateways", Form::Whole),
    written("api/v1", "Service", "services", Form::Addresses),
    written(GATEWAY, "ListenerSet", "listenersets", Form::Whole),
    written(OURS, "Plugin", "plugins", Form::Whole),
    written(OURS, "Backend", "backends", Form::Whole),
    written(GATEWAY, "BackendTLSPolicy", "backendtlspolicies", ANCESTORS),
    written(OURS, "BackendTrafficPolicy", "backendtrafficpolicies", ANCESTORS),
    written(OURS, "ClientTrafficPolicy", "clienttrafficpolicies", ANCESTORS),
    written(EXPERIMENTAL, "XBackendTrafficPolicy", "xbackendtrafficpolicies", ANCESTORS),
    written(GATEWAY, "HTTPRoute", "httproutes", PARENTS),
    written(GATEWAY, "GRPCRoute", "grpcroutes", PARENTS),
    written(GATEWAY, "TLSRoute", "tlsroutes", PARENTS),
    written(GATEWAY, "TCPRoute", "tcproutes", PARENTS),
    written(GATEWAY, "UDPRoute", "udproutes", PARENTS),
];

impl Written {
    /// That of this name, and its place in the order.
    pub(crate) fn named(kind: &str) -> Option<(usize, &'static Self)> {
        KINDS.iter().enumerate().find(|(_, written)| written.kind == kind)
    }

    /// The `apiVersion` of its objects.
    pub(crate) fn api_version(&self) -> &'static str {
        self.api.split_once('/').map_or(self.api, |(_, version)| version)
    }

    /// The path of an object.
    pub(crate) fn path(&self, key: &ObjectKey) -> String {
        let mut path = format!("/{}", self.api);
        if !key.namespace.is_empty() {
            // Writing to a String does not fail. Names of objects need no escapes.
            let _ = write!(path, "/namespaces/{}", key.namespace);
        }
        let _ = write!(path, "/{}/{}", self.plural, key.name);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let path = |kind: &str, namespace: &str| {
            let (_, written) = Written::named(kind).expect("it is written");
            (written.path(&ObjectKey::new(kind, namespace, "a")), written.api_version())
        };
        assert_eq!(
            path("GatewayClass", ""),
            ("/apis/gateway.networking.k8s.io/v1/gatewayclasses/a".to_owned(), "gateway.networking.k8s.io/v1")
        );
        assert_eq!(path("Service", "shop"), ("/api/v1/namespaces/shop/services/a".to_owned(), "v1"));
        assert_eq!(path("Plugin", "b"), ("/apis/sluicegate.dev/v1alpha1/namespaces/b/plugins/a".to_owned(), "sluicegate.dev/v1alpha1"));
    }
}
