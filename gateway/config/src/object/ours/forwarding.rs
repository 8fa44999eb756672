//! Who the client is, and which header fields and paths are believed, made or changed.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_model::settings::{EscapedReserved, EscapedSlashes, PathParameters};

/// Who is believed about the client's address. Default: nobody, the client is who connected.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpDetection {
    /// Proxies in front of this gateway that say it in `X-Forwarded-For`.
    pub x_forwarded_for: Option<XForwardedFor>,
}

/// Which proxies are believed; one of the two.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct XForwardedFor {
    /// So many stand between clients and this gateway: the client is so many addresses from the right.
    pub num_trusted_hops: Option<u32>,
    /// Their networks: the client is the first address from the right that is in none of them.
    #[serde(rename = "trustedCIDRs")]
    #[schemars(with = "Option<Vec<String>>")]
    pub trusted_cidrs: Option<Vec<IpNet>>,
}

/// A W3C `traceparent` is made where there is none, or none that is valid.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceContext {
    /// Percent of the traces begun here that are marked as sampled. Default 100.
    pub sampling_rate: Option<u32>,
}

/// Header changes (Gateway API's HTTPHeaderFilter).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct HeaderFilter {
    /// Fields that replace those of the same name.
    #[serde(default)]
    pub set: Vec<HeaderField>,
    /// Fields that are added to those of the same name.
    #[serde(default)]
    pub add: Vec<HeaderField>,
    /// Names of fields that are removed.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// A header field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HeaderField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How paths are read. Dot segments are resolved in any case (RFC 3986 §5.2.4).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathOptions {
    /// How `%2F` and `%5C` in a path are read.
    #[serde(default)]
    pub escaped_slashes_action: EscapedSlashes,
    /// Several slashes in a row stay several. Default: they become one.
    #[serde(default)]
    pub disable_merge_slashes: bool,
    /// How parameters in a path are read, which begin with `;`.
    #[serde(default)]
    pub parameters_action: PathParameters,
    /// What becomes of escaped reserved characters that a path may have unescaped: `%40` of `@`, and of `!$&'()*+,:=`.
    #[serde(default)]
    pub escaped_reserved_action: EscapedReserved,
}

/// Fields behind the content of a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct BackendTrailers {
    /// The trailer fields of requests.
    #[serde(default)]
    pub request: RequestTrailers,
}

/// Which trailer fields of requests go on to endpoints.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct RequestTrailers {
    /// Names of trailer fields that go on to endpoints of HTTP/1.1. Default: none.
    #[serde(default)]
    pub allow: Vec<String>,
}
