//! `ClientTrafficPolicy`: from clients to the gateway. Where Envoy Gateway has a field for the same thing, ours has its name.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_model::settings::HalfClose;

use super::values::{Bytes, Span};
use super::{
    ClientHttp2Policy, ClientHttp3Policy, ClientIpDetection, ClientProxyProtocol, ClientTimeout, ClientTls, ForwardedAction, HeaderFilter,
    PathOptions, PluginUse, RateLimit, RequestIdAction, TargetRef, TcpKeepalive, TraceContext, WithUnderscoresAction,
};

/// How traffic of clients is taken, and what it is limited to.
#[derive(Clone, Debug, Deserialize)]
pub struct ClientTrafficPolicy {
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: ClientTrafficPolicySpec,
}

/// How traffic of clients is taken, and what it is limited to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTrafficPolicySpec {
    /// Gateways, ListenerSets and Services of this namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// Which router, with which configuration.
    pub router: Option<PluginUse>,
    /// Time-outs.
    #[serde(default)]
    pub timeout: ClientTimeout,
    /// How many connections may be open, and for how long.
    #[serde(default)]
    pub connection: ClientConnection,
    /// How large a request's head may be, and what is done with its fields.
    #[serde(default)]
    pub headers: ClientHeaders,
    /// How a request's path is read before routers see it.
    #[serde(default)]
    pub path: PathOptions,
    /// Who is believed about the client's address.
    #[serde(default, rename = "clientIPDetection")]
    pub client_ip_detection: ClientIpDetection,
    /// How large a request's content may be.
    #[serde(default)]
    pub request_body: RequestBody,
    /// How slow a client may be. Default: as slow as it likes.
    pub min_data_rate: Option<MinDataRate>,
    /// How many requests a listener takes in a time.
    pub rate_limit: Option<RateLimit>,
    /// Probes that find out whether a silent client is still there.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Clients that are proxies say by a PROXY header for whom they speak.
    pub proxy_protocol: Option<ClientProxyProtocol>,
    /// HTTP/2 from clients.
    #[serde(default)]
    pub http2: ClientHttp2Policy,
    /// HTTP/3 from clients of listeners that end TLS with HTTP: `{}` turns it on, at the same port over UDP. Default: it is off. The limits of `http2` count for it, too.
    pub http3: Option<ClientHttp3Policy>,
    /// TLS towards clients.
    pub tls: Option<ClientTls>,
}

/// Limits of connections.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnection {
    /// How many connections a listener has open, of all clients together.
    pub connection_limit: Option<ConnectionLimit>,
    /// How many connections a listener has open for each client address; of IPv6 for each /64.
    pub per_client: Option<ConnectionLimit>,
    /// A connection that is older closes after the running exchange. Default: none.
    pub max_connection_duration: Option<Span>,
    /// How many exchanges one connection carries before it is closed. Default: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// An exchange that lasts longer is ended with its connection. Default: none.
    pub max_stream_duration: Option<Span>,
    /// What an HTTP/1.1 client gets that closes its sending side after its request, as `nc -N` does.
    #[serde(default)]
    pub half_close: HalfClose,
}

/// How many connections may be open.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimit {
    /// How many connections may be open; more are refused.
    pub value: u32,
    /// How long a refused connection is held before it is closed, which slows clients that come again at once. Default: none, and a reset.
    pub close_delay: Option<Span>,
}

/// Limits of a request's head, and what is done with its fields.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientHeaders {
    /// The size of a request's head. Default 64Ki, which is also the most.
    pub max_bytes: Option<Bytes>,
    /// The number of header fields of a request. Default 100, which is also the most.
    pub max_count: Option<u32>,
    /// What becomes of fields with underscores in their names.
    #[serde(default)]
    pub with_underscores_action: WithUnderscoresAction,
    /// Changes to header fields before the request is routed.
    pub early_request_headers: Option<HeaderFilter>,
    /// Whether a client's `X-Request-Id` is kept, and one is made.
    #[serde(default, rename = "requestID")]
    pub request_id: RequestIdAction,
    /// Whether the header field `Forwarded` (RFC 7239) is made or passed on.
    #[serde(default)]
    pub forwarded: ForwardedAction,
    /// The name under which this gateway adds itself to `Via`, and knows requests that came round in a loop. Default: none.
    pub via: Option<String>,
    /// Names are passed on as they are spelt, to endpoints and to clients of HTTP/1.1. Default: they may become lower case.
    #[serde(default)]
    pub preserve_case: bool,
    /// Whether `traceparent` is made. Default: what comes is passed on, and none is made.
    pub trace_context: Option<TraceContext>,
}

/// Limits of a request's content.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestBody {
    /// The size of a request's content. Default: no limit.
    pub max_bytes: Option<Bytes>,
}

/// How slowly a client may send content, and take a response. Only the time in which the gateway waits for the client counts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinDataRate {
    /// Bytes a second, on the average of the exchange.
    pub bytes_per_second: u32,
    /// The time that an exchange has before its rate counts. Default 5s.
    pub grace_period: Option<Span>,
}
