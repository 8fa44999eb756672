//! Content in flight, part by part; no box, no copy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use tokio::sync::mpsc::{Receiver, Sender};

use super::client::Reader;
use crate::h1::{Framing, Malformed, Part};
use crate::tcp::Busy;
use crate::upstream::Connection;
use crate::worker::Shared;

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

    /// Passes an interim response on to who sent the request.
    pub(crate) fn interim(&mut self, response: &Response<()>, context: &mut Context<'_>) {
        if let Self::Client(reader) | Self::Teed(reader, _) = self {
            reader.interim(response, context);
        }
    }
}

/// Where a connection goes when the response has been read to its end; dropped before that, it is closed.
pub(crate) struct Returns {
    pub(crate) address: SocketAddr,
    pub(crate) connection: Box<Connection>,
    pub(crate) shared: Rc<Shared>,
    /// When the response's head came: near enough to when the connection becomes idle, and no second look at the clock.
    pub(crate) at: Instant,
    /// The endpoint counts as busy until here.
    pub(crate) busy: Busy,
}

impl Returns {
    fn check_in(self) {
        self.shared.upstreams.check_in(self.address, self.connection, self.at);
        drop(self.busy);
    }
}

/// A response's content on its way to the client.
pub(crate) enum ResponseBody<'c> {
    /// As the endpoint sends it, while the rest of the request goes there; none: it has ended.
    Endpoint { returns: Option<Returns>, request: RequestBody<'c>, framing: Framing },
    /// Our own.
    Whole(Bytes),
}

impl<'c> ResponseBody<'c> {
    pub(crate) fn endpoint(framing: Framing, request: RequestBody<'c>, returns: Returns) -> Self {
        if !returns.connection.is_end() {
            return Self::Endpoint { returns: Some(returns), request, framing };
        }
        returns.check_in();
        Self::Endpoint { returns: None, request, framing }
    }

    /// How long all of it is.
    pub(crate) fn framing(&self) -> Framing {
        match self {
            Self::Endpoint { framing, .. } => *framing,
            Self::Whole(bytes) => Framing::Length(bytes.len() as u64),
        }
    }

    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match self {
            Self::Endpoint { returns, request, .. } => {
                let Some(Returns { connection, .. }) = returns else { return Poll::Ready(None) };
                let polled = connection.poll_part(request, context);
                match &polled {
                    Poll::Ready(Some(Ok(_)) | None) if connection.is_end() => {
                        if let Some(returns) = returns.take() {
                            returns.check_in();
                        }
                    }
                    Poll::Ready(Some(Err(_))) => *returns = None,
                    Poll::Pending if request.poll_gone(context).is_ready() => {
                        *returns = None;
                        return Poll::Ready(Some(Err(BodyError::ClientGone)));
                    }
                    _ => {}
                }
                polled
            }
            Self::Whole(bytes) => Poll::Ready((!bytes.is_empty()).then(|| Ok(Part::Data(std::mem::take(bytes))))),
        }
    }
}
