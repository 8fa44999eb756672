//! One exchange as a stream of a client's HTTP/2 connection. Its request is brought into the form of HTTP/1.1, and its response is sent as the windows let it.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use sluicegate_decide::answer::Reason;
use sluicegate_model::settings::{ClientSettings, HeadLimits};

use super::Http;
use super::tunnel;
use crate::h1::{Framing, Part};
use crate::http::body::RequestBody;
use crate::http::client::{Answering, AnyContent, Cut, Received, Sender, Signal};
use crate::http::exchange::{Parts, Peer, Reply, exchange, refuse};
use crate::http::rules::upgrade::{self, Idle};
use crate::http2::{self, Incoming, Meter};

/// A stream that its client resets sooner than this, before it is answered, was not a request, as nobody waits for so short a time. Longer ones take one of the
/// connection's places meanwhile, which bounds them.
pub(super) const AT_ONCE: Duration = Duration::from_millis(2);

/// Serves one exchange, until its response was sent, or its time is up.
pub(in crate::http) async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    peer: Rc<Peer>,
    settings: Arc<ClientSettings>,
    meter: Rc<Meter>,
    shared: Rc<Http>,
) {
    let sender = Sender::new(respond, meter);
    // A stream that was reset before its turn came costs no more than its head.
    if poll_fn(|context| Poll::Ready(sender.poll_gone(context).is_ready())).await {
        return sender.wasted();
    }
    let begun = Instant::now();
    let entered = shared.open.enter(peer.listener, &settings.timeouts);
    let signal = &entered.signal;
    signal.begin(!request.body().is_end_stream());
    let mut serving = pin!(answer(request, &sender, signal, &peer, &settings, begun, &shared));
    poll_fn(|context| {
        if signal.is_over() {
            return Poll::Ready(());
        }
        signal.wake_with(context.waker());
        serving.as_mut().poll(context)
    })
    .await;
    if sender.is_unanswered() && begun.elapsed() < AT_ONCE {
        sender.wasted();
    }
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
    begun: Instant,
    shared: &Rc<Http>,
) {
    let (head, stream) = request.into_parts();
    let mut request = Request::from_parts(head, ());
    let head = *request.method() == Method::HEAD;
    let prepared = prepare(&mut request, settings.head);
    let connect = request.extensions().get::<upgrade::Connected>().is_some();
    let incoming = Incoming::new(stream);
    let framing = if connect { Ok(Framing::Length(0)) } else { http2::framing(request.headers(), incoming.is_end()) };
    let prepared = prepared.and(framing.map(drop).map_err(Reason::from));
    let framing = framing.unwrap_or(Framing::Length(0));
    let received = Received::new(incoming, framing, sender, signal, connect);
    let mut request = request.map(|()| RequestBody::Client(AnyContent::Http2(Box::new(received))));
    let response = match prepared {
        Ok(()) => exchange(&mut request, None, peer, begun, &shared.exchanges).await,
        Err(reason) => refuse(reason, Some(request.headers()), peer, &shared.exchanges),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(response, sender, signal, shared).await;
    }
    respond(response, head, &**sender, signal, shared).await;
}

/// Brings a head into the form of HTTP/1.1.
pub(super) fn prepare(request: &mut Request<()>, limits: HeadLimits) -> Result<(), Reason> {
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

/// Puts the authority into `Host`. It stands beside the fields; if `Host` is there, too, it must say the same (RFC 9113 §8.3.1). Whether it is a host is asked
/// when the request has [arrived](crate::http::exchange::arrival).
fn authority(request: &mut Request<()>) -> Result<(), Reason> {
    let Some(authority) = request.uri().authority().cloned() else { return Ok(()) };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let same = hosts.next().is_none_or(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()));
    if !same || hosts.next().is_some() {
        return Err(Reason::BadHost);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadHost)?;
    request.headers_mut().insert(header::HOST, host);
    *request.uri_mut() = request.uri().path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    Ok(())
}

/// Joins cookies in one field. For compression a client may send each in a field of its own (RFC 9113 §8.2.3).
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

/// A response's head without what HTTP/2 has no place for (RFC 9113 §8.2.2).
fn bring_out(status: StatusCode, mut headers: HeaderMap, shared: &Http) -> Response<()> {
    // The gateway's answers have it for HTTP/1.1's clients. Endpoints' fields of one hop are gone already.
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: such a response has no length.
        headers.remove(header::CONTENT_LENGTH);
    }
    // RFC 9110 §6.6.1: a recipient with a clock adds the date if it is missing.
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, shared.core.date.borrow().clone());
    }
    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

/// Sends a response as the windows let it.
pub(super) async fn respond(response: Reply<'_>, head: bool, sender: &impl Answering, signal: &Signal, shared: &Http) {
    let Parts { status, mut headers, mut body, .. } = response.into_parts();
    let nothing = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if let (false, Some(own)) = (nothing, body.own()) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(own.len()));
    }
    let ended = head || nothing || body.is_end();
    if sender.send_head(bring_out(status, headers, shared), ended).is_err() || (ended && sender.is_end()) {
        return;
    }
    let sent: Result<(), Cut> = poll_fn(|context| {
        loop {
            match sender.poll_flush(context) {
                Poll::Ready(Ok(())) if sender.is_end() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut::Cancelled)),
                Poll::Pending => {
                    signal.awaits();
                    let sending = body.poll_request(context);
                    return if let Poll::Ready(Err(_)) = sending { Poll::Ready(Err(Cut::Broken)) } else { Poll::Pending };
                }
            }
            let pushed = match ready!(body.poll_part(context)) {
                Some(Ok(part)) => {
                    signal.moved(if let Part::Data(data) = &part { data.len() } else { 0 });
                    sender.push_last(part, body.is_end())
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a response broke");
                    return Poll::Ready(Err(Cut::Broken));
                }
                None => sender.finish(),
            };
            if pushed.is_err() {
                return Poll::Ready(Err(Cut::Cancelled));
            }
        }
    })
    .await;
    if let Err(why) = sent {
        sender.reset(why);
    }
}

/// The endpoint has agreed to another protocol: RFC 8441 §5 has 200 where HTTP/1.1 has 101.
async fn switch(response: Reply<'_>, sender: &Sender, signal: &Signal, shared: &Http) {
    let idle = response.extensions().get::<Idle>().copied().unwrap_or(Idle(None));
    let Parts { mut headers, body, .. } = response.into_parts();
    // RFC 9110 §8.6: a success of CONNECT has no length.
    headers.remove(header::CONTENT_LENGTH);
    if sender.send_head(bring_out(StatusCode::OK, headers, shared), false).is_ok() {
        tunnel::run(body, sender, idle, signal).await;
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
