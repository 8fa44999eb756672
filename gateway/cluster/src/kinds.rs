//! The kinds that are asked for, and how: they are those that the gateway reads (`sluicegate_config::object::KINDS`).

/// A kind of an API server.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its group, empty for the core.
    pub group: &'static str,
    /// Its versions that are understood, the best first.
    pub versions: &'static [&'static str],
    /// Its name.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Which of its objects are watched.
    pub watched: Watched,
}

/// Which objects of a kind are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// All of them.
    All,
    /// Those that others refer to.
    Referenced,
    /// All of them, while somebody wants them.
    Wanted,
}

const fn core(kind: &'static str, plural: &'static str, watched: Watched) -> Kind {
    Kind { group: "", versions: &["v1"], kind, plural, namespaced: true, watched }
}

const fn of(group: &'static str, versions: &'static [&'static str], kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, versions, kind, plural, namespaced: true, watched: Watched::All }
}

const GATEWAY: &str = "gateway.networking.k8s.io";
const OURS: &str = "sluicegate.dev";
const V1: &[&str] = &["v1"];
const V1_AND_BETA: &[&str] = &["v1", "v1beta1"];
const ALPHA: &[&str] = &["v1alpha1"];

/// All kinds.
pub static KINDS: &[Kind] = &[
    core("Service", "services", Watched::All),
    Kind { namespaced: false, ..core("Node", "nodes", Watched::All) },
    Kind { namespaced: false, ..core("Namespace", "namespaces", Watched::All) },
    core("Secret", "secrets", Watched::Referenced),
    core("ConfigMap", "configmaps", Watched::Referenced),
    core("Pod", "pods", Watched::Wanted),
    of("discovery.k8s.io", V1, "EndpointSlice", "endpointslices"),
    Kind { namespaced: false, ..of(GATEWAY, V1_AND_BETA, "GatewayClass", "gatewayclasses") },
    of(GATEWAY, V1_AND_BETA, "Gateway", "gateways"),
    of(GATEWAY, V1, "ListenerSet", "listenersets"),
    of(GATEWAY, V1_AND_BETA, "HTTPRoute", "httproutes"),
    of(GATEWAY, V1, "GRPCRoute", "grpcroutes"),
    of(GATEWAY, V1, "TLSRoute", "tlsroutes"),
    of(GATEWAY, V1, "TCPRoute", "tcproutes"),
    of(GATEWAY, V1, "UDPRoute", "udproutes"),
    of(GATEWAY, V1, "BackendTLSPolicy", "backendtlspolicies"),
    of(GATEWAY, V1_AND_BETA, "ReferenceGrant", "referencegrants"),
    of("gateway.networking.x-k8s.io", ALPHA, "XBackendTrafficPolicy", "xbackendtrafficpolicies"),
    of(OURS, ALPHA, "Plugin", "plugins"),
    of(OURS, ALPHA, "BackendTrafficPolicy", "backendtrafficpolicies"),
    of(OURS, ALPHA, "ClientTrafficPolicy", "clienttrafficpolicies"),
    of(OURS, ALPHA, "Backend", "backends"),
    of(OURS, ALPHA, "GatewayParameters", "gatewayparameters"),
    of(OURS, ALPHA, "HTTPRouteFilter", "httproutefilters"),
];

impl Kind {
    /// The kind of this name; none if it is not asked for.
    pub fn named(kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|known| known.kind == kind)
    }

    /// Whether every API server has it, without a CustomResourceDefinition.
    pub fn is_built_in(&self) -> bool {
        matches!(self.group, "" | "discovery.k8s.io")
    }

    /// `v1` or `GROUP/VERSION`.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The path of its objects: of a namespace, or of all.
    pub fn path(&self, version: &str, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let within = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
        format!("{root}/{version}{within}/{}", self.plural)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_the_gateway_reads_is_asked_for() {
        let asked = KINDS.iter().flat_map(|kind| kind.versions.iter().map(|version| (kind.api_version(version), kind.kind.to_owned())));
        let asked: BTreeSet<(String, String)> = asked.collect();
        let read = sluicegate_config::object::KINDS.iter().map(|(api, kind)| ((*api).to_owned(), (*kind).to_owned()));
        // Deployments are only reported, and a process's own settings come from a file.
        let read: BTreeSet<_> = read.filter(|(_, kind)| !matches!(kind.as_str(), "Deployment" | "SluicegateConfiguration")).collect();
        assert_eq!(asked, read);
    }

    #[test]
    fn paths_are_those_of_the_server() {
        let kind = |name| Kind::named(name).expect("known");
        assert_eq!(kind("Secret").path("v1", Some("shop")), "/api/v1/namespaces/shop/secrets");
        assert_eq!(kind("HTTPRoute").path("v1", None), "/apis/gateway.networking.k8s.io/v1/httproutes");
    }
}
