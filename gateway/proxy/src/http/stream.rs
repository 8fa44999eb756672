//! One exchange as a stream of a client's HTTP/2 connection: its request is brought into the form that HTTP/1.1's have, and its response is sent
//! as the windows let it.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use sluicegate_model::settings::{ClientSettings, HeadLimits};

use super::answer::Reason;
use super::body::{BodyError, RequestBody};
use super::closing::Signal;
use super::connection::{Peer, refuse};
use super::exchange::exchange;
use super::reply::{Parts, Reply};
use super::tunnel::{self, End, Idle};
use super::upgrade;
use crate::h1::{Framing, Part, Status};
use crate::http2::{self, Incoming, NotSent, Outgoing};
use crate::worker::Shared;

/// The response's half of a stream, which the request's half asks whether anybody waits for it.
pub(super) struct Sender(RefCell<Half>);

enum Half {
    /// No head was sent.
    Head(SendResponse<Bytes>),
    Content(Outgoing),
}

impl Sender {
    fn new(respond: SendResponse<Bytes>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Half::Head(respond))))
    }

    /// `ended`: it is all.
    fn send_head(&self, response: Response<()>, ended: bool) -> Result<(), h2::Error> {
        let half = &mut *self.0.borrow_mut();
        let Half::Head(respond) = half else { return Ok(()) };
        let stream = respond.send_response(response, ended)?;
        *half = Half::Content(Outgoing::new(stream, ended));
        Ok(())
    }

    /// Before the head there is no content.
    fn content<T>(&self, with: impl FnOnce(&mut Outgoing) -> Result<T, NotSent>) -> Result<T, NotSent> {
        match &mut *self.0.borrow_mut() {
            Half::Head(_) => Err(NotSent::Closed),
            Half::Content(outgoing) => with(outgoing),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.content(|o| Ok(o.has_room())).unwrap_or_default()
    }

    pub(super) fn push(&self, part: Part, last: bool) -> Result<(), NotSent> {
        self.content(|o| o.push(part, last))
    }

    pub(super) fn finish(&self) -> Result<(), NotSent> {
        self.content(Outgoing::finish)
    }

    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        match &mut *self.0.borrow_mut() {
            Half::Head(_) => Poll::Ready(Err(NotSent::Closed)),
            Half::Content(outgoing) => outgoing.poll_flush(context),
        }
    }

    fn is_end(&self) -> bool {
        self.content(|o| Ok(o.is_end())).unwrap_or_default()
    }

    /// Ready when the client has reset the stream, or its connection has ended.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.0.borrow_mut() {
            Half::Head(respond) => respond.poll_reset(context).map(drop),
            Half::Content(outgoing) => outgoing.poll_gone(context),
        }
    }

    fn reset(&self, code: Code) {
        match &mut *self.0.borrow_mut() {
            Half::Head(respond) => respond.send_reset(code),
            Half::Content(outgoing) => outgoing.reset(code),
        }
    }
}

/// The content of a request.
pub(crate) struct Received {
    incoming: Incoming,
    framing: Framing,
    /// So much of it was taken.
    taken: u64,
    sender: Rc<Sender>,
    signal: Rc<Signal>,
    /// Extended CONNECT: what comes belongs to the other protocol, and is no content of the request.
    connect: bool,
}

impl Received {
    pub(super) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        let Poll::Ready(part) = self.incoming.poll_part(context) else {
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
        Poll::Ready(part.map(|p| p.map_err(|_| BodyError::ClientGone)))
    }

    pub(super) fn is_end(&self) -> bool {
        !self.connect && self.incoming.is_end()
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_gone(context)
    }

    /// Passes an interim response on.
    pub(super) fn interim(&self, response: &mut Status) {
        let Half::Head(respond) = &mut *self.sender.0.borrow_mut() else { return };
        let mut interim = Response::new(());
        (*interim.status_mut(), *interim.headers_mut()) = (response.code, std::mem::take(response.fields.map()));
        super::headers::strip_hop_by_hop(interim.headers_mut());
        // Fails only on a stream that is gone: the final response says so.
        let _ = respond.send_informational(interim);
    }
}

/// Serves one exchange, until its response was sent, or its time is up.
pub(super) async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    peer: Rc<Peer>,
    settings: Arc<ClientSettings>,
    shared: Rc<Shared>,
) {
    let entered = shared.closings.enter(peer.listener, &settings.timeouts);
    let signal = &entered.signal;
    signal.begin(!request.body().is_end_stream());
    let sender = Sender::new(respond);
    let mut serving = pin!(answer(request, &sender, signal, &peer, &settings, &shared));
    poll_fn(|context| {
        if signal.is_over() {
            return Poll::Ready(());
        }
        signal.wake_with(context.waker());
        serving.as_mut().poll(context)
    })
    .await;
    if !sender.is_end() {
        sender.reset(Code::CANCEL);
    }
}

async fn answer(
    request: Request<RecvStream>,
    sender: &Rc<Sender>,
    signal: &Rc<Signal>,
    peer: &Peer,
    settings: &ClientSettings,
    shared: &Rc<Shared>,
) {
    let (head, stream) = request.into_parts();
    let mut request = Request::from_parts(head, ());
    let head = *request.method() == Method::HEAD;
    let prepared = prepare(&mut request, settings.head);
    let connect = request.extensions().get::<upgrade::Connected>().is_some();
    let incoming = Incoming::new(stream);
    let framing = if connect { Framing::Length(0) } else { http2::framing(request.headers(), incoming.is_end()) };
    let received = Received { incoming, framing, taken: 0, sender: sender.clone(), signal: signal.clone(), connect };
    let mut request = request.map(|()| RequestBody::Stream(Box::new(received)));
    let response = match prepared {
        Ok(()) => exchange(&mut request, peer, shared).await,
        Err(reason) => refuse(reason, Some(request.headers()), peer, shared),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(response, sender, signal, shared).await;
    }
    respond(response, head, sender, signal, shared).await;
}

/// Brings a head into the form of HTTP/1.1's.
fn prepare(request: &mut Request<()>, limits: HeadLimits) -> Result<(), Reason> {
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if request.headers().len() > limits.fields || size > limits.bytes {
        return Err(Reason::LargeHead);
    }
    if let Some(protocol) = request.extensions_mut().remove::<h2::ext::Protocol>() {
        upgrade::from_connect(request, &protocol)?;
    } else if *request.method() == Method::CONNECT {
        return Err(Reason::Connect);
    }
    authority(request)?;
    join_cookies(request.headers_mut());
    Ok(())
}

/// The authority stands beside the fields; Host, if it is there too, says the same (RFC 9113 §8.3.1).
fn authority(request: &mut Request<()>) -> Result<(), Reason> {
    let Some(authority) = request.uri().authority().cloned() else { return Ok(()) };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    if authority.as_str().contains('@') || hosts.any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
        return Err(Reason::BadHost);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadHost)?;
    request.headers_mut().insert(header::HOST, host);
    *request.uri_mut() = request.uri().path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    Ok(())
}

/// RFC 9113 §8.2.3: for compression a client may send each cookie in a field of its own; elsewhere there is one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// A head without what HTTP/2 has no place for (RFC 9113 §8.2.2).
fn bring_out(status: StatusCode, mut headers: HeaderMap, shared: &Shared) -> Response<()> {
    // Ours say it to HTTP/1.1's clients; endpoints' fields of one hop are gone already.
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    // RFC 9110 §6.6.1: a recipient with a clock adds it where it is missing.
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, shared.date.borrow().clone());
    }
    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

async fn respond(response: Reply<'_>, head: bool, sender: &Sender, signal: &Signal, shared: &Shared) {
    let Parts { status, mut headers, mut body, .. } = response.into_parts();
    let nothing = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if let (false, Some(own)) = (nothing, body.own()) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(own.len()));
    }
    let ended = head || nothing || body.is_end();
    if sender.send_head(bring_out(status, headers, shared), ended).is_err() || ended {
        return;
    }
    let sent: Result<(), Code> = poll_fn(|context| {
        loop {
            match sender.poll_flush(context) {
                Poll::Ready(Ok(())) if sender.is_end() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Code::CANCEL)),
                Poll::Pending => {
                    signal.awaits();
                    let sending = body.poll_request(context);
                    return if let Poll::Ready(Err(_)) = sending { Poll::Ready(Err(Code::INTERNAL_ERROR)) } else { Poll::Pending };
                }
            }
            let pushed = match ready!(body.poll_part(context)) {
                Some(Ok(part)) => {
                    signal.moved(if let Part::Data(data) = &part { data.len() } else { 0 });
                    sender.push(part, body.is_end())
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a response broke");
                    return Poll::Ready(Err(Code::INTERNAL_ERROR));
                }
                None => sender.finish(),
            };
            if pushed.is_err() {
                return Poll::Ready(Err(Code::CANCEL));
            }
        }
    })
    .await;
    if let Err(code) = sent {
        sender.reset(code);
    }
}

/// The endpoint has agreed: RFC 8441 §5 has 200 for HTTP/1.1's 101.
async fn switch(response: Reply<'_>, sender: &Sender, signal: &Signal, shared: &Shared) {
    let idle = response.extensions().get::<Idle>().copied().unwrap_or(Idle(None));
    let Parts { headers, body, .. } = response.into_parts();
    if sender.send_head(bring_out(StatusCode::OK, headers, shared), false).is_ok() {
        tunnel::run(body, End::Stream(sender), idle, signal).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_make_a_cookie() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1"]);
        headers.append(header::COOKIE, HeaderValue::from_static("b=2; c=3"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
