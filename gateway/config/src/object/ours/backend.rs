//! `BackendTrafficPolicy`: from the gateway to endpoints. Where Envoy Gateway has a field for the same thing, ours has its name.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_model::config_text::ConfigText;

use super::health::{HealthCheck, SlowStart};
use super::{
    BackendHttp2Policy, BackendProxyProtocol, BackendTls, BackendTrailers, CircuitBreaker, HttpUpgrade, PluginUse, RateLimit, Retry, Span,
    TargetRef, TcpKeepalive, Timeout,
};

/// How traffic to Services is balanced, and how their endpoints are found. Of a route or a Gateway it says how long exchanges may take, when they are
/// tried again, and how many may come.
#[derive(Clone, Debug, Deserialize)]
pub struct BackendTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: BackendTrafficPolicySpec,
}

/// How traffic to Services is balanced, and how their endpoints are found.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTrafficPolicySpec {
    /// Services, routes, Gateways and ListenerSets of this namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// Which balancer, with which configuration.
    pub load_balancer: Option<LoadBalancer>,
    /// Which discovery plugin, with which configuration.
    pub discovery: Option<PluginUse>,
    /// Time-outs.
    #[serde(default)]
    pub timeout: Timeout,
    /// When an exchange is tried again. Default: when no connection was made, and once more when it broke and nothing can have happened.
    pub retry: Option<Box<Retry>>,
    /// How many connections, requests and tries the service port may have at a time.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// How many requests the service port takes in a time.
    pub rate_limit: Option<RateLimit>,
    /// Probes that find out whether a silent connection to an endpoint is still alive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Endpoints are told the client's address by a PROXY header.
    pub proxy_protocol: Option<BackendProxyProtocol>,
    /// HTTP/2 towards endpoints.
    #[serde(default)]
    pub http2: BackendHttp2Policy,
    /// Which fields may come behind a request's content.
    #[serde(default)]
    pub trailers: BackendTrailers,
    /// What an HTTP/1.1 connection may become. Default: a WebSocket.
    pub http_upgrade: Option<Vec<HttpUpgrade>>,
    /// How it is found out which endpoints are healthy, and so are used.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// TLS towards endpoints.
    pub tls: Option<Box<BackendTls>>,
}

/// A balancer, its configuration, and what to hash.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The name of a `Plugin` object or of a built-in balancer. Default `least-request`.
    pub plugin: Option<String>,
    /// The balancer's configuration, which is checked against the plugin's own schema.
    #[serde(default)]
    pub config: ConfigText,
    /// What consistent-hash balancers hash.
    pub hash: Option<Hash>,
    /// How an endpoint that joins gets its share.
    pub slow_start: Option<SlowStart>,
}

impl LoadBalancer {
    /// Whether it says which balancer decides, and how; `slowStart` alone does not.
    pub fn decides(&self) -> bool {
        self.plugin.is_some() || self.hash.is_some() || self.config != ConfigText::default()
    }
}

/// What to hash.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Hash {
    /// The client's address.
    SourceIP,
    /// A header's value.
    Header {
        /// The header field.
        header: Named,
    },
    /// A cookie's value.
    Cookie {
        /// The cookie.
        cookie: HashedCookie,
    },
    /// The path without its query.
    Path,
}

/// A cookie to hash, as Envoy Gateway's `consistentHash.cookie`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct HashedCookie {
    /// The name of the cookie.
    pub name: String,
    /// The gateway sets the cookie where a request has none, to last so long; `0s`: until the browser ends. Default: it is the application's to set.
    pub ttl: Option<Span>,
    /// Attributes of the cookie that the gateway sets, besides `HttpOnly` and, over TLS, `Secure`. Default `Path: /` and `SameSite: Lax`; an empty
    /// value: the name alone.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// A name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Named {
    /// The name.
    pub name: String,
}
