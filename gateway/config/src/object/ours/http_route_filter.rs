//! `HTTPRouteFilter`: what HTTPRoute has no filter for, by `extensionRef`, in Envoy Gateway's shape.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;

use super::PluginUse;
use super::rate::RateLimit;

/// A filter that a rule of an HTTPRoute or GRPCRoute refers to by `extensionRef`.
#[derive(Clone, Debug, Deserialize)]
pub struct HttpRouteFilter {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the filter does.
    pub spec: HttpRouteFilterSpec,
}

/// What the filter does: exactly one of these.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilterSpec {
    /// Answers in the place of backends.
    pub direct_response: Option<DirectResponseFilter>,
    /// Limits how many requests the rule takes; each listener of a Gateway counts by itself.
    pub rate_limit: Option<RateLimit>,
    /// Leaves the decision to another router: what the rule takes goes where that one says, which is one of the rule's own backends, or is answered by it.
    pub router: Option<PluginUse>,
}

/// An answer of the gateway's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponseFilter {
    /// The status, from 200 to 599. Default 200.
    pub status_code: Option<u16>,
    /// The content type. Default `text/plain; charset=utf-8`, if there is a body.
    pub content_type: Option<String>,
    /// The content of the answer.
    pub body: Option<ResponseBody>,
}

/// The content of an answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ResponseBody {
    /// Where the content stands. Default `Inline`.
    #[serde(rename = "type", default)]
    pub type_: ResponseBodyType,
    /// The content itself, at most 4096 bytes.
    #[serde(default)]
    pub inline: String,
}

/// Where the content of an answer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ResponseBodyType {
    /// The content stands in the filter itself.
    #[default]
    Inline,
}
