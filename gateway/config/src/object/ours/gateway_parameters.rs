//! `GatewayParameters`: what a GatewayClass or a Gateway says by its `parametersRef`.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RateLimit, Retry, Span, TcpTimeout};

/// Parameters of Gateways.
#[derive(Clone, Debug, Deserialize)]
pub struct GatewayParameters {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What they are.
    pub spec: GatewayParametersSpec,
}

/// Defaults of Gateways. Those of a Gateway count before those of its class.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParametersSpec {
    /// Where a Gateway listens that names no address of its own; at most 16.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    /// Time-outs of what its routes take, where no policy says another.
    #[serde(default)]
    pub timeout: RouteTimeout,
    /// When exchanges of its routes are tried again, likewise. Its `budget` is a Service's to say, and has no effect.
    pub retry: Option<Box<Retry>>,
    /// How many requests each rule of its routes takes, likewise.
    pub rate_limit: Option<RateLimit>,
}

/// Time-outs that can be a route's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct RouteTimeout {
    /// Of connecting.
    #[serde(default)]
    pub tcp: TcpTimeout,
    /// Of exchanges.
    #[serde(default)]
    pub http: RouteHttpTimeout,
}

/// See [`RouteTimeout`]. `0s` means none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteHttpTimeout {
    /// Of a whole exchange, from the request's head to the response's last byte. Default: none.
    pub request_timeout: Option<Span>,
    /// The same, also where a rule has a time-out of its own. Default: none.
    pub max_stream_duration: Option<Span>,
}
