//! Settings of policies that have no effect, because the ports that the policy counts for are not served in the way that the setting is about. They are
//! reported: a limit that is not kept must not look like one that is.

use serde_json::Value;

use super::compile::Compiler;
use super::*;
use crate::object::{Body, warning};

/// How a port's or listener's traffic is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is forwarded by connection.
    Tcp,
    /// It is forwarded by connection, after its TLS was ended here.
    EndedTls,
    /// It is forwarded by connection, with its TLS untouched.
    Passthrough,
    /// It is forwarded by flow.
    Udp,
    /// It is served by request, from plain connections.
    Http,
    /// It is served by request, from connections with TLS.
    Https,
    /// It is served by request, with HTTP/1.1 to endpoints.
    Http1Endpoints,
    /// It is served by request, with HTTP/2 to endpoints.
    Http2Endpoints,
    /// It is the traffic of a route, of a rule, or of a listener that leads to routes, and is served by request.
    Routed,
    /// It is the traffic of a route, of a rule, or of a listener that leads to routes, and is forwarded by connection.
    RoutedConnections,
    /// It is the traffic of a route, of a rule, or of a listener that leads to routes, and is forwarded by flow.
    RoutedFlows,
}

use Way::{EndedTls, Http, Http1Endpoints, Http2Endpoints, Https, Passthrough, Routed, RoutedConnections, RoutedFlows, Tcp, Udp};

/// Something that a policy counts for.
pub(super) struct Counted {
    pub(super) policy: ObjectKey,
    way: Way,
    /// Its name and why it is served that way, as in `port 80 of Service default/web`.
    what: String,
    why: String,
}

/// A field of a policy, and the ways of serving in which it has an effect.
struct Field {
    path: &'static str,
    ways: &'static [Way],
    /// Whether the field limits something. If it does, each port at which nothing is limited is reported, even if the limit holds at others.
    limits: bool,
}

const fn field(path: &'static str, ways: &'static [Way]) -> Field {
    Field { path, ways, limits: false }
}

const fn limit(path: &'static str, ways: &'static [Way]) -> Field {
    Field { path, ways, limits: true }
}

const REQUESTS: &[Way] = &[Http1Endpoints, Http2Endpoints];
const STREAMS: &[Way] = &[Tcp, Http1Endpoints, Http2Endpoints];
/// The ways of serving of fields that policies of routes may have, too.
const ALSO_ROUTES: &[Way] = &[Http1Endpoints, Http2Endpoints, Routed];
const SERVICES: &[Way] = &[Tcp, Udp, Http1Endpoints, Http2Endpoints];
/// The ways of serving of fields within another field, whose own report covers all other ways.
const BUT_ROUTES: &[Way] = &[Tcp, Udp, RoutedConnections, RoutedFlows, Http1Endpoints, Http2Endpoints];

/// The fields of `BackendTrafficPolicy`. A field that is not listed has an effect everywhere.
const BACKEND: &[Field] = &[
    field("spec.loadBalancer.slowStart", SERVICES),
    field("spec.discovery", SERVICES),
    field("spec.timeout.tcp", &[Tcp, Http1Endpoints, Http2Endpoints, Routed, RoutedConnections]),
    field("spec.timeout.udp", &[Udp, RoutedFlows]),
    limit("spec.timeout.http", ALSO_ROUTES),
    // Where no requests are served, the report of the field before covers this one.
    field("spec.timeout.http.connectionIdleTimeout", BUT_ROUTES),
    limit("spec.timeout.http.maxConnectionDuration", BUT_ROUTES),
    field("spec.timeout.http.upgradeIdleTimeout", BUT_ROUTES),
    field("spec.retry", ALSO_ROUTES),
    limit("spec.retry.budget", BUT_ROUTES),
    limit("spec.rateLimit", ALSO_ROUTES),
    limit("spec.circuitBreaker.maxConnections", STREAMS),
    limit("spec.circuitBreaker.perEndpoint", STREAMS),
    limit("spec.circuitBreaker.maxPendingRequests", REQUESTS),
    limit("spec.circuitBreaker.maxParallelRequests", REQUESTS),
    limit("spec.circuitBreaker.maxParallelRetries", REQUESTS),
    limit("spec.circuitBreaker.maxRequestsPerConnection", REQUESTS),
    field("spec.tcpKeepalive", STREAMS),
    field("spec.proxyProtocol", STREAMS),
    field("spec.http2", &[Http2Endpoints]),
    field("spec.httpUpgrade", REQUESTS),
    field("spec.tls", STREAMS),
    field("spec.trailers", SERVICES),
    field("spec.healthCheck", SERVICES),
    // For routes, the report of the field before covers this one.
    field("spec.healthCheck.passive.consecutiveGatewayErrors", &[Http1Endpoints, Http2Endpoints, Routed, RoutedConnections, RoutedFlows]),
];

/// It has an effect by being there: `{}` is a setting.
const HTTP3: &str = "spec.http3";

const BY_REQUEST: &[Way] = &[Http, Https];
const BY_CONNECTION: &[Way] = &[Tcp, EndedTls, Passthrough];
const CONNECTIONS: &[Way] = &[Tcp, EndedTls, Passthrough, Http, Https];

/// The fields of `XBackendTrafficPolicy`.
const X_BACKEND: &[Field] = &[limit("spec.retryConstraint", REQUESTS), field("spec.sessionPersistence", REQUESTS)];

/// The fields of `ClientTrafficPolicy`.
const CLIENT: &[Field] = &[
    field("spec.timeout.tcp", BY_CONNECTION),
    limit("spec.timeout.http", BY_REQUEST),
    limit("spec.connection.maxConnectionDuration", BY_REQUEST),
    limit("spec.connection.maxRequestsPerConnection", BY_REQUEST),
    limit("spec.connection.maxStreamDuration", BY_REQUEST),
    field("spec.headers", BY_REQUEST),
    field("spec.path", BY_REQUEST),
    field("spec.clientIPDetection", BY_REQUEST),
    limit("spec.requestBody", BY_REQUEST),
    limit("spec.minDataRate", BY_REQUEST),
    limit("spec.rateLimit", BY_REQUEST),
    field("spec.tcpKeepalive", CONNECTIONS),
    field("spec.proxyProtocol", CONNECTIONS),
    field("spec.http2", BY_REQUEST),
    field(HTTP3, &[Https]),
    field("spec.tls", &[EndedTls, Https]),
];

impl Compiler<'_> {
    /// Notes that a policy counts for something. `why` says how that is served.
    pub(super) fn counts(&mut self, policy: Option<&Arc<Object>>, way: Way, what: String, why: impl Into<String>) {
        if let Some(policy) = policy {
            self.part.counted.push(Arc::new(Counted { policy: policy.key.clone(), way, what, why: why.into() }));
        }
    }

    /// Reports each field that is set and has no effect where its policy counts.
    pub(super) fn without_effect(&mut self, object: &Object, uses: &[&Counted]) {
        let fields = match &object.body {
            Body::BackendTrafficPolicy(_) => BACKEND,
            Body::ClientTrafficPolicy(_) => CLIENT,
            Body::XBackendTrafficPolicy(_) => X_BACKEND,
            _ => return,
        };
        // Most fields have an effect wherever the policy counts, and most policies set few of the others. Searching the text is faster than parsing it into a
        // tree.
        let text = object.value.rest_json();
        let mentions = |name: &str| text.contains(&format!("\"{name}\":"));
        let bears = |ways: &[Way]| uses.iter().any(|counted| !ways.contains(&counted.way));
        let fields = fields.iter().filter(|field| bears(field.ways) && field.path.split('.').skip(1).all(mentions));
        let fields: Vec<&Field> = fields.collect();
        if fields.is_empty() && !(bears(ALSO_ROUTES) && mentions("hash")) {
            return;
        }
        let faults = &mut self.part.policy_faults[1];
        let tree = object.value.rest();
        for field in fields.into_iter().filter(|field| is_set(&tree, field.path)) {
            idle(object, field.path, uses, field.ways, field.limits, faults);
        }
        let hash = tree.pointer("/spec/loadBalancer/hash/type").and_then(Value::as_str);
        if matches!(hash, Some("Header" | "Cookie" | "Path")) {
            idle(object, "spec.loadBalancer.hash", uses, ALSO_ROUTES, false, faults);
        }
    }
}

/// Reports a field of a policy that counts for `uses` and has an effect only where these are served in one of `ways`.
fn idle(object: &Object, path: &str, uses: &[&Counted], ways: &[Way], limits: bool, faults: &mut Vec<Fault>) {
    let without: Vec<&&Counted> = uses.iter().filter(|counted| !ways.contains(&counted.way)).collect();
    if without.is_empty() || (!limits && without.len() < uses.len()) {
        return;
    }
    let mut reasons: Vec<String> = without.iter().map(|counted| format!("{} {}", counted.what, counted.why)).collect();
    reasons.dedup();
    let message = if without.len() < uses.len() {
        format!("{path} has no effect on some of what the policy counts for: {}", reasons.join("; "))
    } else {
        format!("{path} has no effect: {}", reasons.join("; "))
    };
    faults.push(warning(&object.origin, &object.key, path, message, None));
}

/// Whether the object sets anything at this path. `[]` is a setting, `{}` is none.
fn is_set(tree: &Value, path: &str) -> bool {
    match tree.pointer(&format!("/{}", path.replace('.', "/"))) {
        None | Some(Value::Null) => false,
        Some(_) if path == HTTP3 => true,
        Some(Value::Object(fields)) => fields.values().any(|value| !value.is_null() && value.as_object().is_none_or(|f| !f.is_empty())),
        Some(_) => true,
    }
}
