//! The streams of a connection, as the library `h3` reads and writes them. Its own binding to `quinn` (`h3-quinn`) is not used: it panics where a stream is stopped
//! while it is read, and nothing could be counted or bounded in it.
//!
//! What is sent on a request's stream waits in [`Sending`] until the client's window takes it. So the library's futures of writing are ready at once, and whoever
//! writes waits by [`Sending::poll_flush`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use super::frames::{BadFrame, Came, Frames, Kind};
use super::meter::Meter;

type Waiting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>>>>;

/// The sending half of the request's stream that was taken last, for whoever serves it.
pub(crate) type Last = Rc<RefCell<Option<Sending>>>;

/// A connection.
pub(crate) struct Transport {
    connection: quinn::Connection,
    meter: Rc<Meter>,
    requests: Option<Waiting<(quinn::SendStream, quinn::RecvStream)>>,
    unidirectional: Option<Waiting<quinn::RecvStream>>,
    opening: Option<Waiting<quinn::SendStream>>,
    last: Last,
}

impl Transport {
    pub(crate) fn new(connection: quinn::Connection, meter: Rc<Meter>, last: Last) -> Self {
        Self { connection, meter, requests: None, unidirectional: None, opening: None, last }
    }
}

/// Polls what is waited for, which is begun anew when it has come.
fn poll<T>(
    waiting: &mut Option<Waiting<T>>,
    begin: impl FnOnce() -> Waiting<T>,
    context: &mut Context<'_>,
) -> Poll<Result<T, ConnectionError>> {
    let outcome = ready!(waiting.get_or_insert_with(begin).as_mut().poll(context));
    *waiting = None;
    Poll::Ready(outcome)
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => ConnectionErrorIncoming::ApplicationClose { error_code: closed.error_code.into() },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn broke(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
}

/// A code as QUIC takes it. All codes of HTTP/3 are small.
fn code(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn id(id: quinn::StreamId) -> StreamId {
    u64::from(VarInt::from(id)).try_into().unwrap_or_else(|_| unreachable!("both libraries have streams' numbers in 62 bits"))
}

impl quic::Connection<Bytes> for Transport {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        if self.meter.is_exceeded() {
            return Poll::Pending;
        }
        let connection = &self.connection;
        let begin = || -> Waiting<quinn::RecvStream> {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        };
        let stream = ready!(poll(&mut self.unidirectional, begin, context)).map_err(lost)?;
        self.meter.came(Came::Control);
        Poll::Ready(Ok(Receiving::new(stream, Kind::Unidirectional, &self.connection, &self.meter, Rc::default())))
    }

    fn poll_accept_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<Bidirectional, ConnectionErrorIncoming>> {
        if self.meter.is_exceeded() || self.meter.is_turn_full() {
            // Nothing more is taken. The connection's task looks at the meter after each turn, and ends the connection or goes on.
            return Poll::Pending;
        }
        let connection = &self.connection;
        let begin = || -> Waiting<(quinn::SendStream, quinn::RecvStream)> {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        };
        let (send, receive) = ready!(poll(&mut self.requests, begin, context)).map_err(lost)?;
        self.meter.stream();
        let why = Why::default();
        let send = Sending::new(send, true, &self.meter, why.clone());
        self.last.replace(Some(send.clone()));
        let receive = Receiving::new(receive, Kind::Request, &self.connection, &self.meter, why);
        Poll::Ready(Ok(Bidirectional { send, receive }))
    }

    fn opener(&self) -> Opener {
        Opener(self.connection.clone())
    }
}

impl quic::OpenStreams<Bytes> for Transport {
    type BidiStream = Bidirectional;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidirectional, StreamErrorIncoming>> {
        Poll::Ready(Err(never()))
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let connection = &self.connection;
        let begin = || -> Waiting<quinn::SendStream> {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        };
        let stream = ready!(poll(&mut self.opening, begin, context)).map_err(broke)?;
        Poll::Ready(Ok(Sending::new(stream, false, &self.meter, Rc::default())))
    }

    fn close(&mut self, why: Code, reason: &[u8]) {
        self.connection.close(code(why.value()), reason);
    }
}

/// What the library asks for, and a server never uses: it opens its own streams by the connection alone.
pub(crate) struct Opener(quinn::Connection);

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Bidirectional;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidirectional, StreamErrorIncoming>> {
        Poll::Ready(Err(never()))
    }

    fn poll_open_send(&mut self, _: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        Poll::Ready(Err(never()))
    }

    fn close(&mut self, why: Code, reason: &[u8]) {
        self.0.close(code(why.value()), reason);
    }
}

/// A server opens no streams for requests (RFC 9114 §6.1).
fn never() -> StreamErrorIncoming {
    StreamErrorIncoming::Unknown("a server opens no such streams".into())
}

/// The code with which a stream was reset, which both its halves tell the client.
type Why = Rc<Cell<Option<VarInt>>>;

/// The stream of a request.
pub(crate) struct Bidirectional {
    send: Sending,
    receive: Receiving,
}

impl quic::BidiStream<Bytes> for Bidirectional {
    type SendStream = Sending;
    type RecvStream = Receiving;

    fn split(self) -> (Sending, Receiving) {
        (self.send, self.receive)
    }
}

impl quic::RecvStream for Bidirectional {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(context)
    }

    fn stop_sending(&mut self, why: u64) {
        self.receive.stop_sending(why);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for Bidirectional {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(context)
    }

    fn reset(&mut self, why: u64) {
        quic::SendStream::reset(&mut self.send, why);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

/// A stream that is read.
pub(crate) struct Receiving {
    stream: quinn::RecvStream,
    frames: Frames,
    /// What was read and not given out.
    ahead: Bytes,
    ended: bool,
    /// How many bytes of a frame that is not whole are kept.
    kept: usize,
    connection: quinn::Connection,
    meter: Rc<Meter>,
    why: Why,
}

impl Receiving {
    fn new(stream: quinn::RecvStream, kind: Kind, connection: &quinn::Connection, meter: &Rc<Meter>, why: Why) -> Self {
        let (connection, meter) = (connection.clone(), meter.clone());
        Self { stream, frames: Frames::new(kind), ahead: Bytes::new(), ended: false, kept: 0, connection, meter, why }
    }

    /// The stream breaks the protocol, or a limit.
    fn broke(&mut self, bad: BadFrame) -> StreamErrorIncoming {
        self.ended = true;
        match bad {
            // RFC 9114 §7.1: a stream that ends within a frame is an error of the connection.
            BadFrame::Cut => self.connection.close(code(Code::H3_FRAME_ERROR.value()), b"a stream ends within a frame"),
            BadFrame::TooLarge => {
                self.meter.wasted();
                let why = code(Code::H3_EXCESSIVE_LOAD.value());
                self.why.set(Some(why));
                let _ = self.stream.stop(why);
            }
        }
        StreamErrorIncoming::Unknown(bad.to_string().into())
    }
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if self.meter.is_exceeded() {
                return Poll::Pending;
            }
            let (frames, meter) = (&mut self.frames, &self.meter);
            let piece = frames.next(&mut self.ahead, |what| meter.came(what));
            meter.keep(self.kept, frames.kept());
            self.kept = frames.kept();
            match piece {
                Ok(Some(piece)) => return Poll::Ready(Ok(Some(piece))),
                Ok(None) => {}
                Err(bad) => return Poll::Ready(Err(self.broke(bad))),
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let read = pin!(self.stream.read_chunk(usize::MAX, true)).poll(context);
            match ready!(read) {
                Ok(Some(chunk)) => self.ahead = chunk.bytes,
                Ok(None) => {
                    self.ended = true;
                    if let Err(bad) = self.frames.end() {
                        return Poll::Ready(Err(self.broke(bad)));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(match error {
                        ReadError::Reset(why) => StreamErrorIncoming::StreamTerminated { error_code: why.into() },
                        ReadError::ConnectionLost(error) => broke(error),
                        other => StreamErrorIncoming::Unknown(Box::new(other)),
                    }));
                }
            }
        }
    }

    fn stop_sending(&mut self, why: u64) {
        self.ended = true;
        // It fails only on a stream that has ended.
        let _ = self.stream.stop(code(why));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Receiving {
    /// The rest of a request is not wanted (RFC 9114 §4.1).
    fn drop(&mut self) {
        self.meter.keep(self.kept, 0);
        if !self.ended {
            let _ = self.stream.stop(self.why.get().unwrap_or_else(|| code(Code::H3_NO_ERROR.value())));
        }
    }
}

/// A stream that is written.
#[derive(Clone)]
pub(crate) struct Sending(Rc<RefCell<Outgoing>>);

struct Outgoing {
    stream: quinn::SendStream,
    /// What was not written yet.
    waiting: VecDeque<WriteBuf<Bytes>>,
    /// Whether the library need not wait until it is written.
    buffered: bool,
    /// Whether nothing follows what waits; and whether that was said, or the stream was reset.
    last: bool,
    ended: bool,
    /// Is ready when the client wants no more of it, or is gone.
    stopped: Option<Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>>,
    gone: bool,
    meter: Rc<Meter>,
    why: Why,
}

impl Sending {
    fn new(stream: quinn::SendStream, buffered: bool, meter: &Rc<Meter>, why: Why) -> Self {
        let (waiting, meter) = (VecDeque::new(), meter.clone());
        Self(Rc::new(RefCell::new(Outgoing {
            stream,
            waiting,
            buffered,
            last: false,
            ended: false,
            stopped: None,
            gone: false,
            meter,
            why,
        })))
    }

    /// Whether nothing waits to be written.
    pub(crate) fn has_room(&self) -> bool {
        self.0.borrow().waiting.is_empty()
    }

    /// Whether all was written, or the stream was reset.
    pub(crate) fn is_end(&self) -> bool {
        self.0.borrow().ended
    }

    /// Writes what waits, as far as the windows let it.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let out = &mut *self.0.borrow_mut();
        while let Some(first) = out.waiting.front_mut() {
            while first.has_remaining() {
                let written = ready!(Pin::new(&mut out.stream).poll_write(context, first.chunk()))?;
                first.advance(written);
            }
            out.waiting.pop_front();
        }
        if out.last && !std::mem::replace(&mut out.ended, true) {
            // It fails only on a stream that has ended.
            let _ = out.stream.finish();
        }
        Poll::Ready(Ok(()))
    }

    /// Is ready when the client wants no more of it, or is gone.
    pub(crate) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let out = &mut *self.0.borrow_mut();
        if !out.gone {
            let stream = &out.stream;
            let _ = ready!(out.stopped.get_or_insert_with(|| Box::pin(stream.stopped())).as_mut().poll(context));
            (out.gone, out.stopped) = (true, None);
        }
        Poll::Ready(())
    }

    /// Waits until the client has all that was written, or is gone. A stream that was reset has nothing to wait for.
    pub(crate) async fn delivered(&self) {
        let whole = {
            let out = self.0.borrow();
            out.ended && out.why.get().is_none()
        };
        if whole {
            poll_fn(|context| self.poll_gone(context)).await;
        }
    }

    /// Resets the stream, and says why.
    pub(crate) fn reset(&self, why: Code) {
        self.0.borrow_mut().reset(code(why.value()));
    }
}

impl Outgoing {
    fn reset(&mut self, why: VarInt) {
        self.waiting.clear();
        if !std::mem::replace(&mut self.ended, true) {
            if self.why.get().is_none() {
                self.why.set(Some(why));
            }
            let _ = self.stream.reset(self.why.get().unwrap_or(why));
        }
    }
}

impl Drop for Outgoing {
    /// What was cut short must not look complete, as a stream does that is dropped. A control stream ends with its connection.
    fn drop(&mut self) {
        if self.buffered {
            self.reset(code(Code::H3_INTERNAL_ERROR.value()));
        }
    }
}

impl quic::SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if self.0.borrow().buffered {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(context).map_err(|error| match error {
            WriteError::Stopped(why) => StreamErrorIncoming::StreamTerminated { error_code: why.into() },
            WriteError::ConnectionLost(error) => broke(error),
            other => StreamErrorIncoming::Unknown(Box::new(other)),
        })
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        let out = &mut *self.0.borrow_mut();
        out.waiting.push_back(data.into());
        out.meter.sent();
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.borrow_mut().last = true;
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, why: u64) {
        self.0.borrow_mut().reset(code(why));
    }

    fn send_id(&self) -> StreamId {
        id(self.0.borrow().stream.id())
    }
}
