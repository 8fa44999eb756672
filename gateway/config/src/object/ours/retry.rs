//! When an exchange is tried again, and when a service has enough to do.

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_model::settings::Trigger;

use super::values::{Bytes, Span};

/// When and how an exchange is tried again at another endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first. Default 2.
    pub num_retries: Option<u32>,
    /// What is tried again. Default: connect-failure, refused-stream, unavailable, cancelled, and status 503.
    pub retry_on: Option<RetryOn>,
    /// How long each try may take, and the pause before the next.
    #[serde(default)]
    pub per_retry: PerRetry,
    /// How many tries after the first a service may have under way.
    pub budget: Option<RetryBudget>,
    /// Content up to this size is kept to be sent again. Default 64Ki; 0: none.
    pub max_buffered_bytes: Option<Bytes>,
}

/// What is tried again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryOn {
    /// Conditions, of which one must hold.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// Statuses, for the trigger `retriable-status-codes`.
    #[serde(default)]
    pub http_status_codes: Vec<u16>,
}

/// How long each try may take, and the pause before the next.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerRetry {
    /// How long a try may take until the response's head has come; the first try too. Default: for ever.
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

/// How many tries after the first a service port may have under way, in proportion to its exchanges.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// The share that tries may be of the exchanges under way, and of those of the interval, in percent. Default 20.
    pub percent: Option<u32>,
    /// The number of tries that may be under way in any case. Default 3.
    pub min_retry_concurrency: Option<u32>,
    /// How far the budget looks back. Default 10s.
    pub interval: Option<Span>,
    /// The number of tries that are allowed within a time in any case.
    pub min_retry_rate: Option<RetryRate>,
}

/// A number of tries within a time.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryRate {
    /// The number of tries. Default 10.
    pub count: Option<u32>,
    /// The time. Default 1s.
    pub interval: Option<Span>,
}

/// How many connections, requests and tries a service port may have at a time, over all workers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections to all endpoints together. Default: no limit.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection. Default 1024.
    pub max_pending_requests: Option<u32>,
    /// Exchanges under way. Default: no limit.
    pub max_parallel_requests: Option<u32>,
    /// Tries after the first under way. Default: no limit.
    pub max_parallel_retries: Option<u32>,
    /// Exchanges on one connection, one after another. Default: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// Limits for each endpoint by itself.
    #[serde(default)]
    pub per_endpoint: PerEndpoint,
}

/// Limits for each endpoint by itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerEndpoint {
    /// Connections to one endpoint. Default: no limit.
    pub max_connections: Option<u32>,
}
