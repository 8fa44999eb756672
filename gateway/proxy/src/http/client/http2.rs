//! A client's side of one stream of an HTTP/2 connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason as Code;
use h2::server::SendResponse;
use http::{Response, header};

use super::signal::Signal;
use super::{Answering, Broke, Content, Cut, Sink};
use crate::h1::{Framing, Part, Status};
use crate::http::error::BodyError;
use crate::http::rules::headers::strip_response;
use crate::http::rules::trailers::Trailers;
use crate::http2::{Incoming, Meter, NotSent, Outgoing};

/// The response's half of a stream. The request's half asks it whether anybody waits for the response.
pub(in crate::http) struct Sender {
    half: RefCell<Half>,
    meter: Rc<Meter>,
}

enum Half {
    /// No head was sent yet.
    Head(SendResponse<Bytes>),
    Content(Outgoing),
}

impl Sender {
    /// Notes that the stream was not a request, but cost as much as one.
    pub(in crate::http) fn wasted(&self) {
        self.meter.wasted();
    }

    pub(in crate::http) fn new(respond: SendResponse<Bytes>, meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self { half: RefCell::new(Half::Head(respond)), meter })
    }

    /// Whether no head was sent.
    pub(in crate::http) fn is_unanswered(&self) -> bool {
        matches!(&*self.half.borrow(), Half::Head(_))
    }

    /// Sends the head. `ended`: there is nothing else.
    pub(in crate::http) fn send_head(&self, response: Response<()>, ended: bool) -> Result<(), h2::Error> {
        let half = &mut *self.half.borrow_mut();
        let Half::Head(respond) = half else { return Ok(()) };
        let stream = respond.send_response(response, ended)?;
        *half = Half::Content(Outgoing::new(stream, ended, self.meter.clone()));
        Ok(())
    }

    /// Sends content, which cannot come before the head.
    fn content<T>(&self, with: impl FnOnce(&mut Outgoing) -> Result<T, NotSent>) -> Result<T, NotSent> {
        match &mut *self.half.borrow_mut() {
            Half::Head(_) => Err(NotSent::Closed),
            Half::Content(outgoing) => with(outgoing),
        }
    }

    pub(in crate::http) fn push(&self, part: Part, last: bool) -> Result<(), NotSent> {
        self.content(|o| o.push(part, last))
    }

    pub(in crate::http) fn finish(&self) -> Result<(), NotSent> {
        self.content(Outgoing::finish)
    }

    pub(in crate::http) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        match &mut *self.half.borrow_mut() {
            Half::Head(_) => Poll::Ready(Err(NotSent::Closed)),
            Half::Content(outgoing) => outgoing.poll_flush(context),
        }
    }

    pub(in crate::http) fn is_end(&self) -> bool {
        self.content(|o| Ok(o.is_end())).unwrap_or_default()
    }

    /// Is ready when the client has reset the stream, or its connection has ended.
    pub(in crate::http) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.half.borrow_mut() {
            Half::Head(respond) => respond.poll_reset(context).map(drop),
            Half::Content(outgoing) => outgoing.poll_gone(context),
        }
    }

    pub(in crate::http) fn reset(&self, code: Code) {
        match &mut *self.half.borrow_mut() {
            Half::Head(respond) => respond.send_reset(code),
            Half::Content(outgoing) => outgoing.reset(code),
        }
    }
}

/// The content of a request.
pub(crate) struct Received {
    incoming: Incoming,
    framing: Framing,
    /// How many of its bytes were taken.
    taken: u64,
    sender: Rc<Sender>,
    signal: Rc<Signal>,
    /// Whether it is extended CONNECT: then what comes belongs to the other protocol, and is not content of the request.
    connect: bool,
    /// Which of its trailers go on.
    trailers: Trailers,
}

impl Received {
    /// `connect`: it is extended CONNECT.
    pub(in crate::http) fn new(incoming: Incoming, framing: Framing, sender: &Rc<Sender>, signal: &Rc<Signal>, connect: bool) -> Self {
        let (sender, signal) = (sender.clone(), signal.clone());
        Self { incoming, framing, taken: 0, sender, signal, connect, trailers: Trailers::default() }
    }
}

impl Content for Received {
    fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let Poll::Ready(mut part) = self.incoming.poll_part(context) else {
            if self.signal.is_request_late() {
                return Poll::Ready(Some(Err(BodyError::Late)));
            }
            self.signal.awaits();
            return Poll::Pending;
        };
        let size = if let Some(Ok(Part::Data(data))) = &part { data.len() } else { 0 };
        self.taken += size as u64;
        self.signal.moved(size);
        if self.incoming.is_end() {
            self.signal.received();
        }
        if let Some(Ok(Part::Trailers(fields))) = &mut part {
            self.trailers.filter(fields);
        }
        let part = part.filter(|part| !matches!(part, Ok(Part::Trailers(fields)) if fields.is_empty()));
        Poll::Ready(part.map(|p| p.map_err(|_| BodyError::ClientGone)))
    }

    fn is_end(&self) -> bool {
        !self.connect && self.incoming.is_end()
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

    /// Passes an interim response on.
    fn interim(&mut self, response: &mut Status, _context: &mut Context<'_>) {
        let Half::Head(respond) = &mut *self.sender.half.borrow_mut() else { return };
        let mut interim = Response::new(());
        (*interim.status_mut(), *interim.headers_mut()) = (response.code, std::mem::take(response.fields.map()));
        strip_response(interim.headers_mut());
        interim.headers_mut().remove(header::CONTENT_LENGTH);
        // It fails only on a stream that is gone, as the final response will tell.
        let _ = respond.send_informational(interim);
    }

    fn may_end_in_trailers(&self) -> bool {
        !self.is_end()
    }

    fn pass_trailers(&mut self, trailers: Trailers) {
        self.trailers = trailers;
    }
}

impl Answering for Sender {
    fn send_head(&self, response: Response<()>, ended: bool) -> Result<(), Broke> {
        Sender::send_head(self, response, ended).map_err(|_| Broke)
    }

    fn push_last(&self, part: Part, last: bool) -> Result<(), Broke> {
        Sender::push(self, part, last).map_err(|_| Broke)
    }

    fn finish(&self) -> Result<(), Broke> {
        Sender::finish(self).map_err(|_| Broke)
    }

    fn is_end(&self) -> bool {
        Sender::is_end(self)
    }

    fn reset(&self, why: Cut) {
        Sender::reset(
            self,
            match why {
                Cut::Cancelled => Code::CANCEL,
                Cut::Broken => Code::INTERNAL_ERROR,
            },
        );
    }
}

impl Sink for Sender {
    fn has_room(&self) -> bool {
        self.content(|o| Ok(o.has_room())).unwrap_or_default()
    }

    fn push(&self, part: Part) -> Result<(), Broke> {
        Sender::push(self, part, false).map_err(|_| Broke)
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        Sender::poll_flush(self, context).map_err(|_| Broke)
    }

    fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        ready!(Sink::poll_flush(self, context))?;
        Poll::Ready(self.finish().map_err(|_| Broke))
    }

    fn is_gone(&self, context: &mut Context<'_>) -> bool {
        self.poll_gone(context).is_ready()
    }
}
