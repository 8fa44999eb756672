//! How many requests may come in a time, in Envoy Gateway's shape.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Network;

/// Rate limits. All rules that match a request count it; it passes if all let it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Who counts. `Local`: each gateway for itself.
    #[serde(rename = "type")]
    pub type_: RateLimitType,
    /// The limits, with `type: Local`.
    #[serde(default)]
    pub local: LocalRateLimit,
}

/// Who counts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RateLimitType {
    /// Each gateway counts for itself.
    Local,
}

/// The limits that a gateway counts by itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct LocalRateLimit {
    /// The limits.
    #[serde(default)]
    pub rules: Vec<RateLimitRule>,
}

/// A limit, and which requests it counts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRule {
    /// Which requests are counted: all selectors must match. Default: every request.
    #[serde(default)]
    pub client_selectors: Vec<RateLimitSelector>,
    /// How many of these requests may come.
    pub limit: RateLimitValue,
}

/// How many requests may come in a time.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct RateLimitValue {
    /// The number of requests: as many may come at once, and over each unit of time as many more.
    pub requests: u32,
    /// The unit of time.
    pub unit: RateLimitUnit,
}

/// A unit of time.
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
    /// Header fields that the request must have.
    #[serde(default)]
    pub headers: Vec<HeaderSelector>,
    /// Methods, of which the request must have one.
    #[serde(default)]
    pub methods: Vec<MethodSelector>,
    /// What the path must be, without its query.
    pub path: Option<PathSelector>,
    /// Where the client's address must be.
    #[serde(rename = "sourceCIDR")]
    pub source_cidr: Option<SourceSelector>,
}

/// A header field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HeaderSelector {
    /// The name of the field.
    pub name: String,
    /// How the field is compared. Default `Exact`.
    #[serde(rename = "type", default)]
    pub type_: HeaderSelectorType,
    /// What the field's value must be; not for `Distinct`.
    pub value: Option<String>,
    /// The condition holds if this does not.
    #[serde(default)]
    pub invert: bool,
}

/// How a header field is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HeaderSelectorType {
    /// The field must be equal to the value.
    #[default]
    Exact,
    /// The field must match the value, a regular expression.
    RegularExpression,
    /// The field must be there, and requests with different values are counted apart.
    Distinct,
}

/// A method.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct MethodSelector {
    /// The method.
    pub value: String,
    /// The condition holds if this does not.
    #[serde(default)]
    pub invert: bool,
}

/// A path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct PathSelector {
    /// How the path is compared. Default `PathPrefix`.
    #[serde(rename = "type", default)]
    pub type_: PathSelectorType,
    /// What the path must be.
    pub value: String,
    /// The condition holds if this does not.
    #[serde(default)]
    pub invert: bool,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathSelectorType {
    /// The path must be equal to the value.
    Exact,
    /// The path must begin with the value, element by element.
    #[default]
    PathPrefix,
    /// The path must match the value, a regular expression.
    RegularExpression,
}

/// Where a client's address must be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SourceSelector {
    /// Whether clients are counted together. Default `Exact`.
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
    /// Each client is counted by itself; IPv6 clients by their /64, for one host has all of it.
    Distinct,
}
