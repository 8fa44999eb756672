//! `GatewayParameters`: what a GatewayClass or a Gateway says by its `parametersRef`.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RateLimit, Retry, Span, TcpTimeout, UdpTimeout};

/// Parameters of Gateways.
#[derive(Clone, Debug, Deserialize)]
pub struct GatewayParameters {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The parameters.
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
    /// When exchanges of its routes are tried again, where no policy says otherwise. A `budget` is for Services only, and has no effect here.
    pub retry: Option<Box<Retry>>,
    /// How many requests each rule of its routes takes in a time, where no policy says otherwise.
    pub rate_limit: Option<RateLimit>,
}

/// Time-outs that can be a route's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct RouteTimeout {
    /// Time-outs of TCP.
    #[serde(default)]
    pub tcp: TcpTimeout,
    /// Time-outs of UDP flows.
    #[serde(default)]
    pub udp: UdpTimeout,
    /// Time-outs of HTTP exchanges.
    #[serde(default)]
    pub http: RouteHttpTimeout,
}

/// Time-outs of HTTP exchanges. `0s` means none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteHttpTimeout {
    /// How long a whole exchange may take, from the request's head to the response's last byte. Default: for ever.
    pub request_timeout: Option<Span>,
    /// How long a whole exchange may take, also where a rule has a longer time-out of its own. Default: for ever.
    pub max_stream_duration: Option<Span>,
}
