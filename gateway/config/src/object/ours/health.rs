//! `BackendTrafficPolicy.spec.healthCheck` and `loadBalancer.slowStart`: Envoy Gateway's fields, and beside them those of Envoy that it lacks.

use k8s_openapi::ByteString;
use schemars::JsonSchema;
use serde::Deserialize;

use super::values::Span;

/// Which endpoints are used.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// While a smaller share of the endpoints than this is usable, in percent, all are used. Default 50; 0: never.
    pub panic_threshold: Option<u32>,
    /// By probes.
    pub active: Option<Box<ActiveHealthCheck>>,
    /// By what comes of exchanges.
    pub passive: Option<Box<PassiveHealthCheck>>,
}

/// What a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CheckType {
    /// A request.
    #[serde(rename = "HTTP")]
    Http,
    /// A connection.
    #[serde(rename = "TCP")]
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    #[serde(rename = "GRPC")]
    Grpc,
}

/// Probes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveHealthCheck {
    /// `HTTP`, `TCP` or `GRPC`.
    #[serde(rename = "type")]
    pub type_: CheckType,
    /// For one probe. Default 1s.
    pub timeout: Option<Span>,
    /// From the end of one probe to the next. Default 3s.
    pub interval: Option<Span>,
    /// The first probe waits for a random part of this. Default: none.
    pub initial_jitter: Option<Span>,
    /// A random part of this is added to each interval. Default: a tenth of it.
    pub interval_jitter: Option<Span>,
    /// Failures in a row that make an endpoint unhealthy. Default 3.
    pub unhealthy_threshold: Option<u32>,
    /// Successes in a row that make it healthy again. Default 1.
    pub healthy_threshold: Option<u32>,
    /// Of `type: HTTP`.
    pub http: Option<HttpCheck>,
    /// Of `type: TCP`.
    pub tcp: Option<TcpCheck>,
    /// Of `type: GRPC`.
    pub grpc: Option<GrpcCheck>,
}

/// The request of a probe, and its answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Default: the endpoint's address.
    pub hostname: Option<String>,
    /// With its query, if it has one.
    pub path: String,
    /// Default `GET`.
    pub method: Option<String>,
    /// Default 200.
    pub expected_statuses: Option<Vec<u16>>,
    /// Must be among the content.
    pub expected_response: Option<Payload>,
}

/// What is said over a probe's connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// Sent at once.
    pub send: Option<Payload>,
    /// Must be among what comes back.
    pub receive: Option<Payload>,
}

/// What is asked of a gRPC server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcCheck {
    /// Default: the server as a whole.
    pub service: Option<String>,
}

/// Bytes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Payload {
    /// As they are written.
    Text {
        /// The text.
        text: String,
    },
    /// In base64.
    Binary {
        /// The bytes.
        #[schemars(with = "String")]
        binary: ByteString,
    },
}

impl Payload {
    /// The bytes it stands for.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text { text } => text.as_bytes(),
            Self::Binary { binary } => &binary.0,
        }
    }
}

/// Outlier ejection.
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
    /// An ejection lasts as many times this as there were lately. Default 30s.
    pub base_ejection_time: Option<Span>,
    /// The longest ejection. Default 300s, or `baseEjectionTime` if that is longer.
    pub max_ejection_time: Option<Span>,
    /// The share of the endpoints that may be ejected at a time. Default 10.
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
    /// How long its weight grows.
    pub window: Span,
    /// Where it begins, in percent of its weight. Default 10.
    pub min_weight_percent: Option<u32>,
}
