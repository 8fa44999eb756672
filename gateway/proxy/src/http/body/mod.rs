//! A request's content on its way, part by part. Parts are neither boxed nor copied.

mod kept;
mod limited;

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};

use super::client::{AnyContent, Content as _};
use super::error::BodyError;
use super::rules::trailers::Trailers;
use crate::h1::{Framing, Part, Status};

pub(in crate::http) use kept::Kept;
pub(in crate::http) use limited::Limited;

/// A part of a mirrored body.
pub(crate) enum Copied {
    Part(Bytes),
    End,
}

/// A request's content on its way to an endpoint.
pub(crate) enum RequestBody<'c> {
    /// The content as the client sends it.
    Client(AnyContent<'c>),
    /// The client's content, with copies going to mirrors.
    Teed(Box<(RequestBody<'c>, Vec<Sender<Copied>>)>),
    /// Content whose length is limited.
    Limited(Box<Limited<'c>>),
    /// Content that can be sent again.
    Kept(Box<Kept<'c>>),
    /// A copy for a mirror, and how long the original says it is.
    Copy(Receiver<Copied>, Framing),
    Empty,
}

impl RequestBody<'_> {
    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match self {
            Self::Client(content) => content.poll_part(context),
            Self::Limited(limited) => limited.poll_part(context),
            Self::Kept(kept) => kept.poll_part(context),
            Self::Teed(teed) => {
                let (original, copies) = &mut **teed;
                let polled = original.poll_part(context);
                match &polled {
                    Poll::Ready(Some(Ok(part))) => {
                        // If a queue is full, its sender is dropped, so that a slow mirror never slows the request.
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

    /// Whether it has ended.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Client(content) => content.is_end(),
            Self::Teed(teed) => teed.0.is_end(),
            Self::Limited(limited) => limited.of.is_end(),
            Self::Kept(kept) => kept.is_end(),
            Self::Copy(..) => false,
            Self::Empty => true,
        }
    }

    /// How long the whole content is.
    pub(crate) fn framing(&self) -> Framing {
        match self {
            Self::Client(content) => content.framing(),
            Self::Teed(teed) => teed.0.framing(),
            Self::Limited(limited) => limited.of.framing(),
            Self::Kept(kept) => kept.of().framing(),
            Self::Copy(_, framing) => *framing,
            Self::Empty => Framing::Length(0),
        }
    }

    /// Whether trailers may follow the content.
    pub(in crate::http) fn may_end_in_trailers(&self) -> bool {
        match self {
            Self::Client(content) => content.may_end_in_trailers(),
            other => !other.is_end(),
        }
    }

    /// Sets which trailers go on; before that none does. A copy has none.
    pub(in crate::http) fn pass_trailers(&mut self, trailers: Trailers) {
        match self {
            Self::Client(content) => content.pass_trailers(trailers),
            Self::Teed(teed) => teed.0.pass_trailers(trailers),
            Self::Limited(limited) => limited.of.pass_trailers(trailers),
            Self::Kept(kept) => kept.of_mut().pass_trailers(trailers),
            Self::Copy(..) | Self::Empty => {}
        }
    }

    /// Is ready when nobody waits for the answer any more.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Client(content) => content.poll_gone(context),
            Self::Teed(teed) => teed.0.poll_gone(context),
            Self::Limited(limited) => limited.of.poll_gone(context),
            Self::Kept(kept) => kept.of_mut().poll_gone(context),
            Self::Copy(..) | Self::Empty => Poll::Pending,
        }
    }

    /// How many of its bytes were taken from the client.
    pub(crate) fn taken(&self) -> u64 {
        match self {
            Self::Client(content) => content.taken(),
            Self::Teed(teed) => teed.0.taken(),
            Self::Limited(limited) => limited.of.taken(),
            Self::Kept(kept) => kept.of().taken(),
            Self::Copy(..) | Self::Empty => 0,
        }
    }

    /// Passes an interim response on to the client that sent the request.
    pub(crate) fn interim(&mut self, response: &mut Status, context: &mut Context<'_>) {
        match self {
            Self::Client(content) => content.interim(response, context),
            Self::Teed(teed) => teed.0.interim(response, context),
            Self::Limited(limited) => limited.of.interim(response, context),
            Self::Kept(kept) => kept.of_mut().interim(response, context),
            Self::Copy(..) | Self::Empty => {}
        }
    }

    /// Whether it can be sent from its beginning.
    pub(in crate::http) fn can_rewind(&self) -> bool {
        match self {
            Self::Kept(kept) => kept.is_whole(),
            Self::Empty => true,
            // What was taken of it is not counted.
            Self::Copy(_, framing) => *framing == Framing::Length(0),
            // Nothing of it has been taken, or there is nothing.
            other => other.framing() == Framing::Length(0) || (other.taken() == 0 && !other.is_end()),
        }
    }

    /// Begins from the beginning.
    pub(in crate::http) fn rewind(&mut self) {
        if let Self::Kept(kept) = self {
            kept.rewind();
        }
    }

    /// Stops keeping it, as it will not be sent again.
    pub(in crate::http) fn release(self) -> Self {
        if let Self::Kept(kept) = self { kept.release() } else { self }
    }
}
