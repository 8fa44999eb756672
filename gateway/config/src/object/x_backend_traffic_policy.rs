//! XBackendTrafficPolicy, of the Gateway API's experimental channel: the budget of retries (GEP-3388) and sessions (GEP-1619) of a Service. The crate
//! `gateway-api` has it with all of the experimental channel only, which would double what is compiled of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::ours::{RetryRate, Span, TargetRef};

/// A policy.
#[derive(Clone, Debug, Deserialize)]
pub struct XBackendTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: XBackendTrafficPolicySpec,
}

/// See [`XBackendTrafficPolicy`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct XBackendTrafficPolicySpec {
    /// Services of its namespace.
    pub target_refs: Vec<TargetRef>,
    /// How many of the tries may be further ones.
    pub retry_constraint: Option<RetryConstraint>,
    /// Clients that come back stay with the endpoint that has served them.
    pub session_persistence: Option<SessionPersistence>,
}

/// See [`XBackendTrafficPolicySpec`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryConstraint {
    /// The share.
    #[serde(default)]
    pub budget: RetryShare,
    /// What is allowed in any case.
    #[serde(default)]
    pub min_retry_rate: RetryRate,
}

/// See [`RetryConstraint`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RetryShare {
    /// Of the exchanges of the interval. Default 20.
    pub percent: Option<u32>,
    /// How far it looks back. Default 10s.
    pub interval: Option<Span>,
}

/// See [`XBackendTrafficPolicySpec`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// The name of the cookie or the header field. Default: one that is the Service port's own.
    pub session_name: Option<String>,
    /// A session ends so long after it began.
    pub absolute_timeout: Option<Span>,
    /// `Cookie` or `Header`.
    #[serde(rename = "type", default)]
    pub kind: SessionKind,
    /// Of a cookie.
    pub cookie_config: Option<CookieConfig>,
}

/// What brings a session's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SessionKind {
    #[default]
    Cookie,
    Header,
}

/// See [`SessionPersistence`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieConfig {
    /// Whether the cookie outlives the browser's own session.
    #[serde(default)]
    pub lifetime_type: CookieLifetime,
}

/// See [`CookieConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum CookieLifetime {
    /// It does not.
    #[default]
    Session,
    /// It does, until the session's absolute end.
    Permanent,
}
