//! ListenerSet. The crate `gateway-api` has types of its own for the parts of a ListenerSet's listeners. They are the same as those of a Gateway's
//! listeners, which are used here, so that both kinds are planned by the same code.

use gateway_api::apis::standard::gateways::GatewayListeners;
use gateway_api::apis::standard::listenersets::ListenerSetParentRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// A ListenerSet.
#[derive(Clone, Debug, Deserialize)]
pub struct ListenerSet {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The listeners, and the Gateway that they join.
    pub spec: ListenerSetSpec,
}

/// What a ListenerSet asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway that the listeners are to be added to.
    pub parent_ref: ListenerSetParentRef,
    /// The listeners.
    pub listeners: Vec<GatewayListeners>,
}
