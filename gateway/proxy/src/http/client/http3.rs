//! A client's side of one stream of an HTTP/3 connection.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::{Response, header};

use super::signal::Signal;
use super::{Answering, Broke, Content, Cut, Sink};
use crate::h1::{Framing, Malformed, Part, Status};
use crate::http::error::BodyError;
use crate::http::rules::headers::strip_response;
use crate::http::rules::trailers::Trailers;
use crate::http3::{Meter, Receiving, Sending};

/// The response's half of a stream. The request's half asks it whether anybody waits for the response.
pub(in crate::http) struct Sender3 {
    half: RefCell<RequestStream<Sending, Bytes>>,
    out: Sending,
    answered: Cell<bool>,
    meter: Rc<Meter>,
}

impl Sender3 {
    /// `out`: the stream that the library writes.
    pub(in crate::http) fn new(half: RequestStream<Sending, Bytes>, out: Sending, meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self { half: RefCell::new(half), out, answered: Cell::new(false), meter })
    }

    /// Notes that the stream was not a request, but cost as much as one.
    pub(in crate::http) fn wasted(&self) {
        self.meter.wasted();
    }

    /// Whether no head was sent.
    pub(in crate::http) fn is_unanswered(&self) -> bool {
        !self.answered.get()
    }

    /// Is ready when the client wants no more of the response, or is gone.
    pub(in crate::http) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        self.out.poll_gone(context)
    }

    /// Resets the stream.
    pub(in crate::http) fn reset_with(&self, why: Code) {
        self.out.reset(why);
    }
}

/// Carries out what the library writes, which never waits, as [`Sending`] takes everything.
fn now<T>(writing: impl Future<Output = Result<T, StreamError>>) -> Result<T, Broke> {
    match pin!(writing).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(done)) => Ok(done),
        Poll::Ready(Err(_)) | Poll::Pending => Err(Broke),
    }
}

impl Answering for Sender3 {
    fn send_head(&self, response: Response<()>, ended: bool) -> Result<(), Broke> {
        self.answered.set(true);
        let half = &mut *self.half.borrow_mut();
        now(half.send_response(response))?;
        if ended { now(half.finish()) } else { Ok(()) }
    }

    fn push_last(&self, part: Part, last: bool) -> Result<(), Broke> {
        let half = &mut *self.half.borrow_mut();
        let last = match part {
            Part::Data(data) if data.is_empty() => last,
            Part::Data(data) => {
                now(half.send_data(data))?;
                last
            }
            Part::Trailers(trailers) => {
                now(half.send_trailers(trailers))?;
                true
            }
        };
        if last { now(half.finish()) } else { Ok(()) }
    }

    fn finish(&self) -> Result<(), Broke> {
        now(self.half.borrow_mut().finish())
    }

    fn is_end(&self) -> bool {
        self.out.is_end()
    }

    fn reset(&self, why: Cut) {
        self.out.reset(match why {
            Cut::Cancelled => Code::H3_REQUEST_CANCELLED,
            Cut::Broken => Code::H3_INTERNAL_ERROR,
        });
    }
}

impl Sink for Sender3 {
    fn has_room(&self) -> bool {
        self.out.has_room() && !self.out.is_end()
    }

    fn push(&self, part: Part) -> Result<(), Broke> {
        self.push_last(part, false)
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        self.out.poll_flush(context).map_err(|_| Broke)
    }

    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        self.finish()?;
        self.poll_flush(context)
    }

    fn is_gone(&self, context: &mut Context<'_>) -> bool {
        self.poll_gone(context).is_ready()
    }
}

/// Where in a request its reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Content,
    Trailers,
    End,
}

/// The content of a request.
pub(crate) struct Received3 {
    half: RequestStream<Receiving, Bytes>,
    at: At,
    framing: Framing,
    /// What was read before anybody asked for it.
    ahead: Option<Result<Part, BodyError>>,
    /// How many bytes have come, and how many were taken.
    come: u64,
    taken: u64,
    sender: Rc<Sender3>,
    signal: Rc<Signal>,
    /// Which of its trailers go on.
    trailers: Trailers,
}

impl Received3 {
    pub(in crate::http) fn new(half: RequestStream<Receiving, Bytes>, sender: &Rc<Sender3>, signal: &Rc<Signal>) -> Self {
        let (sender, signal, framing) = (sender.clone(), signal.clone(), Framing::Chunked);
        Self { half, at: At::Content, framing, ahead: None, come: 0, taken: 0, sender, signal, trailers: Trailers::default() }
    }

    /// Reads what has come with the head. Afterwards it is known whether the request has no content, which QUIC tells in no other way. Trailers without content
    /// are not waited for.
    pub(in crate::http) fn look(&mut self, context: &mut Context<'_>) {
        if let Poll::Ready(part) = self.poll_next(context) {
            self.ahead = part;
        }
    }

    /// Whether the request has ended, and there is nothing in it.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.at == At::End && self.ahead.is_none()
    }

    /// Sets how long the content says that it is, to which it is held (RFC 9114 §4.1.2).
    pub(in crate::http) fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        loop {
            match self.at {
                At::Content => match ready!(self.half.poll_recv_data(context)) {
                    Ok(Some(mut data)) => {
                        let data = data.copy_to_bytes(data.remaining());
                        if !data.is_empty() {
                            self.come += data.len() as u64;
                            return Poll::Ready(Some(Ok(Part::Data(data))));
                        }
                    }
                    Ok(None) => self.at = At::Trailers,
                    Err(_) => return self.broken(BodyError::ClientGone),
                },
                At::Trailers => {
                    let trailers = ready!(self.half.poll_recv_trailers(context));
                    self.at = At::End;
                    return match trailers {
                        Ok(Some(trailers)) if trailers.len() > MAX_TRAILERS => self.broken(BodyError::Client(Malformed::Trailers)),
                        Ok(Some(trailers)) if !trailers.is_empty() => Poll::Ready(Some(Ok(Part::Trailers(trailers)))),
                        Ok(_) => Poll::Ready(None),
                        Err(_) => self.broken(BodyError::ClientGone),
                    };
                }
                At::End => return Poll::Ready(None),
            }
        }
    }

    fn broken(&mut self, why: BodyError) -> Poll<Option<Result<Part, BodyError>>> {
        self.at = At::End;
        Poll::Ready(Some(Err(why)))
    }

    /// Whether more or less has come than the head says, with what `part` tells.
    fn is_false(&self, part: Option<&Result<Part, BodyError>>) -> bool {
        let Framing::Length(length) = self.framing else { return false };
        match part {
            Some(Ok(Part::Data(_))) => self.come > length,
            Some(Ok(Part::Trailers(_))) | None => self.come != length,
            Some(Err(_)) => false,
        }
    }
}

/// How many trailers a request may have, as over HTTP/1.1.
const MAX_TRAILERS: usize = 32;

impl Content for Received3 {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let polled = match self.ahead.take() {
            Some(part) => Poll::Ready(Some(part)),
            None => self.poll_next(context),
        };
        let Poll::Ready(mut part) = polled else {
            if self.signal.is_request_late() {
                return Poll::Ready(Some(Err(BodyError::Late)));
            }
            self.signal.awaits();
            return Poll::Pending;
        };
        if self.is_false(part.as_ref()) {
            // RFC 9114 §4.1.2: such a request is malformed.
            self.sender.reset_with(Code::H3_MESSAGE_ERROR);
            return self.broken(BodyError::Client(Malformed::Length));
        }
        let size = if let Some(Ok(Part::Data(data))) = &part { data.len() } else { 0 };
        self.taken += size as u64;
        self.signal.moved(size);
        if self.at == At::End {
            self.signal.received();
        }
        if let Some(Ok(Part::Trailers(fields))) = &mut part {
            self.trailers.filter(fields);
        }
        Poll::Ready(part.filter(|part| !matches!(part, Ok(Part::Trailers(fields)) if fields.is_empty())))
    }

    fn is_end(&self) -> bool {
        self.at == At::End && self.ahead.is_none()
    }

    fn taken(&self) -> u64 {
        self.taken
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_gone(context)
    }

    /// Passes an interim response on, if the client has read what it was sent before.
    fn interim(&mut self, response: &mut Status, context: &mut Context<'_>) {
        if !self.sender.is_unanswered() || !self.sender.has_room() {
            return;
        }
        let mut interim = Response::new(());
        (*interim.status_mut(), *interim.headers_mut()) = (response.code, std::mem::take(response.fields.map()));
        strip_response(interim.headers_mut());
        interim.headers_mut().remove(header::CONTENT_LENGTH);
        let _ = now(self.sender.half.borrow_mut().send_response(interim));
        // What cannot be written now is written before the final response, where an error shows again.
        let _ = self.sender.poll_flush(context);
    }

    fn may_end_in_trailers(&self) -> bool {
        !self.is_end()
    }

    fn pass_trailers(&mut self, trailers: Trailers) {
        self.trailers = trailers;
    }
}
