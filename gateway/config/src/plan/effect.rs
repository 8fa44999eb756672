//! Settings of policies that have no effect, as the ports they count for are not served in the way they are about: a limit that is not kept must not
//! look like one that is.

use serde_json::Value;

use super::compile::Compiler;
use super::*;
use crate::object::{Body, warning};

/// How a port's or listener's traffic is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By connection.
    Tcp,
    /// By connection, after its TLS was ended here.
    EndedTls,
    /// By connection, with its TLS as it is.
    Passthrough,
    /// By flow.
    Udp,
    /// By request, from plain connections.
    Http,
    /// By request, after TLS.
    Https,
    /// By request, with HTTP/1.1 to endpoints.
    Http1Endpoints,
    /// By request, with HTTP/2 to endpoints.
    Http2Endpoints,
    /// By request: it is a route, a rule of one, or a listener that leads to routes.
    Routed,
    /// By connection, likewise.
    RoutedConnections,
    /// By flow, likewise.
    RoutedFlows,
}

use Way::{EndedTls, Http, Http1Endpoints, Http2Endpoints, Https, Passthrough, Routed, RoutedConnections, RoutedFlows, Tcp, Udp};

/// What a policy counts for.
pub(super) struct Counted {
    pub(super) policy: ObjectKey,
    way: Way,
    /// `port 80 of Service default/web`, and why it is served that way.
    what: String,
    why: String,
}

/// A field, and where it has an effect.
struct Field {
    path: &'static str,
    ways: &'static [Way],
    /// It limits something: who sets it is told of each port where nothing is limited, also if it counts at others.
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
/// What a policy may say of routes, too.
const ALSO_ROUTES: &[Way] = &[Http1Endpoints, Http2Endpoints, Routed];
const SERVICES: &[Way] = &[Tcp, Udp, Http1Endpoints, Http2Endpoints];
/// Of what is within a field that tells the others already.
const BUT_ROUTES: &[Way] = &[Tcp, Udp, RoutedConnections, RoutedFlows, Http1Endpoints, Http2Endpoints];

/// Of `BackendTrafficPolicy`. What is not here counts everywhere.
const BACKEND: &[Field] = &[
    field("spec.loadBalancer.slowStart", SERVICES),
    field("spec.discovery", SERVICES),
    field("spec.timeout.tcp", &[Tcp, Http1Endpoints, Http2Endpoints, Routed, RoutedConnections]),
    field("spec.timeout.udp", &[Udp, RoutedFlows]),
    limit("spec.timeout.http", ALSO_ROUTES),
    // Where no requests are served the field before says so.
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
    // Of routes the field before says so.
    field("spec.healthCheck.passive.consecutiveGatewayErrors", &[Http1Endpoints, Http2Endpoints, Routed, RoutedConnections, RoutedFlows]),
];

const BY_REQUEST: &[Way] = &[Http, Https];
const BY_CONNECTION: &[Way] = &[Tcp, EndedTls, Passthrough];
const CONNECTIONS: &[Way] = &[Tcp, EndedTls, Passthrough, Http, Https];

/// Of `XBackendTrafficPolicy`.
const X_BACKEND: &[Field] = &[limit("spec.retryConstraint", REQUESTS), field("spec.sessionPersistence", REQUESTS)];

/// Of `ClientTrafficPolicy`.
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
    field("spec.tls", &[EndedTls, Https]),
];

impl Compiler<'_> {
    /// Notes that a policy counts for something. `why` says of it how it is served.
    pub(super) fn counts(&mut self, policy: Option<&Arc<Object>>, way: Way, what: String, why: impl Into<String>) {
        if let Some(policy) = policy {
            self.part.counted.push(Arc::new(Counted { policy: policy.key.clone(), way, what, why: why.into() }));
        }
    }

    /// Tells of each field that is set and has no effect where its policy counts.
    pub(super) fn without_effect(&mut self, object: &Object, uses: &[&Counted]) {
        let fields = match &object.body {
            Body::BackendTrafficPolicy(_) => BACKEND,
            Body::ClientTrafficPolicy(_) => CLIENT,
            Body::XBackendTrafficPolicy(_) => X_BACKEND,
            _ => return,
        };
        // Most policies set few of them, and by its text that is known sooner than by a tree that is made of it.
        let text = object.value.json();
        let mentions = |name: &str| text.contains(&format!("\"{name}\":"));
        let fields: Vec<&Field> = fields.iter().filter(|field| field.path.split('.').nth(1).is_some_and(mentions)).collect();
        if fields.is_empty() && !mentions("hash") {
            return;
        }
        let faults = &mut self.part.policy_faults[1];
        let tree = object.value.tree();
        for field in fields.into_iter().filter(|field| is_set(&tree, field.path)) {
            idle(object, field.path, uses, field.ways, field.limits, faults);
        }
        let hash = tree.pointer("/spec/loadBalancer/hash/type").and_then(Value::as_str);
        if matches!(hash, Some("Header" | "Cookie" | "Path")) {
            idle(object, "spec.loadBalancer.hash", uses, ALSO_ROUTES, false, faults);
        }
    }
}

/// A field of a policy that counts for `uses`, and has an effect where they are served in one of `ways`.
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

/// Whether the object says anything there; `[]` does, `{}` does not.
fn is_set(tree: &Value, path: &str) -> bool {
    match tree.pointer(&format!("/{}", path.replace('.', "/"))) {
        None | Some(Value::Null) => false,
        Some(Value::Object(fields)) => fields.values().any(|value| !value.is_null() && value.as_object().is_none_or(|f| !f.is_empty())),
        Some(_) => true,
    }
}
