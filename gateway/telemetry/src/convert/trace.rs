//! The spans of exchanges, by the semantic conventions of OpenTelemetry for HTTP, for RPC and for networks.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use sluicegate_model::telemetry::span::{Exchange, Try, Way};

use super::{Scope, after, attribute, nanos, number};
use crate::export::Message;

/// Flags of a span: the low byte is that of `traceparent`; it is known whether the parent is another process's (0x100), and it is (0x200).
const SAMPLED: u32 = 0x01;
const LOCAL_PARENT: u32 = 0x100;
const REMOTE_PARENT: u32 = 0x300;

/// The methods that RFC 9110 and RFC 5789 define. Others are `_OTHER`, so that clients do not make up values.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

#[expect(clippy::vec_box, reason = "they are handed over in boxes, and it would be a copy to take them out")]
pub(crate) fn request(scope: &Scope, exchanges: Vec<Box<Exchange>>) -> Message {
    let size = exchanges.len() as u64;
    let spans = exchanges.iter().flat_map(|exchange| spans(exchange)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope.scope.clone()), spans, ..ScopeSpans::default() }];
    let all = ResourceSpans { resource: Some(scope.resource.clone()), scope_spans, ..ResourceSpans::default() };
    let bytes = Bytes::from(ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec());
    Message { method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export", bytes, size, refused }
}

fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportTraceServiceResponse::decode(answer).ok()?.partial_success?;
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
    (rejected > 0).then_some((rejected, partial.error_message))
}

/// The server's span, that of the decision, and those of the tries.
pub(super) fn spans(exchange: &Exchange) -> Vec<Span> {
    let mut all = vec![server(exchange), decision(exchange)];
    all.extend(exchange.tries.iter().enumerate().map(|(number, one)| client(exchange, number, one)));
    all
}

fn base(exchange: &Exchange, span: u64, parent: Option<u64>, from: u64, to: u64) -> Span {
    Span {
        trace_id: exchange.context.trace.to_be_bytes().to_vec(),
        span_id: span.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: exchange.state.clone().unwrap_or_default(),
        flags: SAMPLED | LOCAL_PARENT,
        start_time_unix_nano: from,
        end_time_unix_nano: to.max(from),
        ..Span::default()
    }
}

fn server(exchange: &Exchange) -> Span {
    let from = nanos(exchange.wall);
    let asked = &exchange.request;
    let mut attributes = method(exchange);
    attributes.push(attribute("url.path", &asked.path));
    attributes.push(attribute("url.scheme", asked.scheme));
    let (host, port) = host(exchange);
    attributes.extend(host.map(|host| attribute("server.address", host)));
    attributes.push(number("server.port", port));
    attributes.push(attribute("client.address", exchange.client.to_canonical().to_string()));
    attributes.push(attribute("network.peer.address", exchange.peer.ip().to_canonical().to_string()));
    attributes.push(number("network.peer.port", exchange.peer.port()));
    attributes.push(attribute("network.local.address", exchange.local.ip().to_canonical().to_string()));
    attributes.push(number("network.local.port", exchange.local.port()));
    attributes.push(attribute("network.protocol.name", "http"));
    attributes.push(attribute("network.protocol.version", asked.version));
    attributes.extend(asked.user_agent.as_ref().map(|agent| attribute("user_agent.original", agent)));
    attributes.extend(exchange.way.as_ref().and_then(|way| Some(attribute("http.route", way.route.as_ref()?))));
    attributes.extend(exchange.status.map(|status| number("http.response.status_code", status)));
    attributes.extend(rpc(exchange, exchange.grpc_status));
    attributes.push(attribute("sluicegate.listener", &exchange.listener));
    attributes.extend(exchange.way.iter().flat_map(led));
    attributes.extend(exchange.reason.map(|reason| attribute("sluicegate.reason", reason)));
    attributes.push(number("sluicegate.attempts", i64::try_from(exchange.tries.len()).unwrap_or(i64::MAX)));
    // A server's span fails by what is the server's fault: 5xx, or no response at all.
    let failed = exchange.status.is_none_or(|status| status >= 500) || exchange.grpc_status.is_some_and(is_server_error);
    let error = failed.then(|| exchange.reason.map_or_else(|| said(exchange.status), str::to_owned));
    attributes.extend(error.iter().map(|error| attribute("error.type", error)));
    let remote = if exchange.parent.is_some() { REMOTE_PARENT } else { LOCAL_PARENT };
    Span {
        name: name(exchange),
        kind: SpanKind::Server.into(),
        attributes,
        status: status(error),
        flags: SAMPLED | remote,
        ..base(exchange, exchange.context.span, exchange.parent, from, from.saturating_add(after(exchange.took)))
    }
}

/// Its name need not be random: it is the server's, turned over, as no other span of the exchange has it.
fn decision(exchange: &Exchange) -> Span {
    let from = nanos(exchange.wall);
    let to = from.saturating_add(after(exchange.decided.unwrap_or(exchange.took)));
    let mut attributes: Vec<KeyValue> = exchange.way.iter().flat_map(led).collect();
    if let Some(way) = &exchange.way {
        attributes.extend(plugin("router", &way.router));
        attributes.extend(plugin("balancer", &way.balancer));
    }
    attributes.extend(exchange.tries.first().map(|first| attribute("sluicegate.endpoint", first.endpoint.to_string())));
    let undecided = exchange.decided.is_none();
    attributes.extend(exchange.reason.filter(|_| undecided).map(|reason| attribute("sluicegate.reason", reason)));
    Span {
        name: "decision".to_owned(),
        kind: SpanKind::Internal.into(),
        attributes,
        ..base(exchange, !exchange.context.span | 1, Some(exchange.context.span), from, to)
    }
}

fn client(exchange: &Exchange, number_of: usize, one: &Try) -> Span {
    let wall = nanos(exchange.wall);
    let (from, to) = (wall.saturating_add(after(one.from)), wall.saturating_add(after(one.to.unwrap_or(exchange.took))));
    let mut attributes = method(exchange);
    attributes.push(attribute("server.address", one.endpoint.ip().to_string()));
    attributes.push(number("server.port", one.endpoint.port()));
    attributes.push(attribute("network.peer.address", one.endpoint.ip().to_string()));
    attributes.push(number("network.peer.port", one.endpoint.port()));
    attributes.push(attribute("network.transport", "tcp"));
    attributes.push(attribute("url.path", &exchange.request.path));
    if number_of > 0 {
        attributes.push(number("http.request.resend_count", i64::try_from(number_of).unwrap_or(i64::MAX)));
    }
    attributes.extend(one.status.map(|status| number("http.response.status_code", status)));
    let last = number_of + 1 == exchange.tries.len();
    attributes.extend(rpc(exchange, exchange.grpc_status.filter(|_| last)));
    attributes.push(attribute("sluicegate.endpoint", one.endpoint.to_string()));
    attributes.extend(exchange.way.as_ref().map(|way| attribute("sluicegate.service", &way.service)));
    // A client's span fails by 4xx, too.
    let failed = one.status.is_none_or(|status| status >= 400) || (last && exchange.grpc_status.is_some_and(|code| code != 0));
    let error = failed.then(|| one.error.map_or_else(|| said(one.status), str::to_owned));
    attributes.extend(error.iter().map(|error| attribute("error.type", error)));
    Span {
        name: name(exchange),
        kind: SpanKind::Client.into(),
        attributes,
        status: status(error),
        ..base(exchange, one.span, Some(exchange.context.span), from, to)
    }
}

/// A method and a route are what HTTP's spans are called by; a service and a method what those of calls are.
fn name(exchange: &Exchange) -> String {
    let asked = &exchange.request;
    if let (true, Some((service, method))) = (asked.is_call, called(&asked.path)) {
        return format!("{service}/{method}");
    }
    let method = if METHODS.contains(&asked.method.as_str()) { &asked.method } else { "HTTP" };
    match exchange.way.as_ref().and_then(|way| way.route.as_ref()) {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

fn method(exchange: &Exchange) -> Vec<KeyValue> {
    let method = &exchange.request.method;
    if METHODS.contains(&method.as_str()) {
        return vec![attribute("http.request.method", method)];
    }
    vec![attribute("http.request.method", "_OTHER"), attribute("http.request.method_original", method)]
}

/// The host that was asked for, and the port.
fn host(exchange: &Exchange) -> (Option<String>, u16) {
    let Some(host) = &exchange.request.host else { return (None, exchange.local.port()) };
    let port = host.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']'));
    let port = port.and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let default = if exchange.request.scheme == "https" { 443 } else { 80 };
    let (name, port) = port.unwrap_or((host, default));
    (Some(name.trim_start_matches('[').trim_end_matches(']').to_owned()), port)
}

/// What a gRPC call asks for, and its status.
fn rpc(exchange: &Exchange, status: Option<u16>) -> Vec<KeyValue> {
    if !exchange.request.is_call {
        return Vec::new();
    }
    let mut attributes = vec![attribute("rpc.system", "grpc")];
    if let Some((service, method)) = called(&exchange.request.path) {
        attributes.extend([attribute("rpc.service", service), attribute("rpc.method", method)]);
    }
    attributes.extend(status.map(|status| number("rpc.grpc.status_code", status)));
    attributes
}

fn called(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/').filter(|(service, method)| !service.is_empty() && !method.is_empty())
}

/// The statuses that are a server's fault by the conventions for gRPC.
fn is_server_error(code: u16) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

fn led(way: &Way) -> Vec<KeyValue> {
    let rule = way.rule.iter().map(|rule| attribute("sluicegate.rule", rule));
    std::iter::once(attribute("sluicegate.service", &way.service)).chain(rule).collect()
}

fn plugin(kind: &str, of: &Option<(std::sync::Arc<str>, u64)>) -> Vec<KeyValue> {
    let Some((plugin, generation)) = of else { return Vec::new() };
    vec![
        attribute(&format!("sluicegate.{kind}.plugin"), &**plugin),
        number(&format!("sluicegate.{kind}.generation"), i64::try_from(*generation).unwrap_or(i64::MAX)),
    ]
}

fn said(status: Option<u16>) -> String {
    status.map_or_else(|| "_OTHER".to_owned(), |status| status.to_string())
}

fn status(error: Option<String>) -> Option<Status> {
    error.map(|_| Status { code: StatusCode::Error.into(), ..Status::default() })
}
