//! A client's side of an HTTP/1.1 connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use sluicegate_model::settings::{ClientSettings, HalfClose, HeadLimits};
use tokio::io::AsyncWrite as _;

use super::signal::Signal;
use super::{Broke, Content, Sink};
use crate::h1::{self, BadHead, Case, Decoder, Framing, Head, Message, Outgoing, Part, Status, Step};
use crate::http::error::BodyError;
use crate::http::rules::headers::{is_plain, strip_response};
use crate::http::rules::trailers::Trailers;
use crate::http2::PREFACE;
use crate::stream::{Scratch, Stream};

/// How many bytes are read at a time for a head.
const HEAD: usize = 4 << 10;
/// How many bytes are read at a time for content.
const CONTENT: usize = 64 << 10;
/// How many bytes of the next request are read while one is served; a client that sends more has to wait.
const AHEAD: usize = 16 << 10;

/// What reading and writing share. They belong to one task, so there are no locks.
pub(crate) struct Client {
    pub(in crate::http) stream: RefCell<Stream>,
    pub(in crate::http) outgoing: RefCell<Outgoing>,
    pub(in crate::http) signal: Rc<Signal>,
    /// Where in the request's content the reader is.
    decoder: Cell<Decoder>,
    /// Whether no request follows, as the client has closed its sending side.
    last: Cell<bool>,
    scratch: Rc<Scratch>,
}

impl Client {
    pub(in crate::http) fn new(stream: Stream, signal: Rc<Signal>, scratch: Rc<Scratch>) -> Rc<Self> {
        let (stream, outgoing) = (RefCell::new(stream), RefCell::default());
        Rc::new(Self { stream, outgoing, signal, decoder: Cell::new(Decoder::Length(0)), last: Cell::new(false), scratch })
    }

    pub(in crate::http) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.borrow_mut().poll_flush(&mut *self.stream.borrow_mut(), context)
    }

    /// From here on the client sends the bytes of another protocol.
    pub(in crate::http) fn tunnel(&self) {
        self.decoder.set(Decoder::UntilClose);
    }

    /// What is left of the request's content; `Length(0)`: nothing.
    pub(in crate::http) fn unread(&self) -> Decoder {
        self.decoder.get()
    }

    /// Whether it is known that no request follows.
    pub(in crate::http) fn is_last(&self) -> bool {
        self.last.get()
    }

    /// Whether the connection has broken. It asks the kernel, so it is only for when reading does not tell.
    fn is_broken(&self) -> bool {
        !matches!(self.stream.borrow().socket().take_error(), Ok(None))
    }
}

/// Why there is no request.
pub(in crate::http) enum NoRequest {
    /// The connection has ended, or is to end before another request.
    Ended,
    /// The request did not come in time.
    Late,
    /// The client speaks HTTP/2, as it knows that the gateway does (RFC 9113 §3.3).
    Http2,
    Bad(BadHead),
}

/// Reads requests and their content.
pub(crate) struct Reader {
    client: Rc<Client>,
    buffer: BytesMut,
    /// The number of bytes of a head that were looked at in vain.
    seen: usize,
    version: Version,
    framing: Framing,
    /// How large a request's head may be.
    limits: HeadLimits,
    /// What becomes of the names of the request's fields.
    case: Case,
    half_close: HalfClose,
    /// How many bytes of the request's content were read.
    taken: u64,
    ended: bool,
    /// Whether no request has come yet, so that HTTP/2 may come.
    first: bool,
    /// Which of the request's trailers go on.
    trailers: Trailers,
}

impl Reader {
    pub(in crate::http) fn new(client: Rc<Client>, settings: &ClientSettings) -> Self {
        Self {
            limits: settings.head,
            case: Case::kept(settings.headers.preserve_case),
            half_close: settings.connections.half_close,
            client,
            buffer: BytesMut::new(),
            seen: 0,
            version: Version::HTTP_11,
            framing: Framing::Length(0),
            taken: 0,
            ended: false,
            first: true,
            trailers: Trailers::default(),
        }
    }

    /// The connection, and what was read from it; none: somebody else reads or writes it.
    pub(in crate::http) fn into_parts(self) -> Option<(Stream, Bytes)> {
        Some((Rc::into_inner(self.client)?.stream.into_inner(), self.buffer.freeze()))
    }

    /// Reads more; 0: the end.
    fn poll_fill(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let stream = &mut *self.client.stream.borrow_mut();
        let count = ready!(self.client.scratch.poll_fill(stream, context, &mut self.buffer, size))?;
        self.ended = count == 0;
        Poll::Ready(Ok(count))
    }

    /// Reads the head of the next request. `closing`: only a request that has arrived by now is taken; `spare`: as for [`h1::message`].
    pub(in crate::http) fn poll_request(
        &mut self,
        context: &mut Context<'_>,
        closing: bool,
        spare: &RefCell<HeaderMap>,
    ) -> Poll<Result<Head<Message>, NoRequest>> {
        loop {
            if self.first && !self.buffer.is_empty() {
                if self.buffer.starts_with(PREFACE) {
                    return Poll::Ready(Err(NoRequest::Http2));
                }
                self.first = PREFACE.starts_with(&self.buffer);
            }
            if self.buffer.len() > self.seen && !self.first {
                let before = self.buffer.len();
                let read = h1::message(&mut self.buffer, self.seen, &mut spare.borrow_mut(), self.case, is_plain);
                match read.map_err(NoRequest::Bad)? {
                    Some(head) if before - self.buffer.len() > self.limits.bytes || head.message.fields() > self.limits.fields => {
                        return Poll::Ready(Err(NoRequest::Bad(BadHead::TooLarge)));
                    }
                    None if before > self.limits.bytes => return Poll::Ready(Err(NoRequest::Bad(BadHead::TooLarge))),
                    Some(head) => {
                        (self.seen, self.taken, self.trailers) = (0, 0, Trailers::default());
                        (self.version, self.framing) = (head.message.request.version(), head.framing);
                        self.client.decoder.set(head.framing.into());
                        return Poll::Ready(Ok(head));
                    }
                    None => self.seen = self.buffer.len(),
                }
            }
            match self.poll_fill(context, HEAD) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(NoRequest::Ended)),
                Poll::Pending if closing && self.buffer.is_empty() => return Poll::Ready(Err(NoRequest::Ended)),
                Poll::Pending if self.client.signal.is_request_late() => return Poll::Ready(Err(NoRequest::Late)),
                Poll::Pending => {
                    if !self.buffer.is_empty() {
                        self.client.signal.head();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads bytes and drops them; 0: the end.
    pub(in crate::http) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.clear();
        self.poll_fill(context, CONTENT)
    }

    /// Gives memory back between exchanges.
    pub(in crate::http) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > HEAD * 2 {
            self.buffer = BytesMut::new();
        }
    }
}

impl Content for Reader {
    fn framing(&self) -> Framing {
        self.framing
    }

    /// How many bytes of the request's content were read.
    fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether all of the request's content was read.
    fn is_end(&self) -> bool {
        self.client.decoder.get().is_end()
    }

    /// The next part of the request's content.
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        loop {
            let mut decoder = self.client.decoder.get();
            let step = decoder.step(&mut self.buffer);
            self.client.decoder.set(decoder);
            match step {
                Ok(Step::Part(mut part)) => {
                    let size = if let Part::Data(data) = &part { data.len() } else { 0 };
                    self.taken += size as u64;
                    self.client.signal.moved(size);
                    if decoder.is_end() {
                        self.client.signal.received();
                    }
                    if let Part::Trailers(fields) = &mut part {
                        self.trailers.filter(fields);
                        if fields.is_empty() {
                            continue;
                        }
                    }
                    return Poll::Ready(Some(Ok(part)));
                }
                Ok(Step::End) => {
                    self.client.signal.received();
                    return Poll::Ready(None);
                }
                Ok(Step::More) if self.client.signal.is_request_late() => return Poll::Ready(Some(Err(BodyError::Late))),
                Ok(Step::More) => match self.poll_fill(context, CONTENT) {
                    Poll::Pending => {
                        self.client.signal.awaits();
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0)) if decoder.close().is_ok() => self.client.decoder.set(decoder),
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(BodyError::ClientGone))),
                },
                Err(malformed) => return Poll::Ready(Some(Err(BodyError::Client(malformed)))),
            }
        }
    }

    /// Is ready when nobody waits for the answer to a whole request any more: the connection has broken; or the client has closed its sending side, and such
    /// clients are not answered, or not after so much time.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.is_end() && self.buffer.len() < AHEAD && !self.ended {
            if ready!(self.poll_fill(context, HEAD)).is_err() {
                return Poll::Ready(());
            }
        }
        if !self.ended || !self.is_end() {
            return Poll::Pending;
        }
        self.client.last.set(self.buffer.is_empty());
        self.client.signal.half_closed();
        let waits = self.half_close == HalfClose::Answer && !self.client.signal.is_given_up() && !self.client.is_broken();
        if waits { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Passes an interim response on, if the client's version has these (RFC 9110 §15.2), and the client has read what it was sent before.
    fn interim(&mut self, response: &mut Status, context: &mut Context<'_>) {
        strip_response(response.fields.map());
        if self.version == Version::HTTP_11 && self.client.outgoing.borrow().has_room() {
            h1::interim_head(self.client.outgoing.borrow_mut().begin(h1::Encoder::Length(0)), response);
            // What cannot be written now is written before the final response, where an error shows again.
            let _ = self.client.poll_flush(context);
        }
    }

    fn may_end_in_trailers(&self) -> bool {
        self.framing == Framing::Chunked
    }

    fn pass_trailers(&mut self, trailers: Trailers) {
        self.trailers = trailers;
    }
}

impl Sink for Client {
    fn has_room(&self) -> bool {
        self.outgoing.borrow().has_room()
    }

    fn push(&self, part: Part) -> Result<(), Broke> {
        self.outgoing.borrow_mut().push(part).map_err(|_| Broke)
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        Client::poll_flush(self, context).map_err(|_| Broke)
    }

    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        ready!(Sink::poll_flush(self, context))?;
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(context).map_err(|_| Broke)
    }

    fn is_gone(&self, _context: &mut Context<'_>) -> bool {
        false
    }
}
