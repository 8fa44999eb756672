//! What is known of one exchange or connection. When it is dropped, its line is written.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use sluicegate_model::route::ServiceRef;
use sluicegate_model::trace_context::TraceContext;

use super::buffer::Log;

/// What a line says. It is carried in a box, as most gateways have no log.
pub(crate) struct Entry {
    log: Rc<Log>,
    pub(super) kind: &'static str,
    pub(super) time: SystemTime,
    pub(super) begun: Instant,
    pub(crate) client: IpAddr,
    pub(super) listener: String,
    pub(super) request: Option<Asked>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(super) first_byte: Option<Duration>,
    pub(super) service: Option<String>,
    pub(super) rule: Option<String>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) attempts: u32,
    pub(crate) request_id: Option<HeaderValue>,
    /// The trace, and if it is recorded the server's span.
    pub(crate) trace: Option<TraceContext>,
}

/// A request as its client sent it. It clones shared bytes, so nothing is copied.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) host: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
}

impl Entry {
    pub(crate) fn new(log: &Rc<Log>, kind: &'static str, client: IpAddr, listener: &str) -> Box<Self> {
        Box::new(Self {
            log: log.clone(),
            kind,
            time: SystemTime::now(),
            begun: Instant::now(),
            client,
            listener: listener.to_owned(),
            request: None,
            status: None,
            reason: None,
            bytes_in: 0,
            bytes_out: 0,
            first_byte: None,
            service: None,
            rule: None,
            endpoint: None,
            attempts: 0,
            request_id: None,
            trace: None,
        })
    }

    /// Of an exchange, before anything in its request is changed.
    pub(crate) fn of<B>(log: &Rc<Log>, request: &Request<B>, client: IpAddr, listener: &str) -> Box<Self> {
        let mut entry = Self::new(log, "http", client, listener);
        entry.request = Some(Asked {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: request.headers().get(header::HOST).cloned(),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
        });
        entry
    }

    pub(crate) fn routed(&mut self, service: &ServiceRef, rule: Option<&str>) {
        (self.service, self.rule) = (Some(service.to_string()), rule.map(str::to_owned));
    }

    /// Notes that the response's head has come.
    pub(crate) fn answered(&mut self) {
        self.first_byte = Some(self.begun.elapsed());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.write(self);
    }
}
