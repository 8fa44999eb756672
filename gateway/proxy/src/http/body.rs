//! Content in flight, part by part; no box, no copy.

mod response;

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};

use super::client::Reader;
use super::headers::strip_hop_by_hop;
use super::kept::Kept;
use super::limit::Limited;
use super::stream::Received;
use crate::h1::{Framing, Malformed, Part, Status};

pub(crate) use response::{ResponseBody, Returns, Tally};

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
    #[error("the endpoint's stream: {0}")]
    Stream(h2::Error),
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
            Self::Endpoint(_) | Self::Io(_) | Self::Stream(_) | Self::Copy => "upstream-broke",
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
    /// The same over a stream of HTTP/2.
    Stream(Box<Received>),
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
            Self::Stream(received) => received.poll_part(context),
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
            Self::Stream(received) => received.is_end(),
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
            Self::Stream(received) => received.framing(),
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
            Self::Stream(received) => received.poll_gone(context),
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
            Self::Stream(received) => received.taken(),
            Self::Teed(teed) => teed.0.taken(),
            Self::Limited(limited) => limited.of.taken(),
            Self::Kept(kept) => kept.of().taken(),
            Self::Copy(..) | Self::Empty => 0,
        }
    }

    /// Passes an interim response on to who sent the request.
    pub(crate) fn interim(&mut self, response: &mut Status, context: &mut Context<'_>) {
        match self {
            Self::Client(reader) => {
                strip_hop_by_hop(response.fields.map());
                reader.interim(response, context);
            }
            Self::Stream(received) => received.interim(response),
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
