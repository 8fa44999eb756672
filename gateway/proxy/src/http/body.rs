//! Bodies in flight. The common ones are hyper's own, passed on as they are; no box, no copy.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::net::SocketAddr;
use tokio::sync::mpsc::{Receiver, Sender};

use super::connection::{Exchanging, Progress};
use crate::tcp::Busy;
use crate::upstream::Connection;
use crate::worker::Shared;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The side that sends it failed.
    #[error(transparent)]
    Sender(#[from] hyper::Error),
    /// A mirror's copy fell behind, or the original was cut off: a shortened copy must not look whole.
    #[error("the copy of the request was cut off")]
    Copy,
}

/// A part of a mirrored body.
pub(crate) enum Part {
    Data(Bytes),
    End,
}

/// A request's content on its way to an endpoint.
pub(crate) enum RequestBody {
    /// As the client sends it.
    Client(Incoming, Progress),
    /// The same, with copies going to mirrors.
    Teed(Incoming, Progress, Vec<Sender<Part>>),
    /// Such a copy.
    Copy(Receiver<Part>),
    Empty,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Client(body, progress) => {
                let polled = Pin::new(body).poll_frame(context);
                if polled.is_ready() {
                    progress.moved();
                }
                polled.map_err(BodyError::Sender)
            }
            Self::Teed(body, progress, copies) => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                if polled.is_ready() {
                    progress.moved();
                }
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        // A full queue drops its sender: a slow mirror never slows the request.
                        if let Some(data) = frame.data_ref() {
                            copies.retain(|to| to.try_send(Part::Data(data.clone())).is_ok());
                        }
                        if body.is_end_stream() {
                            copies.drain(..).for_each(|to| drop(to.try_send(Part::End)));
                        }
                    }
                    Poll::Ready(None) => copies.drain(..).for_each(|to| drop(to.try_send(Part::End))),
                    Poll::Ready(Some(Err(_))) => copies.clear(),
                    Poll::Pending => {}
                }
                polled.map_err(BodyError::Sender)
            }
            Self::Copy(parts) => parts.poll_recv(context).map(|part| match part {
                Some(Part::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Part::End) => None,
                None => Some(Err(BodyError::Copy)),
            }),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body, _) | Self::Teed(body, ..) => body.is_end_stream(),
            Self::Copy(_) => false,
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body, _) | Self::Teed(body, ..) => body.size_hint(),
            Self::Copy(_) => SizeHint::default(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// Where a connection goes when the response has been read to its end; dropped before that, it is closed.
pub(crate) struct Returns {
    pub(crate) address: SocketAddr,
    pub(crate) connection: Connection,
    pub(crate) shared: Rc<Shared>,
    /// When the response's head came: near enough to when the connection becomes idle, and no second look at the clock.
    pub(crate) at: Instant,
    /// The endpoint counts as busy until here.
    pub(crate) busy: Busy,
}

/// A response's content on its way to the client. The client's connection counts as busy while it lives.
pub(crate) struct ResponseBody {
    content: Content,
    busy: Option<Exchanging>,
}

enum Content {
    /// As the endpoint sends it; gives the connection back at its end.
    Endpoint(Incoming, Option<Returns>),
    /// Our own.
    Whole(Bytes),
}

impl ResponseBody {
    pub(crate) fn endpoint(body: Incoming, returns: Returns) -> Self {
        let mut streamed = Self { content: Content::Endpoint(body, Some(returns)), busy: None };
        streamed.give_back();
        streamed
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), busy: None }
    }

    pub(super) fn until_its_end(&mut self, busy: Exchanging) {
        self.busy = Some(busy);
    }

    /// If the end is reached.
    fn give_back(&mut self) {
        if let Content::Endpoint(body, returns) = &mut self.content
            && body.is_end_stream()
            && let Some(Returns { address, connection, shared, at, busy }) = returns.take()
        {
            shared.upstreams.check_in(address, connection, at);
            drop(busy);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Endpoint(body, returns) => {
                if let Some(returns) = returns {
                    returns.connection.drive(context);
                }
                let polled = Pin::new(body).poll_frame(context);
                if let (Poll::Ready(_), Some(busy)) = (&polled, &this.busy) {
                    busy.moved();
                }
                match &polled {
                    Poll::Ready(Some(Ok(_)) | None) => this.give_back(),
                    Poll::Ready(Some(Err(_))) => *returns = None,
                    Poll::Pending => {}
                }
                polled
            }
            Content::Whole(bytes) => Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Endpoint(body, _) => body.is_end_stream(),
            Content::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Endpoint(body, _) => body.size_hint(),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
