//! One client's HTTP/1.1 connection: request after request, each answered before the next is looked at.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use sluicegate_decide::answer::Reason;
use sluicegate_model::settings::ClientSettings;
use tokio::io::AsyncWriteExt as _;

use super::Http;
use super::http2;
use super::tunnel;
use crate::h1::{self, Connection, Decoder, Framing, Head, Message};
use crate::http::body::RequestBody;
use crate::http::client::{AnyContent, Client, Content as _, NoRequest, Reader};
use crate::http::exchange::{Peer, Reply, arrival, exchange, refuse};
use crate::http::rules::upgrade::Idle;
use crate::origin::{Origin, Secured};
use crate::stream::Stream;

/// How much of a request's content is read and dropped to keep a connection whose request was answered early.
const DISCARD: u64 = 64 << 10;
/// How long a connection that is closed while its client still sends is drained, lest a reset destroy the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Serves HTTP of the version that was agreed on, or that the client's first bytes show.
pub(crate) async fn serve(stream: Stream, origin: Origin, listener: SocketAddr, tls: Option<Secured>, shared: &Rc<Http>) {
    let local = if listener.ip().is_unspecified() { stream.socket().local_addr().unwrap_or(listener) } else { listener };
    let Some(mut peer) = Peer::new(origin, listener, local) else { return };
    peer.tls = tls.map(Rc::new);
    let settings = shared.core.view().listener(listener).map(|l| l.settings.clone()).unwrap_or_default();
    peer.alternative = peer.tls.as_ref().and_then(|_| alternative(&settings, listener.port()));
    let closing = shared.open.enter(listener, &settings.timeouts);
    let signal = &closing.signal;
    if stream.is_http2() {
        return Box::pin(http2::serve(stream, Bytes::new(), Rc::new(peer), &settings, signal, shared)).await;
    }
    let mut talking = pin!(talk(Client::new(stream, signal.clone(), shared.exchanges.endpoints.scratch.clone()), &peer, &settings, shared));
    let handed_over = poll_fn(|context| {
        if signal.is_over() {
            return Poll::Ready(None);
        }
        signal.wake_with(context.waker());
        talking.as_mut().poll(context)
    })
    .await;
    if let Some((stream, ahead)) = handed_over {
        Box::pin(http2::serve(stream, ahead, Rc::new(peer.clone()), &settings, signal, shared)).await;
    }
}

/// How long clients remember that HTTP/3 is served, in seconds: a day.
const REMEMBERED: u32 = 24 * 60 * 60;

/// What clients are told of HTTP/3 (RFC 9114 §3.1.1), where it is served.
fn alternative(settings: &ClientSettings, port: u16) -> Option<HeaderValue> {
    let port = settings.http3.as_ref()?.advertised_port.unwrap_or(port);
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma={REMEMBERED}")).ok()
}

/// A connection that speaks HTTP/2, and what was read from it.
type HandedOver = Option<(Stream, Bytes)>;

async fn talk(client: Rc<Client>, peer: &Peer, settings: &ClientSettings, shared: &Rc<Http>) -> HandedOver {
    let mut reader = Reader::new(client.clone(), settings);
    let mut left = settings.connections.requests.unwrap_or(u32::MAX);
    let mut serves = (0, false);
    loop {
        let closing = || client.signal.is_closing() || shared.core.stopping.get() || client.is_last();
        let Head { message, framing: _, keep_alive } =
            match poll_fn(|context| reader.poll_request(context, client.signal.is_ending(), &shared.spare)).await {
                Ok(head) => head,
                Err(NoRequest::Ended) => {
                    farewell(peer, &client).await;
                    return None;
                }
                Err(NoRequest::Http2) => {
                    drop(client);
                    return reader.into_parts();
                }
                Err(refused @ (NoRequest::Bad(_) | NoRequest::Late)) => {
                    let reason = match refused {
                        NoRequest::Bad(why) => Reason::from(why),
                        _ => Reason::SlowRequest,
                    };
                    tracing::debug!(?reason, client = %peer.address, "a request was refused");
                    let answered = Answered { head: false, version: Version::HTTP_11, kept: None };
                    let _ = respond(&mut refuse(reason, None, peer, &shared.exchanges), answered, &client, shared).await;
                    linger(&mut reader, &client).await;
                    return None;
                }
            };
        client.signal.begin(!client.unread().is_end());
        left = left.saturating_sub(1);
        let Message { request, lines } = message;
        let (head, version) = (*request.method() == Method::HEAD, request.version());
        // A client that expects something else may wait as well. Lines expect nothing.
        let expects = arrival::expects_continue(request.headers()).unwrap_or(true);
        let mut request = request.map(|()| RequestBody::Client(AnyContent::Http1(&mut reader)));
        let mut response = exchange(&mut request, lines, peer, Instant::now(), &shared.exchanges).await;
        shared.keep(std::mem::take(request.headers_mut()));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            Box::pin(switch(response, &client, shared)).await;
            return None;
        }
        // The newest view is asked, rather than the exchange's, as a listener may have gone meanwhile.
        let close = !keep_alive
            || left == 0
            || closing()
            || !shared.core.serves_http(peer.listener, &mut serves)
            || too_much(client.unread(), expects);
        let kept = (!close).then(|| if version == Version::HTTP_10 { Connection::KeptAsAsked } else { Connection::Kept });
        let sent = respond(&mut response, Answered { head, version, kept }, &client, shared).await;
        drop(response);
        match sent {
            Sent::Kept if discard(&mut reader, &client).await => {}
            Sent::Broken => return None,
            Sent::Kept | Sent::Last => {
                if client.unread().is_end() {
                    farewell(peer, &client).await;
                } else {
                    linger(&mut reader, &client).await;
                }
                return None;
            }
        }
        client.signal.end();
        reader.rest();
    }
}

/// What of a request decides how its response is written.
struct Answered {
    head: bool,
    version: Version,
    /// What the connection is told; none: it closes after the response.
    kept: Option<Connection>,
}

/// How a response was sent.
enum Sent {
    Kept,
    /// It was sent, and the connection must close.
    Last,
    /// It was sent in part.
    Broken,
}

async fn respond(response: &mut Reply<'_>, to: Answered, client: &Client, shared: &Http) -> Sent {
    let status = response.status();
    let bare = to.head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let framing = match response.body().framing() {
        _ if bare => Framing::Length(0),
        known @ Framing::Length(_) => known,
        _ if to.version == Version::HTTP_10 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let close = framing == Framing::UntilClose
        || response.fields().made().is_some_and(|fields| fields.get(header::CONNECTION).is_some_and(|v| v == "close"));
    let connection = to.kept.filter(|_| !close).unwrap_or(Connection::Close);
    let out = &client.outgoing;
    if let (true, true, Framing::Length(length)) = (to.head, response.body().is_own(), response.body().framing()) {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    h1::response_head(
        out.borrow_mut().begin(framing.into()),
        status,
        response.fields(),
        framing,
        bare,
        connection,
        &shared.core.date.borrow(),
    );
    let body = response.body_mut();
    let mut ended = bare;
    let written = poll_fn(|context| {
        loop {
            let mut waiting = false;
            while !ended && !waiting && out.borrow().has_room() {
                match body.poll_part(context) {
                    Poll::Ready(Some(Ok(part))) => {
                        client.signal.moved(if let h1::Part::Data(data) = &part { data.len() } else { 0 });
                        out.borrow_mut().push(part).map_err(|_| ())?;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        // What came before the break is still sent. The missing end tells the client.
                        tracing::debug!(%error, "a response broke");
                        let _ = client.poll_flush(context);
                        return Poll::Ready(Err(()));
                    }
                    Poll::Ready(None) => {
                        out.borrow_mut().finish().map_err(|_| ())?;
                        ended = true;
                    }
                    Poll::Pending => waiting = true,
                }
            }
            match client.poll_flush(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => {
                    client.signal.awaits();
                    let sending = body.poll_request(context);
                    return if let Poll::Ready(Err(_)) = sending { Poll::Ready(Err(())) } else { Poll::Pending };
                }
            }
            if ended {
                return Poll::Ready(Ok(()));
            }
            if waiting {
                return Poll::Pending;
            }
        }
    })
    .await;
    match (written, connection) {
        (Err(()), _) => Sent::Broken,
        (Ok(()), Connection::Close) => Sent::Last,
        (Ok(()), _) => Sent::Kept,
    }
}

/// The endpoint has agreed to another protocol. The connection ends with that.
async fn switch(mut response: Reply<'_>, client: &Client, shared: &Http) {
    let idle = response.extensions().get::<Idle>().copied().unwrap_or(Idle(None));
    let (framing, connection, status) = (Framing::UntilClose, h1::Connection::Upgrade, response.status());
    {
        let (mut out, date) = (client.outgoing.borrow_mut(), shared.core.date.borrow());
        h1::response_head(out.begin(framing.into()), status, response.fields(), framing, true, connection, &date);
    }
    client.tunnel();
    tunnel::run(response.into_parts().body, client, idle, &client.signal).await;
}

/// Whether more of a request is unread than is worth reading for the sake of the connection. A client that expects 100 may or may not send its content after a
/// final response, so nobody knows what comes next (RFC 9110 §10.1.1).
fn too_much(unread: Decoder, expects: bool) -> bool {
    match unread {
        Decoder::Length(0) => false,
        Decoder::Length(left) => expects || left > DISCARD,
        // The request is still sent on while the response is.
        _ => expects,
    }
}

/// Reads the rest of the request. Returns false if it is too much, or broken.
async fn discard(reader: &mut Reader, client: &Client) -> bool {
    let mut left = DISCARD;
    while !client.unread().is_end() {
        match poll_fn(|context| reader.poll_part(context)).await {
            Some(Ok(h1::Part::Data(data))) if data.len() as u64 <= left => left -= data.len() as u64,
            Some(Ok(h1::Part::Trailers(_))) | None => {}
            _ => return false,
        }
    }
    true
}

/// Tells the client that this is the end. Without TLS's `close_notify` it cannot tell the end from a cut (RFC 8446 §6.1).
async fn farewell(peer: &Peer, client: &Client) {
    if peer.tls.is_some() {
        let closing = poll_fn(|context| pin!(client.stream.borrow_mut().shutdown()).poll(context));
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

async fn linger(reader: &mut Reader, client: &Client) {
    let draining = async {
        // It is borrowed for one poll, as nothing else polls this connection now.
        if poll_fn(|context| pin!(client.stream.borrow_mut().shutdown()).poll(context)).await.is_err() {
            return;
        }
        while matches!(poll_fn(|context| reader.poll_discard(context)).await, Ok(1..)) {}
    };
    // The client closes when it has read the answer. If it does not, that is its affair.
    let _ = tokio::time::timeout(LINGER, draining).await;
}
