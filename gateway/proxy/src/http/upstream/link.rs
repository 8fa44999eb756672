//! What carries one exchange to an endpoint, whichever version of HTTP it speaks.

use std::task::{Context, Poll};

use http::Method;

use super::connection::{Broken, Connection};
use super::stream::Stream;
use crate::h1::{Framing, Head, Part, Status};
use crate::http::body::RequestBody;
use crate::http::error::BodyError;
use crate::http::rules::deferred::Deferred;

pub(crate) enum Link {
    /// A connection of HTTP/1.1, which the exchange has alone.
    Alone(Box<Connection>),
    /// One stream of a connection of HTTP/2.
    Stream(Box<Stream>),
}

impl Link {
    /// Begins a request. [`poll_head`](Self::poll_head) sends it.
    pub(in crate::http) fn begin<B>(&mut self, request: &mut Deferred<'_, '_, B>, framing: Framing) {
        match self {
            Self::Alone(connection) => connection.begin(request, framing),
            Self::Stream(stream) => stream.begin(request, framing),
        }
    }

    /// The head of the response. It may be an interim one; then this is to be called again.
    pub(crate) fn poll_head(
        &mut self,
        to: &Method,
        content: &mut RequestBody<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head<Status>, Broken>> {
        match self {
            Self::Alone(connection) => connection.poll_head(to, content, context),
            Self::Stream(stream) => stream.poll_head(to, content, context),
        }
    }

    /// The next part of the response's content, while the rest of the request is sent.
    pub(crate) fn poll_part(&mut self, content: &mut RequestBody<'_>, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match self {
            Self::Alone(connection) => connection.poll_part(content, context),
            Self::Stream(stream) => stream.poll_part(content, context),
        }
    }

    /// Sends the rest of the request. Is ready when all of it has left, or no more is wanted.
    pub(crate) fn poll_send(&mut self, content: &mut RequestBody<'_>, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match self {
            Self::Alone(connection) => connection.poll_send(content, context),
            Self::Stream(stream) => stream.poll_send(content, context),
        }
    }

    /// The endpoint has agreed to another protocol, to which belong all bytes that follow, in both directions.
    pub(crate) fn tunnel(&mut self) {
        match self {
            Self::Alone(connection) => connection.tunnel(),
            Self::Stream(stream) => stream.tunnel(),
        }
    }

    /// Whether the response has ended.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Alone(connection) => connection.is_end(),
            Self::Stream(stream) => stream.is_end(),
        }
    }

    /// Whether all of the request has left, or the endpoint wants no more of it.
    pub(crate) fn is_sent(&self) -> bool {
        match self {
            Self::Alone(connection) => connection.is_sent(),
            Self::Stream(stream) => stream.is_sent(),
        }
    }

    /// Whether nothing of the request has left, or the endpoint says that it did nothing with it.
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Alone(connection) => connection.is_unsent(),
            Self::Stream(stream) => stream.is_unsent(),
        }
    }
}
