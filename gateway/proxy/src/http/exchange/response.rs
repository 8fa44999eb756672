//! A response's content; and what is done with its connection, its figures and its line in the access log when it is over.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_model::health::Outcome;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::slots::Slot;
use sluicegate_model::stats::{EndpointStats, ServiceStats, add, count};
use sluicegate_model::trace_context::TraceContext;

use super::deadline::Deadline;
use super::grpc::Call;
use super::traced::Recording;
use crate::access::Entry;
use crate::endpoint::Busy;
use crate::h1::{Framing, Part};
use crate::http::body::RequestBody;
use crate::http::error::BodyError;
use crate::http::rules::trailers::Trailers;
use crate::http::upstream::{Link, Upstreams};

/// What one exchange adds to its service's figures when it has ended.
pub(crate) struct Account {
    pub(crate) stats: Arc<ServiceStats>,
    /// When the request's head had come.
    pub(crate) begun: Instant,
    /// When the last byte of the response came, if that is known without a look at the clock.
    pub(crate) ended: Option<Instant>,
    pub(crate) bytes_out: u64,
    /// The trace, if the exchange is recorded.
    pub(crate) trace: Option<Box<TraceContext>>,
}

impl Account {
    /// `bytes_in`: how much of the request's content was taken. Returns the end.
    fn end(self, bytes_in: u64) -> Instant {
        let ended = self.ended.unwrap_or_else(Instant::now);
        match &self.trace {
            None => self.stats.exchange_time.observe(ended - self.begun),
            Some(trace) => self.stats.exchange_time.observe_traced(ended - self.begun, **trace),
        }
        add(&self.stats.bytes_in, bytes_in);
        add(&self.stats.bytes_out, self.bytes_out);
        ended
    }
}

/// What is still to be told of an endpoint when its response has ended, for the rules that eject, as a head alone is not an answer. Balancers and averages were
/// told when the head came.
pub(crate) struct Watch {
    pub(crate) settings: Arc<BackendSettings>,
    /// The time until the response's head had come.
    pub(crate) latency: Duration,
}

impl Watch {
    fn served(&self, stats: &ServiceStats, endpoint: &EndpointStats) {
        if let Some(rules) = &self.settings.health.passive {
            stats.health.note(rules, &endpoint.health, Outcome::Served, self.latency);
        }
    }

    /// The response broke. That counts as a connection that is reset before the head does.
    fn broke(&self, stats: &ServiceStats, endpoint: &EndpointStats) {
        stats.observe(self.settings.health.passive.as_ref(), endpoint, Outcome::Unreachable, self.latency);
    }
}

/// Where a connection goes when the response has been read to its end. If it is dropped before that, it is closed.
pub(crate) struct Returns {
    pub(crate) address: SocketAddr,
    pub(crate) link: Link,
    /// Where the connection is kept afterwards.
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) account: Account,
    /// What is still to be told of the exchange; none: nothing.
    pub(crate) watch: Option<Watch>,
    /// When all of the response must have come.
    pub(crate) deadline: Option<Deadline>,
    /// The endpoint counts as busy until this is dropped.
    pub(crate) busy: Busy,
    /// The exchange counts as under way until this is dropped, where a breaker counts it.
    pub(crate) _place: Option<Slot>,
}

impl Returns {
    /// The endpoint's connection or stream broke before the end of the response.
    fn broke(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.broke(&self.account.stats, self.busy.endpoint());
        }
    }

    fn check_in(self, bytes_in: u64) {
        if let Some(watch) = &self.watch {
            watch.served(&self.account.stats, self.busy.endpoint());
        }
        let ended = self.account.end(bytes_in);
        self.upstreams.check_in(self.address, self.link, ended);
        drop(self.busy);
    }
}

/// A response's content on its way to the client.
pub(crate) struct ResponseBody<'c> {
    content: Content<'c>,
    /// The line in the access log, which is written when the response is over.
    entry: Option<Box<Entry>>,
    /// What is recorded for the exchange's trace, which ends when the response is over.
    recording: Option<Recording>,
}

#[expect(clippy::large_enum_variant, reason = "an endpoint's is the rule, and a box would be an allocation for each exchange")]
enum Content<'c> {
    /// The content as the endpoint sends it, while the rest of the request goes there; none: it has ended.
    Endpoint { returns: Option<Returns>, request: RequestBody<'c>, framing: Framing, call: Option<Box<Call>>, trailers: Trailers },
    /// Content of the gateway's own.
    Whole(Bytes),
}

impl<'c> ResponseBody<'c> {
    pub(crate) fn endpoint(framing: Framing, request: RequestBody<'c>, returns: Returns, call: Option<Box<Call>>) -> Self {
        if !returns.link.is_end() {
            let content = Content::Endpoint { returns: Some(returns), request, framing, call, trailers: Trailers::default() };
            return Self { content, entry: None, recording: None };
        }
        if let Some(mut call) = call {
            call.end();
        }
        returns.check_in(request.taken());
        let content = Content::Endpoint { returns: None, request, framing, call: None, trailers: Trailers::default() };
        Self { content, entry: None, recording: None }
    }

    /// A response with content of the gateway's own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), entry: None, recording: None }
    }

    /// Has a line written when the response is over.
    pub(crate) fn log(&mut self, entry: Box<Entry>) {
        self.entry = Some(entry);
    }

    /// Has what is recorded end when the response is over.
    pub(in crate::http) fn record(&mut self, recording: Recording) {
        self.recording = Some(recording);
    }

    /// Sets when all of it must have come.
    pub(in crate::http) fn until(&mut self, by: Option<Deadline>) {
        if let Content::Endpoint { returns: Some(returns), .. } = &mut self.content {
            returns.deadline = by;
        }
    }

    /// Whether trailers may follow the content.
    pub(in crate::http) fn may_end_in_trailers(&self) -> bool {
        matches!(self.content, Content::Endpoint { returns: Some(_), framing, .. } if framing != Framing::UntilClose)
    }

    /// Sets which trailers go on; before that none does.
    pub(in crate::http) fn pass_trailers(&mut self, passing: Trailers) {
        if let Content::Endpoint { trailers, .. } = &mut self.content {
            *trailers = passing;
        }
    }

    /// The content, if it is the gateway's own.
    pub(crate) fn own(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes),
            Content::Endpoint { .. } => None,
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_end(&self) -> bool {
        match &self.content {
            Content::Endpoint { returns, .. } => returns.is_none(),
            Content::Whole(bytes) => bytes.is_empty(),
        }
    }

    pub(crate) fn is_own(&self) -> bool {
        matches!(self.content, Content::Whole(_))
    }

    /// How long the whole content is.
    pub(crate) fn framing(&self) -> Framing {
        match &self.content {
            Content::Endpoint { framing, .. } => *framing,
            Content::Whole(bytes) => Framing::Length(bytes.len() as u64),
        }
    }

    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let polled = self.poll_content(context);
        if let Some(entry) = &mut self.entry {
            match &polled {
                Poll::Ready(Some(Ok(Part::Data(data)))) => entry.bytes_out += data.len() as u64,
                Poll::Ready(Some(Err(error))) => entry.reason = Some(error.label()),
                _ => {}
            }
        }
        if let (Some(recording), Poll::Ready(Some(Err(error)))) = (&mut self.recording, &polled) {
            recording.broke(error.label());
        }
        polled
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match &mut self.content {
            Content::Endpoint { returns, request, call, trailers, .. } => {
                let Some(Returns { link, account, deadline, .. }) = returns else { return Poll::Ready(None) };
                if deadline.as_mut().is_some_and(|d| d.has_passed(context)) {
                    count(&account.stats.refused.cut_off);
                    // gRPC can say so in trailers, if the client takes them.
                    let told = call.as_mut().filter(|_| trailers.any()).map(|call| Ok(Part::Trailers(call.too_late())));
                    self.end(false);
                    return Poll::Ready(Some(told.unwrap_or(Err(BodyError::TooLong))));
                }
                let mut polled = link.poll_part(request, context);
                if let Some(call) = call {
                    call.judge(&polled);
                }
                if let (Some(recording), Poll::Ready(Some(Ok(Part::Trailers(fields))))) = (&mut self.recording, &polled) {
                    recording.trailers(fields);
                }
                let nothing = if let Poll::Ready(Some(Ok(Part::Trailers(fields)))) = &mut polled {
                    trailers.filter(fields);
                    fields.is_empty()
                } else {
                    false
                };
                match &polled {
                    Poll::Ready(Some(Ok(part))) => {
                        if let Part::Data(data) = part {
                            account.bytes_out += data.len() as u64;
                        }
                        if link.is_end() {
                            self.end(true);
                        }
                    }
                    Poll::Ready(None) if link.is_end() => self.end(true),
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(Err(error))) => {
                        if error.is_endpoints()
                            && let Some(returns) = returns
                        {
                            returns.broke();
                        }
                        self.end(false);
                    }
                    Poll::Pending => {
                        account.ended = None;
                        if request.poll_gone(context).is_ready() {
                            self.end(false);
                            return Poll::Ready(Some(Err(BodyError::ClientGone)));
                        }
                    }
                }
                if nothing { Poll::Ready(None) } else { polled }
            }
            Content::Whole(bytes) => Poll::Ready((!bytes.is_empty()).then(|| Ok(Part::Data(std::mem::take(bytes))))),
        }
    }

    /// Sends the rest of the request while nobody takes the response, as an endpoint may go on only when it has read more of it.
    pub(crate) fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Content::Endpoint { returns: Some(returns), request, .. } = &mut self.content else { return Poll::Ready(Ok(())) };
        if returns.deadline.as_mut().is_some_and(|d| d.has_passed(context)) {
            return Poll::Ready(Err(BodyError::TooLong));
        }
        let polled = returns.link.poll_send(request, context);
        if let Poll::Ready(Err(error)) = &polled
            && error.is_endpoints()
        {
            returns.broke();
        }
        polled
    }

    /// The next bytes for the client of an upgraded exchange. The client's own go by [`poll_request`](Self::poll_request).
    pub(in crate::http) fn poll_tunnel(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let Content::Endpoint { returns: Some(returns), request, .. } = &mut self.content else { return Poll::Ready(None) };
        returns.account.ended = None;
        let polled = returns.link.poll_part(request, context);
        if let Poll::Ready(Some(Ok(Part::Data(data)))) = &polled {
            returns.account.bytes_out += data.len() as u64;
            if let Some(entry) = &mut self.entry {
                entry.bytes_out += data.len() as u64;
            }
        }
        polled
    }

    /// Both directions of an upgraded exchange have ended.
    pub(in crate::http) fn tunnelled(&mut self) {
        self.end(false);
    }

    /// The endpoint's part is over. Its connection serves again if the whole response came, and is closed if not.
    fn end(&mut self, whole: bool) {
        if let Content::Endpoint { returns, request, call, .. } = &mut self.content
            && let Some(returns) = returns.take()
        {
            if whole {
                if let Some(call) = call {
                    call.end();
                }
                returns.check_in(request.taken());
            } else {
                returns.account.end(request.taken());
            }
        }
    }
}

impl Drop for ResponseBody<'_> {
    /// Nobody reads on.
    fn drop(&mut self) {
        if let (Some(entry), Content::Endpoint { returns, request, .. }) = (&mut self.entry, &self.content) {
            entry.bytes_in = request.taken();
            if returns.is_some() {
                entry.reason.get_or_insert("client-gone");
            }
        }
        if let (Some(recording), Content::Endpoint { returns: Some(_), .. }) = (&mut self.recording, &self.content) {
            recording.broke("client-gone");
        }
        self.end(false);
    }
}
