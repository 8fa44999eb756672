//! Content in flight, part by part; no box, no copy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use sluicegate_model::slots::Slot;
use sluicegate_model::stats::{ServiceStats, add, count};
use tokio::sync::mpsc::{Receiver, Sender};

use super::client::Reader;
use super::deadline::Deadline;
use super::headers::strip_hop_by_hop;
use super::kept::Kept;
use super::limit::Limited;
use crate::access::Entry;
use crate::h1::{Framing, Malformed, Part};
use crate::tcp::Busy;
use crate::upstream::{Connection, Upstreams};

/// Why content ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client is gone")]
    ClientGone,
    #[error("the client's request: {0}")]
    Client(Malformed),
    #[error("the endpoint's response: {0}")]
    Endpoint(Malformed),
    #[error("the endpoint's connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("the request did not come in time")]
    Late,
    #[error("the request has more content than it may have")]
    TooLarge,
    #[error("the exchange took longer than it may")]
    TooLong,
    /// A mirror's copy fell behind, or the original was cut off: a shortened copy must not look whole.
    #[error("the copy of the request was cut off")]
    Copy,
}

impl BodyError {
    /// For the access log.
    fn word(&self) -> &'static str {
        match self {
            Self::ClientGone => "client-gone",
            Self::Client(_) => "bad-content",
            Self::Late => "slow-request",
            Self::TooLarge => "large-content",
            Self::TooLong => "timeout",
            Self::Endpoint(_) | Self::Io(_) | Self::Copy => "upstream-broke",
        }
    }
}

/// A part of a mirrored body.
pub(crate) enum Copied {
    Part(Bytes),
    End,
}

/// A request's content on its way to an endpoint.
pub(crate) enum RequestBody<'c> {
    /// As the client sends it.
    Client(&'c mut Reader),
    /// One of these, with copies going to mirrors.
    Teed(Box<(RequestBody<'c>, Vec<Sender<Copied>>)>),
    /// One that may not be too long.
    Limited(Box<Limited<'c>>),
    /// One that can be sent again.
    Kept(Box<Kept<'c>>),
    /// Such a copy, and how long the original says it is.
    Copy(Receiver<Copied>, Framing),
    Empty,
}

impl RequestBody<'_> {
    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match self {
            Self::Client(reader) => reader.poll_part(context),
            Self::Limited(limited) => limited.poll_part(context),
            Self::Kept(kept) => kept.poll_part(context),
            Self::Teed(teed) => {
                let (original, copies) = &mut **teed;
                let polled = original.poll_part(context);
                match &polled {
                    Poll::Ready(Some(Ok(part))) => {
                        // A full queue drops its sender: a slow mirror never slows the request.
                        if let Part::Data(data) = part {
                            copies.retain(|to| to.try_send(Copied::Part(data.clone())).is_ok());
                        }
                        if original.is_end() {
                            copies.drain(..).for_each(|to| drop(to.try_send(Copied::End)));
                        }
                    }
                    Poll::Ready(None) => copies.drain(..).for_each(|to| drop(to.try_send(Copied::End))),
                    Poll::Ready(Some(Err(_))) => copies.clear(),
                    Poll::Pending => {}
                }
                polled
            }
            Self::Copy(parts, _) => parts.poll_recv(context).map(|part| match part {
                Some(Copied::Part(data)) => Some(Ok(Part::Data(data))),
                Some(Copied::End) => None,
                None => Some(Err(BodyError::Copy)),
            }),
            Self::Empty => Poll::Ready(None),
        }
    }

    /// Whether there is no more of it.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Client(reader) => reader.is_end(),
            Self::Teed(teed) => teed.0.is_end(),
            Self::Limited(limited) => limited.of.is_end(),
            Self::Kept(kept) => kept.is_end(),
            Self::Copy(..) => false,
            Self::Empty => true,
        }
    }

    /// How long all of it is.
    pub(crate) fn framing(&self) -> Framing {
        match self {
            Self::Client(reader) => reader.framing(),
            Self::Teed(teed) => teed.0.framing(),
            Self::Limited(limited) => limited.of.framing(),
            Self::Kept(kept) => kept.of().framing(),
            Self::Copy(_, framing) => *framing,
            Self::Empty => Framing::Length(0),
        }
    }

    /// Ready when nobody waits for the answer any more.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Client(reader) => reader.poll_gone(context),
            Self::Teed(teed) => teed.0.poll_gone(context),
            Self::Limited(limited) => limited.of.poll_gone(context),
            Self::Kept(kept) => kept.of_mut().poll_gone(context),
            Self::Copy(..) | Self::Empty => Poll::Pending,
        }
    }

    /// How many bytes of it were taken from the client.
    pub(crate) fn taken(&self) -> u64 {
        match self {
            Self::Client(reader) => reader.taken(),
            Self::Teed(teed) => teed.0.taken(),
            Self::Limited(limited) => limited.of.taken(),
            Self::Kept(kept) => kept.of().taken(),
            Self::Copy(..) | Self::Empty => 0,
        }
    }

    /// Passes an interim response on to who sent the request.
    pub(crate) fn interim(&mut self, response: &Response<()>, context: &mut Context<'_>) {
        match self {
            Self::Client(reader) => {
                let mut passed = response.clone();
                strip_hop_by_hop(passed.headers_mut());
                reader.interim(&passed, context);
            }
            Self::Teed(teed) => teed.0.interim(response, context),
            Self::Limited(limited) => limited.of.interim(response, context),
            Self::Kept(kept) => kept.of_mut().interim(response, context),
            Self::Copy(..) | Self::Empty => {}
        }
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn can_rewind(&self) -> bool {
        match self {
            Self::Kept(kept) => kept.is_whole(),
            Self::Empty => true,
            // Nothing of it has been taken, or there is nothing.
            other => other.framing() == Framing::Length(0) || (other.taken() == 0 && !other.is_end()),
        }
    }

    /// From the beginning again.
    pub(super) fn rewind(&mut self) {
        if let Self::Kept(kept) = self {
            kept.rewind();
        }
    }

    /// It will not be sent again.
    pub(super) fn release(self) -> Self {
        if let Self::Kept(kept) = self { kept.release() } else { self }
    }
}

/// What one exchange adds to its service's figures when it has ended.
pub(crate) struct Tally {
    pub(crate) stats: Arc<ServiceStats>,
    /// When the request's head had come.
    pub(crate) begun: Instant,
    /// When the last byte of the response came, as far as is known without a look at the clock.
    pub(crate) ended: Option<Instant>,
    pub(crate) bytes_out: u64,
}

impl Tally {
    /// `bytes_in`: what of the request's content was taken. Returns the end.
    fn end(self, bytes_in: u64) -> Instant {
        let ended = self.ended.unwrap_or_else(Instant::now);
        self.stats.exchange_time.observe(ended - self.begun);
        add(&self.stats.bytes_in, bytes_in);
        add(&self.stats.bytes_out, self.bytes_out);
        ended
    }
}

/// Where a connection goes when the response has been read to its end; dropped before that, it is closed.
pub(crate) struct Returns {
    pub(crate) address: SocketAddr,
    pub(crate) connection: Box<Connection>,
    /// Where it is kept.
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) tally: Tally,
    /// When all of the response must have come.
    pub(crate) deadline: Option<Deadline>,
    /// The endpoint counts as busy until here,
    pub(crate) busy: Busy,
    /// and the exchange as under way, where a breaker counts it.
    pub(crate) _place: Option<Slot>,
}

impl Returns {
    fn check_in(self, bytes_in: u64) {
        let ended = self.tally.end(bytes_in);
        self.upstreams.check_in(self.address, self.connection, ended);
        drop(self.busy);
    }
}

/// A response's content on its way to the client.
pub(crate) struct ResponseBody<'c> {
    content: Content<'c>,
    /// Of the access log; its line is written when the response is over.
    entry: Option<Box<Entry>>,
}

enum Content<'c> {
    /// As the endpoint sends it, while the rest of the request goes there; none: it has ended.
    Endpoint { returns: Option<Returns>, request: RequestBody<'c>, framing: Framing },
    /// Our own.
    Whole(Bytes),
}

impl<'c> ResponseBody<'c> {
    pub(crate) fn endpoint(framing: Framing, request: RequestBody<'c>, returns: Returns) -> Self {
        if !returns.connection.is_end() {
            return Self { content: Content::Endpoint { returns: Some(returns), request, framing }, entry: None };
        }
        returns.check_in(request.taken());
        Self { content: Content::Endpoint { returns: None, request, framing }, entry: None }
    }

    /// One of our own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), entry: None }
    }

    /// Has a line written when it is over.
    pub(crate) fn log(&mut self, entry: Box<Entry>) {
        self.entry = Some(entry);
    }

    /// All of it must have come by then.
    pub(super) fn until(&mut self, by: Option<Deadline>) {
        if let Content::Endpoint { returns: Some(returns), .. } = &mut self.content {
            returns.deadline = by;
        }
    }

    pub(crate) fn is_own(&self) -> bool {
        matches!(self.content, Content::Whole(_))
    }

    /// How long all of it is.
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
                Poll::Ready(Some(Err(error))) => entry.reason = Some(error.word()),
                _ => {}
            }
        }
        polled
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match &mut self.content {
            Content::Endpoint { returns, request, .. } => {
                let Some(Returns { connection, tally, deadline, .. }) = returns else { return Poll::Ready(None) };
                if deadline.as_mut().is_some_and(|d| d.has_passed(context)) {
                    count(&tally.stats.refused.cut_off);
                    self.end(false);
                    return Poll::Ready(Some(Err(BodyError::TooLong)));
                }
                let polled = connection.poll_part(request, context);
                match &polled {
                    Poll::Ready(Some(Ok(part))) => {
                        if let Part::Data(data) = part {
                            tally.bytes_out += data.len() as u64;
                        }
                        if connection.is_end() {
                            self.end(true);
                        }
                    }
                    Poll::Ready(None) if connection.is_end() => self.end(true),
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(Err(_))) => self.end(false),
                    Poll::Pending => {
                        tally.ended = None;
                        if request.poll_gone(context).is_ready() {
                            self.end(false);
                            return Poll::Ready(Some(Err(BodyError::ClientGone)));
                        }
                    }
                }
                polled
            }
            Content::Whole(bytes) => Poll::Ready((!bytes.is_empty()).then(|| Ok(Part::Data(std::mem::take(bytes))))),
        }
    }

    /// The endpoint's part is over: its connection serves again if all of the response came, and closes if not.
    fn end(&mut self, whole: bool) {
        if let Content::Endpoint { returns, request, .. } = &mut self.content
            && let Some(returns) = returns.take()
        {
            if whole {
                returns.check_in(request.taken());
            } else {
                returns.tally.end(request.taken());
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
        self.end(false);
    }
}
