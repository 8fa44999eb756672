//! `ClientTrafficPolicy`: from clients to the gateway. Where Envoy Gateway has a field for the same thing, ours has its name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PluginUse, TargetRef};

/// How clients' traffic is taken.
#[derive(Clone, Debug, Deserialize)]
pub struct ClientTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: ClientTrafficPolicySpec,
}

/// See [`ClientTrafficPolicy`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTrafficPolicySpec {
    /// Gateways and Services of this namespace.
    pub target_refs: Vec<TargetRef>,
    /// Which router, with which configuration.
    pub router: Option<PluginUse>,
}
