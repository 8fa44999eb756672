//! XBackendTrafficPolicy, of the Gateway API's experimental channel: the budget of retries (GEP-3388) and sessions (GEP-1619) of a Service. The crate
//! `gateway-api` has it only together with all of the experimental channel, which would double what is compiled of that crate.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::ours::{RetryRate, Span, TargetRef};

/// An XBackendTrafficPolicy.
#[derive(Clone, Debug, Deserialize)]
pub struct XBackendTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The budget and the sessions.
    pub spec: XBackendTrafficPolicySpec,
}

/// The content of an [`XBackendTrafficPolicy`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct XBackendTrafficPolicySpec {
    /// The Services that the policy is for, which are of its own namespace.
    pub target_refs: Vec<TargetRef>,
    /// The budget: how many tries may be retries.
    pub retry_constraint: Option<RetryConstraint>,
    /// Whether clients that come back stay with the endpoint that has served them.
    pub session_persistence: Option<SessionPersistence>,
}

/// The budget of retries.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryConstraint {
    /// The share of the tries that may be retries.
    #[serde(default)]
    pub budget: RetryShare,
    /// How many retries are allowed in any case.
    #[serde(default)]
    pub min_retry_rate: RetryRate,
}

/// The share of the tries that may be retries.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RetryShare {
    /// The share, in percent of the exchanges of the interval. Default 20.
    pub percent: Option<u32>,
    /// How far the budget looks back. Default 10s.
    pub interval: Option<Span>,
}

/// Sessions of clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// The name of the cookie or the header field. Default: a name that is made of the service port.
    pub session_name: Option<String>,
    /// How long after its beginning a session ends.
    pub absolute_timeout: Option<Span>,
    /// What brings the session's token: `Cookie` or `Header`.
    #[serde(rename = "type", default)]
    pub kind: SessionKind,
    /// What a cookie is like.
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

/// What the cookie of a session is like.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieConfig {
    /// How long the cookie lives.
    #[serde(default)]
    pub lifetime_type: CookieLifetime,
}

/// How long the cookie of a session lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum CookieLifetime {
    /// The cookie lives as long as the browser's own session.
    #[default]
    Session,
    /// The cookie lives until the session's absolute end.
    Permanent,
}
