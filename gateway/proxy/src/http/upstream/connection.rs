//! One HTTP/1.1 connection to an endpoint. No task drives it: whoever waits for its answer does, so that an exchange wakes no other task.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;
use http::Method;
use tokio::io::AsyncWrite as _;

use super::terms::Terms;
use crate::core::places::Places;
use crate::h1::{self, BadHead, Case, Decoder, Encoder, Framing, Head, Outgoing, Part, Spellings, Status, Step};
use crate::http::body::RequestBody;
use crate::http::error::BodyError;
use crate::http::rules::deferred::Deferred;
use crate::stream::{Scratch, Stream};

/// How many bytes are read at a time for a head. Most responses fit into that with their content, which saves a read and a write.
const HEAD: usize = 16 << 10;
/// How many bytes are read at a time for content.
const CONTENT: usize = 64 << 10;

pub(crate) struct Connection {
    stream: Stream,
    buffer: BytesMut,
    /// The number of bytes of a response's head that were looked at in vain.
    seen: usize,
    decoder: Decoder,
    /// What becomes of the names of the response's fields.
    case: Case,
    outgoing: Outgoing,
    /// Whether some of the request's content was not pushed yet.
    sending: bool,
    /// Whether some of the request was written.
    written: bool,
    keep_alive: bool,
    /// Whether the bytes are another protocol's. Then the endpoint is told of the end of those that go there.
    tunnel: bool,
    terms: Terms,
    tls: u64,
    scratch: Rc<Scratch>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The exchange broke on the client's side.
    #[error(transparent)]
    Client(BodyError),
    #[error("the endpoint closed the connection")]
    Closed,
    #[error("the connection to the endpoint: {0}")]
    Io(std::io::Error),
    #[error("the endpoint's response: {0}")]
    Head(#[from] BadHead),
    #[error("the endpoint's stream: {0}")]
    Stream(h2::Error),
    #[error("the endpoint refused the stream: {0}")]
    Refused(h2::Error),
    #[error("the endpoint does not take extended CONNECT")]
    NoConnect,
}

impl Broken {
    /// Whether the endpoint said that it did nothing with the request (RFC 9113 §8.7). HTTP/1.1 has no way to say so.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether only this stream was reset, refused or not. Then another one on the same endpoint would fare no better now. After GOAWAY, or when a connection has
    /// broken, it may.
    pub(crate) fn is_stream_reset(&self) -> bool {
        matches!(self, Self::Refused(why) | Self::Stream(why) if why.is_reset())
    }
}

impl Connection {
    /// `tls`: the rules of TLS by which the endpoint was met.
    pub(super) fn new(stream: Stream, terms: Terms, tls: u64, scratch: Rc<Scratch>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            seen: 0,
            decoder: Decoder::Length(0),
            case: Case::Any,
            outgoing: Outgoing::default(),
            sending: false,
            written: false,
            keep_alive: true,
            tunnel: false,
            terms,
            tls,
            scratch,
        }
    }

    /// Whether nothing has come since the last response: neither the end nor bytes that nobody asked for.
    pub(super) fn is_idle(&mut self) -> bool {
        self.stream.is_silent()
    }

    /// Gives memory back, as it has been idle for a while.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The terms on which it was opened.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The rules of TLS by which the endpoint was met; 0: in plain text.
    pub(super) fn tls(&self) -> u64 {
        self.tls
    }

    /// The places that it takes, if it is counted.
    pub(super) fn places(&self) -> Option<&Places> {
        self.stream.places()
    }

    /// Whether it can take another request, now that a response has ended.
    pub(super) fn is_reusable(&self, now: Instant) -> bool {
        self.terms.allow(now)
            && self.keep_alive
            && !self.sending
            && self.outgoing.is_empty()
            && self.decoder.is_end()
            && self.buffer.is_empty()
    }

    /// Whether the response has ended.
    pub(super) fn is_end(&self) -> bool {
        self.decoder.is_end() && !self.tunnel
    }

    /// Whether all of the request has left, or the endpoint takes no more of it.
    pub(super) fn is_sent(&self) -> bool {
        !self.sending && self.outgoing.is_empty()
    }

    /// Whether nothing of the request has left.
    pub(super) fn is_unsent(&self) -> bool {
        !self.written
    }

    /// Begins a request. [`poll_head`](Self::poll_head) sends it.
    pub(super) fn begin<B>(&mut self, request: &Deferred<'_, '_, B>, framing: Framing) {
        self.terms.begin();
        request.write(self.outgoing.begin(Encoder::from(framing)), framing);
        (self.sending, self.written) = (framing != Framing::Length(0), false);
        (self.seen, self.case) = (0, Case::kept(request.extension::<Spellings>().is_some()));
        if self.buffer.capacity() > HEAD * 2 {
            self.buffer = BytesMut::new();
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>, size: usize) -> Poll<std::io::Result<usize>> {
        self.scratch.poll_fill(&mut self.stream, context, &mut self.buffer, size)
    }

    /// The endpoint has agreed to another protocol, to which belongs all that comes from either side.
    pub(super) fn tunnel(&mut self) {
        (self.tunnel, self.sending, self.keep_alive) = (true, true, false);
        self.decoder = Decoder::UntilClose;
        self.outgoing.begin(Encoder::UntilClose);
    }

    /// Sends as much of the request as possible. An endpoint that takes no more may have answered nevertheless, so that is no error.
    pub(super) fn poll_send(&mut self, content: &mut RequestBody<'_>, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            let mut waiting = false;
            while self.sending && !waiting && self.outgoing.has_room() {
                match content.poll_part(context) {
                    Poll::Ready(Some(part)) => {
                        self.outgoing.push(part?).map_err(BodyError::Client)?;
                    }
                    Poll::Ready(None) => {
                        self.outgoing.finish().map_err(BodyError::Client)?;
                        self.sending = false;
                    }
                    Poll::Pending => waiting = true,
                }
            }
            if self.outgoing.is_empty() {
                return match waiting {
                    true => Poll::Pending,
                    // This closes one direction only. It fails only if there is nothing left to close.
                    false if self.tunnel => Pin::new(&mut self.stream).poll_shutdown(context).map(|_| Ok(())),
                    false => Poll::Ready(Ok(())),
                };
            }
            match self.outgoing.poll_flush(&mut self.stream, context) {
                Poll::Ready(Ok(())) => self.written = true,
                Poll::Ready(Err(_)) => {
                    (self.outgoing, self.sending, self.keep_alive) = (Outgoing::default(), false, false);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    self.written |= self.outgoing.is_begun();
                    return Poll::Pending;
                }
            }
        }
    }

    /// The head of the response. It may be an interim one; then this is to be called again.
    pub(super) fn poll_head(
        &mut self,
        to: &Method,
        content: &mut RequestBody<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head<Status>, Broken>> {
        if let Poll::Ready(Err(error)) = self.poll_send(content, context) {
            return Poll::Ready(Err(Broken::Client(error)));
        }
        loop {
            if self.buffer.len() > self.seen {
                match h1::response(&mut self.buffer, self.seen, to, self.case)? {
                    Some(head) => {
                        self.seen = 0;
                        self.decoder = head.framing.into();
                        self.keep_alive &= head.keep_alive;
                        return Poll::Ready(Ok(head));
                    }
                    None => self.seen = self.buffer.len(),
                }
            }
            match ready!(self.poll_fill(context, HEAD)) {
                Ok(1..) => self.written = true,
                Ok(0) => return Poll::Ready(Err(Broken::Closed)),
                Err(error) => return Poll::Ready(Err(Broken::Io(error))),
            }
        }
    }

    /// The next part of the response's content, while the rest of the request is sent.
    pub(super) fn poll_part(&mut self, content: &mut RequestBody<'_>, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if (self.sending || !self.outgoing.is_empty())
            && let Poll::Ready(Err(error)) = self.poll_send(content, context)
        {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.decoder.step(&mut self.buffer) {
                Ok(Step::Part(part)) => return Poll::Ready(Some(Ok(part))),
                Ok(Step::End) => return Poll::Ready(None),
                Ok(Step::More) => {}
                Err(malformed) => return Poll::Ready(Some(Err(BodyError::Endpoint(malformed)))),
            }
            let size = if let Decoder::Length(left) = self.decoder {
                // One byte more: a read that does not fill its buffer shows that there is no more to read.
                usize::try_from(left).unwrap_or(CONTENT).saturating_add(1).clamp(HEAD, CONTENT)
            } else {
                CONTENT
            };
            match ready!(self.poll_fill(context, size)) {
                Ok(1..) => {}
                Ok(0) => {
                    self.keep_alive = false;
                    if let Err(malformed) = self.decoder.close() {
                        return Poll::Ready(Some(Err(BodyError::Endpoint(malformed))));
                    }
                }
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}
