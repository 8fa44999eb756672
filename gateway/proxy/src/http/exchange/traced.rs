//! An exchange's place in a trace, and what is recorded of it. Where no traces are made there is only an empty variant; of an exchange that is not recorded
//! only what endpoints are told. What is recorded is a plain value in a box, which goes to the exporter when the exchange has ended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, Version, header};
use sluicegate_model::telemetry::span::{Asked, Exchange, Way};
use sluicegate_model::telemetry::{Sampling, Tracer, kept, new_span};
use sluicegate_model::trace_context::TraceContext;

use super::Routed;
use super::peer::Peer;
use crate::http::rules::deferred::Deferred;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// An exchange's place in a trace.
#[derive(Default)]
pub(in crate::http) enum Traced {
    /// There are no traces, or what came goes on as it is.
    #[default]
    Passed,
    /// It is not recorded, and endpoints are told so.
    Unrecorded(TraceContext),
    /// It is recorded.
    Recorded(Recording),
}

/// What is recorded of an exchange. It is handed over when it is dropped, wherever the exchange ends.
pub(in crate::http) struct Recording {
    exchange: Option<Box<Exchange>>,
    to: Arc<Tracer>,
}

impl Traced {
    /// Decides whether an exchange is recorded, before anything in its request is changed. `peer`: who has connected. `begun`: when the request's head had come.
    pub(in crate::http) fn of<B>(
        tracer: &Arc<Tracer>,
        request: &mut Deferred<'_, '_, B>,
        peer: &Peer,
        begun: Instant,
        listener: &str,
    ) -> Self {
        let parent = request.trace_parent();
        match tracer.sample(parent) {
            Sampling::Passed => Self::Passed,
            Sampling::Unrecorded(context) => Self::Unrecorded(context),
            Sampling::Recorded(context) => {
                let exchange = recorded(context, parent, request, peer, begun, listener);
                Self::Recorded(Recording { exchange: Some(exchange), to: tracer.clone() })
            }
        }
    }

    /// The trace and the server's span, if the exchange is recorded.
    pub(in crate::http) fn context(&self) -> Option<TraceContext> {
        match self {
            Self::Recorded(recording) => recording.exchange.as_ref().map(|exchange| exchange.context),
            Self::Passed | Self::Unrecorded(_) => None,
        }
    }

    /// The trace, and the server's span if the exchange is recorded.
    pub(in crate::http) fn told(&self) -> Option<TraceContext> {
        match self {
            Self::Unrecorded(context) => Some(*context),
            Self::Passed | Self::Recorded(_) => self.context(),
        }
    }

    /// What is recorded, if anything is.
    fn exchange(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Recorded(recording) => recording.exchange.as_deref_mut(),
            Self::Passed | Self::Unrecorded(_) => None,
        }
    }

    /// The client is known.
    pub(in crate::http) fn arrived(&mut self, client: IpAddr) {
        if let Some(exchange) = self.exchange() {
            exchange.client = client;
        }
    }

    /// The exchange goes to a service.
    pub(in crate::http) fn routed(&mut self, routed: &Routed<'_>) {
        if let Some(exchange) = self.exchange() {
            exchange.way = Some(way(routed, &exchange.request.path));
        }
    }

    /// A try at an endpoint begins. Returns what the endpoint is told.
    pub(in crate::http) fn trying(&mut self, endpoint: SocketAddr) -> Option<TraceContext> {
        match self {
            Self::Passed => None,
            Self::Unrecorded(context) => Some(*context),
            Self::Recorded(recording) => recording.exchange.as_mut().map(|exchange| exchange.trying(new_span(), endpoint)),
        }
    }

    /// The endpoint has answered the try. `fields`: gives those of the response, if it is a call.
    pub(in crate::http) fn tried<'f>(&mut self, status: StatusCode, fields: impl FnOnce() -> &'f HeaderMap) {
        if let Some(exchange) = self.exchange() {
            if let Some(last) = exchange.tries.last_mut() {
                last.status = Some(status.as_u16());
            }
            if exchange.request.is_call {
                exchange.grpc_status = grpc_status(fields());
            }
        }
    }

    /// The try has failed.
    pub(in crate::http) fn failed(&mut self, error: &'static str) {
        if let Some(exchange) = self.exchange() {
            exchange.failed_try(error);
        }
    }

    /// The try's response is not wanted.
    pub(in crate::http) fn left(&mut self) {
        if let Some(exchange) = self.exchange() {
            let now = exchange.now();
            exchange.ended_try(now);
        }
    }

    /// Why the gateway answers itself.
    pub(in crate::http) fn refused(&mut self, reason: &'static str) {
        if let Some(exchange) = self.exchange() {
            exchange.reason = Some(reason);
            let now = exchange.now();
            if let Some(last) = exchange.tries.last_mut().filter(|last| last.to.is_none()) {
                last.to = Some(now);
                if last.status.is_none() {
                    last.error = Some(reason);
                }
            }
        }
    }

    /// The response goes to the client. What is recorded goes with it.
    pub(in crate::http) fn answered<'f>(mut self, status: StatusCode, fields: impl FnOnce() -> &'f HeaderMap) -> Option<Recording> {
        if let Some(exchange) = self.exchange() {
            exchange.status = Some(status.as_u16());
            if exchange.request.is_call && exchange.grpc_status.is_none() {
                exchange.grpc_status = grpc_status(fields());
            }
        }
        match self {
            Self::Recorded(recording) => Some(recording),
            Self::Passed | Self::Unrecorded(_) => None,
        }
    }
}

impl Recording {
    /// The response ended early.
    pub(in crate::http) fn broke(&mut self, reason: &'static str) {
        if let Some(exchange) = &mut self.exchange {
            exchange.reason.get_or_insert(reason);
            if let Some(last) = exchange.tries.last_mut() {
                last.error.get_or_insert(reason);
            }
        }
    }

    /// The trailers of the response have come.
    pub(in crate::http) fn trailers(&mut self, fields: &HeaderMap) {
        if let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.request.is_call) {
            exchange.grpc_status = grpc_status(fields).or(exchange.grpc_status);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.took = exchange.now();
            // Whoever asked is gone: the exchange was given up on the way.
            if exchange.status.is_none() {
                exchange.reason.get_or_insert("client-gone");
            }
            self.to.put(exchange);
        }
    }
}

fn recorded<B>(
    context: TraceContext,
    parent: Option<TraceContext>,
    request: &Deferred<'_, '_, B>,
    peer: &Peer,
    begun: Instant,
    listener: &str,
) -> Box<Exchange> {
    let text = |name: HeaderName| request.headers().get(name).map(|value| kept(&String::from_utf8_lossy(value.as_bytes())));
    let uri = request.uri();
    let authority = uri.authority().map(|authority| kept(authority.as_str()));
    let asked = Asked {
        method: kept(request.method().as_str()),
        scheme: peer.scheme(),
        path: kept(uri.path()),
        host: authority.or_else(|| text(header::HOST)),
        version: match request.version() {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        },
        user_agent: text(header::USER_AGENT),
        is_call: request.is_call(),
    };
    Box::new(Exchange {
        context,
        parent: parent.map(|parent| parent.span),
        state: parent.and_then(|_| text(TRACESTATE)),
        wall: SystemTime::now().checked_sub(begun.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
        begun,
        took: begun.elapsed(),
        request: asked,
        client: peer.address.ip(),
        peer: peer.address,
        local: peer.listener,
        listener: listener.to_owned(),
        way: None,
        decided: None,
        tries: Vec::with_capacity(1),
        status: None,
        grpc_status: None,
        reason: None,
    })
}

fn way(routed: &Routed<'_>, path: &str) -> Way {
    let matched = routed.matched.as_ref();
    let generation = |generation: &sluicegate_model::plugin::Generation| (generation.plugin.clone(), generation.number);
    let route = matched.and_then(|matched| path.get(..matched.choice.matched_prefix)).filter(|route| !route.is_empty());
    Way {
        service: routed.service.id.to_string(),
        rule: matched.and_then(|matched| matched.rule.name.clone()),
        route: route.map(str::to_owned),
        router: matched.map(|matched| generation(matched.rung.generation.generation())),
        balancer: routed.service.balancers.first().map(|balancer| generation(balancer.generation())),
    }
}

fn grpc_status(fields: &HeaderMap) -> Option<u16> {
    fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}
