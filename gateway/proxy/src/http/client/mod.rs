//! A client's side of HTTP, a file for each version: what is read from it and what is written to it. Each version fulfils [`Content`] and [`Sink`], and has a
//! place in [`AnyContent`]; the loops of [`serve`](mod@super::serve) stand above. [`open`] tells connections when to close, each by its [`signal`].

mod http1;
mod http2;
mod http3;
mod open;
mod signal;

use std::task::{Context, Poll};

use http::Response;

use super::error::BodyError;
use super::rules::trailers::Trailers;
use crate::h1::{Framing, Part, Status};

pub(in crate::http) use http1::{Client, NoRequest, Reader};
pub(in crate::http) use http2::{Received, Sender};
pub(in crate::http) use http3::{Received3, Sender3};
pub(crate) use open::OpenConnections;
pub(in crate::http) use signal::Signal;

/// A request's content as its client sends it, and whether the client is still there.
pub(in crate::http) trait Content {
    /// The next part.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>>;

    /// Whether the content has ended.
    fn is_end(&self) -> bool;

    /// How long all of the content is.
    fn framing(&self) -> Framing;

    /// How many bytes of the content were taken.
    fn taken(&self) -> u64;

    /// Whether trailers may follow the content.
    fn may_end_in_trailers(&self) -> bool;

    /// Sets which trailers go on; before that none does.
    fn pass_trailers(&mut self, trailers: Trailers);

    /// Is ready when nobody waits for the answer any more.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Passes an interim response on.
    fn interim(&mut self, response: &mut Status, context: &mut Context<'_>);
}

/// Where bytes for a client are written.
pub(in crate::http) trait Sink {
    /// Whether more is taken now.
    fn has_room(&self) -> bool;

    /// Writes bytes, of which more may follow.
    fn push(&self, part: Part) -> Result<(), Broke>;

    /// Is ready when all that was pushed is on its way.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>>;

    /// Tells the client that nothing follows, once all was written.
    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>>;

    /// Whether the client is gone, other than by ending its direction, if that can be told before the next write.
    fn is_gone(&self, context: &mut Context<'_>) -> bool;
}

/// A client's stream, which takes one response.
pub(in crate::http) trait Answering: Sink {
    /// Sends the head. `ended`: there is nothing else.
    fn send_head(&self, response: Response<()>, ended: bool) -> Result<(), Broke>;

    /// Writes a part. `last`: no other part follows.
    fn push_last(&self, part: Part, last: bool) -> Result<(), Broke>;

    /// Ends the content.
    fn finish(&self) -> Result<(), Broke>;

    /// Whether all was written.
    fn is_end(&self) -> bool;

    /// Ends the stream before all was written.
    fn reset(&self, why: Cut);
}

/// Why a response is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Cut {
    /// Nobody wants it, or its time is up.
    Cancelled,
    /// The endpoint's side broke.
    Broken,
}

/// The client's side broke. The other side is told when this side is dropped.
pub(in crate::http) struct Broke;

/// The content of a request over any version. It is an enum, so that nothing on a request's path is called through a table.
pub(crate) enum AnyContent<'c> {
    /// Content over HTTP/1.1, lent by its connection.
    Http1(&'c mut Reader),
    /// The content of a stream of HTTP/2.
    Http2(Box<Received>),
    /// The content of a stream of HTTP/3.
    Http3(Box<Received3>),
}

macro_rules! each {
    ($self:ident, $content:ident => $call:expr) => {
        match $self {
            Self::Http1($content) => $call,
            Self::Http2($content) => $call,
            Self::Http3($content) => $call,
        }
    };
}

impl Content for AnyContent<'_> {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        each!(self, content => content.poll_part(context))
    }

    fn is_end(&self) -> bool {
        each!(self, content => content.is_end())
    }

    fn framing(&self) -> Framing {
        each!(self, content => content.framing())
    }

    fn taken(&self) -> u64 {
        each!(self, content => content.taken())
    }

    fn may_end_in_trailers(&self) -> bool {
        each!(self, content => content.may_end_in_trailers())
    }

    fn pass_trailers(&mut self, trailers: Trailers) {
        each!(self, content => content.pass_trailers(trailers));
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        each!(self, content => content.poll_gone(context))
    }

    fn interim(&mut self, response: &mut Status, context: &mut Context<'_>) {
        each!(self, content => content.interim(response, context));
    }
}
