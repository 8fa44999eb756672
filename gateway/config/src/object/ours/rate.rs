//! How many requests may come in a time, in Envoy Gateway's shape.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Network;

/// Rate limits. All rules that match a request count it; it passes if all let it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// `Local`: this gateway counts for itself.
    #[serde(rename = "type")]
    pub type_: RateLimitType,
    /// The rules.
    #[serde(default)]
    pub local: LocalRateLimit,
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RateLimitType {
    /// Each gateway for itself.
    Local,
}

/// See [`RateLimit`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct LocalRateLimit {
    /// The rules.
    #[serde(default)]
    pub rules: Vec<RateLimitRule>,
}

/// A limit, and which requests it counts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRule {
    /// All must match; none: every request.
    #[serde(default)]
    pub client_selectors: Vec<RateLimitSelector>,
    /// How many.
    pub limit: RateLimitValue,
}

/// So many requests a unit.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct RateLimitValue {
    /// How many: as many may come at once, and as many come back over a unit.
    pub requests: u32,
    /// In which time.
    pub unit: RateLimitUnit,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RateLimitUnit {
    Second,
    Minute,
    Hour,
    Day,
}

/// Conditions; all must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitSelector {
    /// Header fields.
    #[serde(default)]
    pub headers: Vec<HeaderSelector>,
    /// One of them.
    #[serde(default)]
    pub methods: Vec<MethodSelector>,
    /// The path, without its query.
    pub path: Option<PathSelector>,
    /// The client's address.
    #[serde(rename = "sourceCIDR")]
    pub source_cidr: Option<SourceSelector>,
}

/// A header field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HeaderSelector {
    /// Which.
    pub name: String,
    /// Default `Exact`.
    #[serde(rename = "type", default)]
    pub type_: HeaderSelectorType,
    /// What it must be; not for `Distinct`.
    pub value: Option<String>,
    /// The condition holds if this does not.
    #[serde(default)]
    pub invert: bool,
}

/// How a header field is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HeaderSelectorType {
    /// It is the value.
    #[default]
    Exact,
    /// It matches the value.
    RegularExpression,
    /// It is there, and each of its values is counted by itself.
    Distinct,
}

/// A method.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct MethodSelector {
    /// Which.
    pub value: String,
    /// The condition holds if this does not.
    #[serde(default)]
    pub invert: bool,
}

/// A path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct PathSelector {
    /// Default `PathPrefix`.
    #[serde(rename = "type", default)]
    pub type_: PathSelectorType,
    /// What it must be.
    pub value: String,
    /// The condition holds if this does not.
    #[serde(default)]
    pub invert: bool,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathSelectorType {
    /// It is the value.
    Exact,
    /// It begins with the value, element by element.
    #[default]
    PathPrefix,
    /// It matches the value.
    RegularExpression,
}

/// Where a client is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SourceSelector {
    /// Default `Exact`.
    #[serde(rename = "type", default)]
    pub type_: SourceSelectorType,
    /// An address or a CIDR.
    #[schemars(with = "String")]
    pub value: Network,
}

/// Whether clients are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SourceSelectorType {
    /// All clients of the network are counted together.
    #[default]
    Exact,
    /// Each by itself; IPv6 clients by their /64, for one host has all of it.
    Distinct,
}
