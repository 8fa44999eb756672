//! What a policy writes: the rules of HTTPRoute v1 under the same names, and what ours can do besides.

use schemars::JsonSchema;
use serde::Deserialize;

/// The rules of a listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// Their order decides only between rules that are alike in all else that Gateway API's precedence looks at.
    pub rules: Vec<Rule>,
    /// What becomes of a rule that has a fault.
    pub faulty_rules: FaultyRules,
}

/// What becomes of a rule that has a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FaultyRules {
    /// The whole configuration is refused, and what has served before goes on.
    #[default]
    Refuse,
    /// It answers 500 (connections are reset, datagrams dropped), its fault is logged, and the other rules serve. Of its matches those take nothing
    /// that are faulty themselves. For rules that many people write.
    Fail,
}

/// Which requests, and what becomes of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Rule {
    /// Shown to the operator.
    pub name: Option<String>,
    /// Exact names, or `*.example.com`, which stands for any number of labels. None: every host.
    pub hostnames: Vec<String>,
    /// One of them must match. None: every path.
    pub matches: Vec<Match>,
    /// What to do with the exchange.
    pub filters: Vec<Filter>,
    /// The backends that share the exchanges.
    pub backend_refs: Vec<BackendRef>,
    /// How long an exchange may take.
    pub timeouts: Option<Timeouts>,
    /// When it is tried again; counts before the policy of the Service.
    pub retry: Option<Retry>,
    /// Clients that come back stay with the endpoint that has served them.
    pub session_persistence: Option<SessionPersistence>,
    /// When the object that the rule comes from was made, such as `2026-01-02T03:04:05Z`. Of rules that are alike the oldest wins, and one
    /// without a time is the youngest.
    pub created_at: Option<String>,
    /// The object that the rule comes from, `namespace/name`. Of rules of the same age the alphabetically first wins.
    pub source: Option<String>,
}

/// All its conditions must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Match {
    /// What the path must be. Default: the prefix `/`.
    pub path: Option<PathMatch>,
    /// A gRPC call, as GRPCRoute has it; in place of `path`.
    pub grpc: Option<GrpcMatch>,
    /// Names are case-insensitive; of conditions on the same header the first counts.
    pub headers: Vec<ValueMatch>,
    /// Names are case-sensitive; of conditions on the same parameter the first counts.
    pub query_params: Vec<ValueMatch>,
    /// Such as `GET`.
    pub method: Option<String>,
}

/// A condition on the path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PathMatch {
    /// How `value` is compared.
    #[serde(rename = "type")]
    pub kind: PathMatchType,
    /// The path. Default: `/`.
    pub value: Option<String>,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Whole path elements: `/a` matches `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// The whole path, as a regular expression.
    RegularExpression,
}

/// Which gRPC calls; one of `service` and `method` at least. The service counts before the method, each by its number of characters.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcMatch {
    /// How both are compared.
    #[serde(rename = "type")]
    pub kind: ValueMatchType,
    /// With its package, such as `helloworld.Greeter`. None: every service.
    pub service: Option<String>,
    /// Such as `SayHello`. None: every method.
    pub method: Option<String>,
}

/// A condition on a header or query parameter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// How `value` is compared.
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// The header or parameter.
    pub name: String,
    /// What it must be.
    pub value: String,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// The whole value.
    #[default]
    Exact,
    /// The whole value, as a regular expression.
    RegularExpression,
}

/// Something to do with an exchange. Exactly the field that `type` names is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Filter {
    /// Which field is set.
    #[serde(rename = "type")]
    pub kind: FilterType,
    /// Changes header fields of the request.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes header fields of the response.
    pub response_header_modifier: Option<HeaderModifier>,
    /// Sends the client elsewhere.
    pub request_redirect: Option<RequestRedirect>,
    /// Changes host and path.
    pub url_rewrite: Option<UrlRewrite>,
    /// Sends a copy elsewhere.
    pub request_mirror: Option<RequestMirror>,
    /// Answers cross-origin questions.
    pub cors: Option<Cors>,
    /// Answers at once.
    pub direct_response: Option<DirectResponse>,
}

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FilterType {
    /// `requestHeaderModifier`
    RequestHeaderModifier,
    /// `responseHeaderModifier`
    ResponseHeaderModifier,
    /// `requestRedirect`
    RequestRedirect,
    /// `urlRewrite`
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// `requestMirror`
    RequestMirror,
    /// `cors`
    #[serde(rename = "CORS")]
    Cors,
    /// `directResponse`, which HTTPRoute does not have.
    DirectResponse,
}

/// Changes of header fields: set, then add, then remove.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderModifier {
    /// Replaces.
    pub set: Vec<HeaderValue>,
    /// Appends.
    pub add: Vec<HeaderValue>,
    /// Removes.
    pub remove: Vec<String>,
}

/// A header field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A redirect. What is absent stays as the request had it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct RequestRedirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathModifier>,
    /// The new port.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308; 302 when absent.
    pub status_code: Option<u16>,
}

/// A rewrite of the request before it is forwarded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UrlRewrite {
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// A new path. Exactly the field that `type` names is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PathModifier {
    /// Which field is set.
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    /// The whole new path.
    pub replace_full_path: Option<String>,
    /// What takes the place of the matched prefix.
    pub replace_prefix_match: Option<String>,
}

/// How a path is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// `replaceFullPath`
    ReplaceFullPath,
    /// `replacePrefixMatch`
    ReplacePrefixMatch,
}

/// A mirror: answers to copies are dropped. All requests are copied unless `percent` or `fraction` says otherwise.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RequestMirror {
    /// Where the copy goes.
    pub backend_ref: ServiceRef,
    /// 0 to 100.
    pub percent: Option<u32>,
    /// A share.
    pub fraction: Option<Fraction>,
}

/// A share of requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// The numerator, which is at most the denominator.
    pub numerator: u32,
    /// 100 when absent.
    pub denominator: Option<u32>,
}

/// Who may ask from another origin (Fetch standard, "HTTP extensions").
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Cors {
    /// `*`, or origins such as `https://example.com` and `https://*.example.com`.
    pub allow_origins: Vec<String>,
    /// Methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Header fields of requests, or `*`.
    pub allow_headers: Vec<String>,
    /// Header fields of responses, or `*`.
    pub expose_headers: Vec<String>,
    /// Whether cookies and the like may be sent.
    pub allow_credentials: Option<bool>,
    /// How long a preflight's answer may be kept, in seconds; 5 when absent.
    pub max_age: Option<u32>,
}

/// An answer of the gateway's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DirectResponse {
    /// 200 to 599.
    pub status_code: u16,
    /// Its content, at most 64 KiB.
    #[serde(default)]
    pub body: String,
    /// Such as `text/plain; charset=utf-8`, which it is when absent and there is a body.
    pub content_type: Option<String>,
}

/// A backend that takes a share of a rule's requests: a service port, a Backend, or one that is known to be invalid.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackendRef {
    /// Empty for a Service, `sluicegate.dev` for a Backend.
    pub group: Option<String>,
    /// `Service`, or `Backend`.
    pub kind: Option<String>,
    /// Its name; always set unless `invalid` is.
    pub name: Option<String>,
    /// Its namespace; that of the policy when absent.
    pub namespace: Option<String>,
    /// The service port; always set unless `invalid` is.
    pub port: Option<u16>,
    /// Its share is this of the sum of all; 1 when absent, 0 for none, at most 1000000.
    pub weight: Option<u32>,
    /// Done in addition when this backend was chosen.
    pub filters: Vec<Filter>,
    /// Why there is no such backend. Its share is answered 500 (connections are reset, datagrams dropped); besides it only `weight` is set.
    pub invalid: Option<String>,
}

/// A service port, or a Backend.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceRef {
    /// Empty for a Service, `sluicegate.dev` for a Backend.
    pub group: Option<String>,
    /// `Service`, or `Backend`.
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its namespace; that of the policy when absent.
    pub namespace: Option<String>,
    /// The service port.
    pub port: u16,
}

/// Gateway API durations, such as `10s`, `1h30m`, `500ms`; `0s` is no limit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Timeouts {
    /// How long the whole exchange may take.
    pub request: Option<String>,
    /// How long one try at a backend may take.
    pub backend_request: Option<String>,
}

/// Further tries. Connections that fail or break, and tries over `timeouts.backendRequest`, lead to one in any case.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Statuses of responses that are tried again, 400 to 599.
    pub codes: Vec<u16>,
    /// Tries after the first, at most 20; 2 when absent.
    pub attempts: Option<u32>,
    /// A Gateway API duration: the shortest pause before the first of them. It doubles with each, up to ten times as long.
    pub backoff: Option<String>,
}

/// Session persistence, as HTTPRoute has it (GEP-1619). A client stays with its endpoint, and so with the backend that has it, whatever the weights.
/// The host carries it out; it counts before the balancer and `sessionAffinity` of the Service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct SessionPersistence {
    /// The name of the cookie or header; one of the rule's own when absent.
    pub session_name: Option<String>,
    /// A Gateway API duration: the session ends so long after it began.
    pub absolute_timeout: Option<String>,
    /// How long a session lives after its last response.
    pub idle_timeout: Option<String>,
    /// What brings the session, both ways.
    #[serde(rename = "type")]
    pub kind: SessionType,
    /// How long the cookie lives.
    pub cookie_config: Option<CookieConfig>,
}

/// What brings a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SessionType {
    /// A cookie that the gateway sets.
    #[default]
    Cookie,
    /// A header of responses, which clients send with later requests.
    Header,
}

/// How long a cookie lives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct CookieConfig {
    /// `Session` when absent.
    pub lifetime_type: Option<CookieLifetime>,
}

/// How long a cookie lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CookieLifetime {
    /// As long as `absoluteTimeout`, which it needs.
    Permanent,
    /// As long as the browser's own session.
    Session,
}
