//! `BackendTrafficPolicy.spec.healthCheck` and `loadBalancer.slowStart`: Envoy Gateway's fields, and beside them those of Envoy that it lacks.

use k8s_openapi::ByteString;
use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Span;

/// How it is found out which endpoints are healthy, and so are used.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// While a smaller share of the endpoints than this is usable, in percent, all are used. Default 50; 0: never.
    pub panic_threshold: Option<u32>,
    /// Endpoints are probed.
    pub active: Option<Box<ActiveHealthCheck>>,
    /// Endpoints are judged by the exchanges that they serve (outlier ejection).
    pub passive: Option<Box<PassiveHealthCheck>>,
}

/// How an endpoint is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CheckType {
    /// By an HTTP request.
    #[serde(rename = "HTTP")]
    Http,
    /// By a TCP connection.
    #[serde(rename = "TCP")]
    Tcp,
    /// By the gRPC method `grpc.health.v1.Health/Check`.
    #[serde(rename = "GRPC")]
    Grpc,
}

/// How and how often endpoints are probed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveHealthCheck {
    /// `HTTP`, `TCP` or `GRPC`.
    #[serde(rename = "type")]
    pub type_: CheckType,
    /// How long one probe may take. Default 1s.
    pub timeout: Option<Span>,
    /// The time from the end of one probe to the next. Default 3s.
    pub interval: Option<Span>,
    /// The first probe waits for a random part of this. Default: none.
    pub initial_jitter: Option<Span>,
    /// A random part of this is added to each interval. Default: a tenth of it.
    pub interval_jitter: Option<Span>,
    /// Failures in a row that make an endpoint unhealthy. Default 3.
    pub unhealthy_threshold: Option<u32>,
    /// Successes in a row that make it healthy again. Default 1.
    pub healthy_threshold: Option<u32>,
    /// The request, with `type: HTTP`.
    pub http: Option<HttpCheck>,
    /// What is sent and expected, with `type: TCP`.
    pub tcp: Option<TcpCheck>,
    /// Which gRPC service is asked for, with `type: GRPC`.
    pub grpc: Option<GrpcCheck>,
}

/// The request that a probe sends, and the answer that it expects.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// The host name of the request. Default: the endpoint's address.
    pub hostname: Option<String>,
    /// The path of the request, with its query if it has one.
    pub path: String,
    /// The method of the request. Default `GET`.
    pub method: Option<String>,
    /// The statuses of a healthy endpoint. Default 200.
    pub expected_statuses: Option<Vec<u16>>,
    /// Bytes that the content of the answer must contain.
    pub expected_response: Option<Payload>,
}

/// What a probe sends over its connection, and what it expects.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// Bytes that are sent as soon as the connection stands.
    pub send: Option<Payload>,
    /// Bytes that the answer must contain.
    pub receive: Option<Payload>,
}

/// Which gRPC service a probe asks for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcCheck {
    /// The name of the gRPC service. Default: the server as a whole.
    pub service: Option<String>,
}

/// Bytes, written as text or in base64.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Payload {
    /// The bytes of a text.
    Text {
        /// The text.
        text: String,
    },
    /// Bytes in base64.
    Binary {
        /// The bytes, in base64.
        #[schemars(with = "String")]
        binary: ByteString,
    },
}

impl Payload {
    /// The bytes that are meant.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text { text } => text.as_bytes(),
            Self::Binary { binary } => &binary.0,
        }
    }
}

/// Outlier ejection: an endpoint whose exchanges fail is not used for a time.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassiveHealthCheck {
    /// Failures to reach an endpoint count apart from errors that it answers. Default false.
    #[serde(default)]
    pub split_external_local_origin_errors: bool,
    /// How often endpoints are compared. Default 3s.
    pub interval: Option<Span>,
    /// Failures to reach it in a row, where they count apart. Default 5; 0: off.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Responses 502, 503, 504 in a row. Default 0: off.
    pub consecutive_gateway_errors: Option<u32>,
    /// Responses 5xx in a row. Default 5; 0: off.
    #[serde(rename = "consecutive5XxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// How long the first ejection lasts; the second one lasts twice as long, the third three times. Default 30s.
    pub base_ejection_time: Option<Span>,
    /// The longest ejection. Default 300s, or `baseEjectionTime` if that is longer.
    pub max_ejection_time: Option<Span>,
    /// The share of the endpoints that may be ejected at a time, in percent. Default 10.
    pub max_ejection_percent: Option<u32>,
    /// One endpoint may be ejected even if that is a larger share, while another is left. Default true.
    pub always_eject_one_endpoint: Option<bool>,
    /// Ejects an endpoint whose failures are at least so many percent. Default: none.
    pub failure_percentage_threshold: Option<u32>,
    /// Ejects an endpoint whose success rate is below the mean by more than so many thousandths of a standard deviation. Default: none.
    pub success_rate_stdev_factor: Option<u32>,
    /// Ejects an endpoint whose mean latency is at least so many percent of the median. Default: none.
    pub latency_percentage_threshold: Option<u32>,
    /// Endpoints that must have had enough exchanges for a comparison. Default 5.
    pub minimum_endpoints: Option<u32>,
    /// Exchanges within an interval that are enough. Default 50.
    pub request_volume: Option<u32>,
}

/// How an endpoint that joins gets its share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlowStart {
    /// The time in which the endpoint's weight grows to all of it.
    pub window: Span,
    /// The share of its weight with which an endpoint begins, in percent. Default 10.
    pub min_weight_percent: Option<u32>,
}
