//! When an exchange is tried again, and when a service has enough to do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{Bytes, Span};

/// When and how an exchange is tried again at another endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first. Default 2.
    pub num_retries: Option<u32>,
    /// What is tried again. Default: connect-failure, refused-stream, unavailable, cancelled, and status 503.
    pub retry_on: Option<RetryOn>,
    /// Of each try.
    #[serde(default)]
    pub per_retry: PerRetry,
    /// How many tries after the first a service may have under way.
    pub budget: Option<RetryBudget>,
    /// Content up to this size is kept to be sent again. Default 64Ki; 0: none.
    pub max_buffered_bytes: Option<Bytes>,
}

/// See [`Retry`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryOn {
    /// Conditions.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// Statuses, for the trigger `retriable-status-codes`.
    #[serde(default)]
    pub http_status_codes: Vec<u16>,
}

/// A condition for another try; the words are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Any 5xx status, or no response at all.
    #[serde(rename = "5xx")]
    ServerError,
    /// 502, 503, 504, or no response within the time of a try.
    GatewayError,
    /// No response: the connection broke, or the time of a try has passed.
    Reset,
    /// The same, before anything of the request was sent.
    ResetBeforeRequest,
    /// No connection.
    ConnectFailure,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    RetriableClientError,
    /// The endpoint refused the stream (HTTP/2) before it did anything.
    RefusedStream,
    /// One of `httpStatusCodes`.
    RetriableStatusCodes,
    /// gRPC status 1 in the response's head.
    Cancelled,
    /// gRPC status 4.
    DeadlineExceeded,
    /// gRPC status 13.
    Internal,
    /// gRPC status 8.
    ResourceExhausted,
    /// gRPC status 14.
    Unavailable,
}

/// See [`Retry`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerRetry {
    /// Until the response's head, for each try, the first included. Default: none.
    pub timeout: Option<Span>,
    /// The pause before another try. Default: none.
    pub back_off: Option<BackOff>,
}

/// A random pause up to a bound that doubles with each try ("full jitter").
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// The first bound. Default 25ms.
    pub base_interval: Option<Span>,
    /// The last bound. Default: ten times the first.
    pub max_interval: Option<Span>,
}

/// See [`Retry`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Of the exchanges under way. Default 20.
    pub percent: Option<u32>,
    /// So many are allowed in any case. Default 3.
    pub min_retry_concurrency: Option<u32>,
}

/// When a service port has enough to do. Over all workers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections to endpoints. Default: no limit.
    pub max_connections: Option<u32>,
    /// Requests that wait for one of them. Default 1024.
    pub max_pending_requests: Option<u32>,
    /// Exchanges under way. Default: no limit.
    pub max_parallel_requests: Option<u32>,
    /// Tries after the first under way. Default: no limit.
    pub max_parallel_retries: Option<u32>,
    /// Exchanges on one connection, one after another. Default: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// For each endpoint by itself.
    #[serde(default)]
    pub per_endpoint: PerEndpoint,
}

/// See [`CircuitBreaker`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerEndpoint {
    /// Connections to it. Default: no limit.
    pub max_connections: Option<u32>,
}
