//! Content in flight, part by part; no box, no copy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use sluicegate_model::stats::{ServiceStats, add};
use tokio::sync::mpsc::{Receiver, Sender};

use super::client::Reader;
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
    /// A mirror's copy fell behind, or the original was cut off: a shortened copy must not look whole.
    #[error("the copy of the request was cut off")]
    Copy,
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
    /// The same, with copies going to mirrors.
    Teed(&'c mut Reader, Vec<Sender<Copied>>),
    /// Such a copy, and how long the original says it is.
    Copy(Receiver<Copied>, Framing),
    Empty,
}

impl RequestBody<'_> {
    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match self {
            Self::Client(reader) => reader.poll_part(context),
            Self::Teed(reader, copies) => {
                let polled = reader.poll_part(context);
                match &polled {
                    Poll::Ready(Some(Ok(part))) => {
                        // A full queue drops its sender: a slow mirror never slows the request.
                        if let Part::Data(data) = part {
                            copies.retain(|to| to.try_send(Copied::Part(data.clone())).is_ok());
                        }
                        if reader.is_end() {
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
            Self::Client(reader) | Self::Teed(reader, _) => reader.is_end(),
            Self::Copy(..) => false,
            Self::Empty => true,
        }
    }

    /// How long all of it is.
    pub(crate) fn framing(&self) -> Framing {
        match self {
            Self::Client(reader) | Self::Teed(reader, _) => reader.framing(),
            Self::Copy(_, framing) => *framing,
            Self::Empty => Framing::Length(0),
        }
    }

    /// Ready when nobody waits for the answer any more.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Client(reader) | Self::Teed(reader, _) => reader.poll_gone(context),
            Self::Copy(..) | Self::Empty => Poll::Pending,
        }
    }

    /// How many bytes of it were taken from the client.
    pub(crate) fn taken(&self) -> u64 {
        match self {
            Self::Client(reader) | Self::Teed(reader, _) => reader.taken(),
            Self::Copy(..) | Self::Empty => 0,
        }
    }

    /// Passes an interim response on to who sent the request.
    pub(crate) fn interim(&mut self, response: &Response<()>, context: &mut Context<'_>) {
        if let Self::Client(reader) | Self::Teed(reader, _) = self {
            reader.interim(response, context);
        }
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
    /// The endpoint counts as busy until here.
    pub(crate) busy: Busy,
}

impl Returns {
    fn check_in(self, bytes_in: u64) {
        let ended = self.tally.end(bytes_in);
        self.upstreams.check_in(self.address, self.connection, ended);
        drop(self.busy);
    }
}

/// A response's content on its way to the client.
pub(crate) struct ResponseBody<'c>(Content<'c>);

enum Content<'c> {
    /// As the endpoint sends it, while the rest of the request goes there; none: it has ended.
    Endpoint { returns: Option<Returns>, request: RequestBody<'c>, framing: Framing },
    /// Our own.
    Whole(Bytes),
}

impl<'c> ResponseBody<'c> {
    pub(crate) fn endpoint(framing: Framing, request: RequestBody<'c>, returns: Returns) -> Self {
        if !returns.connection.is_end() {
            return Self(Content::Endpoint { returns: Some(returns), request, framing });
        }
        returns.check_in(request.taken());
        Self(Content::Endpoint { returns: None, request, framing })
    }

    /// One of our own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Content::Whole(bytes))
    }

    pub(crate) fn is_own(&self) -> bool {
        matches!(self.0, Content::Whole(_))
    }

    /// How long all of it is.
    pub(crate) fn framing(&self) -> Framing {
        match &self.0 {
            Content::Endpoint { framing, .. } => *framing,
            Content::Whole(bytes) => Framing::Length(bytes.len() as u64),
        }
    }

    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match &mut self.0 {
            Content::Endpoint { returns, request, .. } => {
                let Some(Returns { connection, tally, .. }) = returns else { return Poll::Ready(None) };
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
        if let Content::Endpoint { returns, request, .. } = &mut self.0
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
        self.end(false);
    }
}
