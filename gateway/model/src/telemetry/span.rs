//! The spans of an exchange: that of the server, that of the decision, and one for each try at an endpoint. They are made only if the exchange is recorded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::trace_context::TraceContext;

/// An exchange, as it is told of in a trace. Times count from `begun`.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The trace, and the server's span.
    pub context: TraceContext,
    /// The span that the client named as its own.
    pub parent: Option<u64>,
    /// The field `tracestate`, which goes on as it came.
    pub state: Option<String>,
    /// When the request's head had come, by the wall clock.
    pub wall: SystemTime,
    /// The same moment by the clock that only goes forward.
    pub begun: Instant,
    /// When the exchange had ended.
    pub took: Duration,
    /// The request, as its client sent it.
    pub request: Asked,
    /// The client's address, as `clientIPDetection` finds it.
    pub client: IpAddr,
    /// The address of whoever has connected.
    pub peer: SocketAddr,
    /// The address that it has connected to.
    pub local: SocketAddr,
    /// The listener's name.
    pub listener: String,
    /// Where it was led; none: nowhere.
    pub way: Option<Way>,
    /// When it was decided where the first try goes.
    pub decided: Option<Duration>,
    /// The tries at endpoints.
    pub tries: Vec<Try>,
    /// The response's status; none: there was no response.
    pub status: Option<u16>,
    /// The status of a gRPC call, if one was told.
    pub grpc_status: Option<u16>,
    /// Why the gateway answered itself, or why the exchange ended early.
    pub reason: Option<&'static str>,
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The path, without the query.
    pub path: String,
    /// The host, with the port if one was named.
    pub host: Option<String>,
    /// The version of HTTP: `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// The field `User-Agent`.
    pub user_agent: Option<String>,
    /// Whether it is a gRPC call.
    pub is_call: bool,
}

/// Where an exchange was led, and by what.
#[derive(Clone, Debug)]
pub struct Way {
    /// The service port, `namespace/name:port`.
    pub service: String,
    /// The name of the rule.
    pub rule: Option<String>,
    /// The part of the path that the rule's prefix has matched.
    pub route: Option<String>,
    /// The router's plugin and generation.
    pub router: Option<(Arc<str>, u64)>,
    /// The balancer's plugin and its live generation.
    pub balancer: Option<(Arc<str>, u64)>,
}

/// A try at an endpoint.
#[derive(Clone, Debug)]
pub struct Try {
    /// The try's span.
    pub span: u64,
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// When it was begun.
    pub from: Duration,
    /// When it had ended; none: with the exchange.
    pub to: Option<Duration>,
    /// The status of its response.
    pub status: Option<u16>,
    /// Why there was no response.
    pub error: Option<&'static str>,
}

impl Exchange {
    /// How long it has been under way.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A try at an endpoint begins. Returns its context, which the endpoint is told.
    pub fn trying(&mut self, span: u64, endpoint: SocketAddr) -> TraceContext {
        let now = self.now();
        self.ended_try(now);
        self.decided.get_or_insert(now);
        self.tries.push(Try { span, endpoint, from: now, to: None, status: None, error: None });
        TraceContext { span, ..self.context }
    }

    /// The last try has ended, if it had not.
    pub fn ended_try(&mut self, now: Duration) {
        if let Some(last) = self.tries.last_mut() {
            last.to.get_or_insert(now);
        }
    }

    /// The last try failed.
    pub fn failed_try(&mut self, error: &'static str) {
        let now = self.now();
        if let Some(last) = self.tries.last_mut() {
            (last.to, last.error) = (Some(now), Some(error));
        }
    }
}
