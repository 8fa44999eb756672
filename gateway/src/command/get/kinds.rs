//! What can be shown: where the admin API has it, what it is called, and which table it makes.

use clap::ValueEnum;
use serde_json::Value;

use super::{objects, tables, text};

/// What to show. The further names are those that kubectl has.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Kind {
    #[value(aliases = ["service", "svc"])]
    Services,
    /// The endpoints of Services; their name is the Service's
    #[value(aliases = ["endpoint", "ep"])]
    Endpoints,
    #[value(alias = "listener")]
    Listeners,
    #[value(alias = "plugin")]
    Plugins,
    /// What is wrong with the configuration, and where; their name is the object's
    #[value(alias = "fault")]
    Faults,
    /// What an API server tells of each kind, and since when
    #[value(alias = "source")]
    Sources,
    /// Routes of all kinds
    #[value(alias = "route")]
    Routes,
    #[value(name = "gatewayclasses", aliases = ["gatewayclass", "gc"])]
    GatewayClasses,
    #[value(aliases = ["gateway", "gtw"])]
    Gateways,
    #[value(name = "listenersets", aliases = ["listenerset", "lset"])]
    ListenerSets,
    #[value(name = "httproutes", alias = "httproute")]
    HttpRoutes,
    #[value(name = "grpcroutes", alias = "grpcroute")]
    GrpcRoutes,
    #[value(name = "tlsroutes", alias = "tlsroute")]
    TlsRoutes,
    #[value(name = "tcproutes", alias = "tcproute")]
    TcpRoutes,
    #[value(name = "udproutes", alias = "udproute")]
    UdpRoutes,
    #[value(name = "backendtlspolicies", aliases = ["backendtlspolicy", "btlspolicy"])]
    BackendTlsPolicies,
    #[value(name = "backendtrafficpolicies", alias = "backendtrafficpolicy")]
    BackendTrafficPolicies,
    #[value(name = "clienttrafficpolicies", alias = "clienttrafficpolicy")]
    ClientTrafficPolicies,
    #[value(name = "xbackendtrafficpolicies", alias = "xbackendtrafficpolicy")]
    XBackendTrafficPolicies,
    #[value(alias = "backend")]
    Backends,
    /// The Services that stand for Gateways
    #[value(name = "gatewayservices", alias = "gatewayservice")]
    GatewayServices,
}

impl Kind {
    /// Where the admin API has it, below `/api/v1/`.
    pub(super) fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Services => &["services"],
            Self::Endpoints => &["endpoints"],
            Self::Listeners => &["listeners"],
            Self::Plugins => &["plugins"],
            Self::Faults => &["faults"],
            Self::Sources => &["sources"],
            Self::Routes => &["objects/httproutes", "objects/grpcroutes", "objects/tlsroutes", "objects/tcproutes", "objects/udproutes"],
            Self::GatewayClasses => &["objects/gatewayclasses"],
            Self::Gateways => &["objects/gateways"],
            Self::ListenerSets => &["objects/listenersets"],
            Self::HttpRoutes => &["objects/httproutes"],
            Self::GrpcRoutes => &["objects/grpcroutes"],
            Self::TlsRoutes => &["objects/tlsroutes"],
            Self::TcpRoutes => &["objects/tcproutes"],
            Self::UdpRoutes => &["objects/udproutes"],
            Self::BackendTlsPolicies => &["objects/backendtlspolicies"],
            Self::BackendTrafficPolicies => &["objects/backendtrafficpolicies"],
            Self::ClientTrafficPolicies => &["objects/clienttrafficpolicies"],
            Self::XBackendTrafficPolicies => &["objects/xbackendtrafficpolicies"],
            Self::Backends => &["objects/backends"],
            Self::GatewayServices => &["objects/services"],
        }
    }

    /// The namespace, if it has one, and the name by which it is asked for.
    pub(super) fn identity(self, row: &Value) -> (Option<String>, String) {
        let at = |pointer: &str| row.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (namespace, name) = match self {
            Self::Services => (at("/namespace"), at("/name")),
            Self::Endpoints => (at("/namespace"), at("/service")),
            Self::Listeners | Self::Plugins | Self::Sources => (None, at("/name")),
            Self::Faults => {
                // `Service default/web`, or a kind without namespaces.
                let object = at("/object").unwrap_or_default();
                let object = object.rsplit(' ').next().unwrap_or_default();
                match object.split_once('/') {
                    Some((namespace, name)) => (Some(namespace.to_owned()), Some(name.to_owned())),
                    None => (None, Some(object.to_owned())),
                }
            }
            _ => (at("/metadata/namespace"), at("/metadata/name")),
        };
        (namespace, name.unwrap_or_default())
    }

    /// A row as `KIND/NAME`, with the group of an object's kind, as kubectl writes it.
    pub(super) fn name(self, row: &Value) -> String {
        let (_, name) = self.identity(row);
        let kind = text(row, "/kind").to_lowercase();
        let kind = match (self, text(row, "/apiVersion").split_once('/')) {
            (Self::Services | Self::GatewayServices, _) => "service".to_owned(),
            (Self::Endpoints, _) => "endpoints".to_owned(),
            (Self::Listeners, _) => "listener".to_owned(),
            (Self::Plugins, _) => "plugin.sluicegate.dev".to_owned(),
            (Self::Faults, _) => "fault".to_owned(),
            (Self::Sources, _) => "source".to_owned(),
            (_, Some((group, _))) => format!("{kind}.{group}"),
            (_, None) => kind,
        };
        format!("{kind}/{name}")
    }

    /// What is said of a name that nothing has.
    pub(super) fn not_found(self, name: &str) -> String {
        let kind = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        format!("{kind} {name:?} not found")
    }

    /// The table: its head and its rows.
    pub(super) fn table(self, rows: &[Value], wide: bool) -> Vec<Vec<String>> {
        match self {
            Self::Services => tables::services(rows, wide),
            Self::Endpoints => tables::endpoints(rows, wide),
            Self::Listeners => tables::listeners(rows),
            Self::Plugins => tables::plugins(rows, wide),
            Self::Faults => tables::faults(rows),
            Self::Sources => tables::sources(rows),
            Self::Routes => objects::routes_of_all_kinds(rows, wide),
            Self::GatewayClasses => objects::classes(rows),
            Self::Gateways => objects::gateways(rows, wide),
            Self::ListenerSets => objects::listener_sets(rows, wide),
            Self::HttpRoutes | Self::GrpcRoutes | Self::TlsRoutes | Self::TcpRoutes | Self::UdpRoutes => objects::routes(rows, wide),
            Self::BackendTlsPolicies => objects::policies(rows, true, wide),
            Self::BackendTrafficPolicies | Self::ClientTrafficPolicies | Self::XBackendTrafficPolicies => {
                objects::policies(rows, false, wide)
            }
            Self::Backends => objects::backends(rows, wide),
            Self::GatewayServices => objects::gateway_services(rows, wide),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_have_the_names_that_people_ask_for() {
        let of = |kind: Kind, row: Value| (kind.identity(&row), kind.name(&row));
        let named = |namespace: Option<&str>, name: &str| (namespace.map(str::to_owned), name.to_owned());
        let service = json!({"namespace": "shop", "name": "cart"});
        assert_eq!(of(Kind::Services, service), (named(Some("shop"), "cart"), "service/cart".to_owned()));
        let endpoint = json!({"namespace": "shop", "service": "cart", "address": "127.0.0.1:1"});
        assert_eq!(of(Kind::Endpoints, endpoint), (named(Some("shop"), "cart"), "endpoints/cart".to_owned()));
        let fault = json!({"object": "Service shop/cart"});
        assert_eq!(of(Kind::Faults, fault).0, named(Some("shop"), "cart"));
        assert_eq!(of(Kind::Faults, json!({"object": null})).0, named(None, ""));
        let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "a", "name": "b"}});
        assert_eq!(of(Kind::Routes, route), (named(Some("a"), "b"), "httproute.gateway.networking.k8s.io/b".to_owned()));
        assert_eq!(Kind::HttpRoutes.not_found("a/b"), "httproutes \"a/b\" not found");
    }
}
