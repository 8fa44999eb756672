//! TCPRoute and UDPRoute. The crate `gateway-api` has them only among its experimental types, in an older version. They are a TLSRoute without host
//! names, so the types of its parts are used.

use gateway_api::apis::standard::tlsroutes::{TlsRouteParentRefs, TlsRouteRules};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// A TCPRoute or a UDPRoute.
#[derive(Clone, Debug, Deserialize)]
pub struct L4Route {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Where the route leads.
    pub spec: L4RouteSpec,
}

/// What a TCPRoute or UDPRoute asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct L4RouteSpec {
    /// The Gateways that it wants to be attached to.
    pub parent_refs: Option<Vec<TlsRouteParentRefs>>,
    /// The rules, of which there is one.
    pub rules: Vec<TlsRouteRules>,
}
