//! One client's HTTP/3 connection: each stream is an exchange with a task of its own, on this thread, as over HTTP/2. The libraries have flow control and the
//! number of streams; [`Meter`] counts floods; the connection closes by GOAWAY.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{Connection, RequestResolver, RequestStream};
use http::{HeaderMap, Method, Request, header};
use sluicegate_decide::answer::Reason;
use sluicegate_model::settings::ClientSettings;
use sluicegate_model::stats::count;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::Http;
use super::stream::{AT_ONCE, prepare, respond};
use crate::h1::Framing;
use crate::http::body::RequestBody;
use crate::http::client::{Answering as _, AnyContent, Cut, Received3, Sender3, Signal};
use crate::http::exchange::{Peer, exchange, refuse};
use crate::http2;
use crate::http3::{Last, MAX_HEAD, Meter, Sending, Transport};
use crate::origin::{Origin, Secured, admits};

/// How long requests that were under way at the first GOAWAY are still taken (RFC 9114 §5.2): the second says which is the last.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// How many more requests the first GOAWAY lets come.
const MORE: usize = 1 << 16;

type Stream = RequestResolver<Transport, Bytes>;
type Halves = RequestStream<crate::http3::Bidirectional, Bytes>;

/// What a connection's driver is woken for.
enum Next {
    Stream(Box<Stream>, Sending),
    /// The connection is to close, after the exchanges that run: GOAWAY is due.
    Goodbye,
    /// The connection is to close now, for this reason.
    End(Code),
    Ended,
}

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// That it closes. Requests that were under way are still served.
    Closing,
    /// Which request is the last.
    Last,
}

/// Serves HTTP/3 on a connection whose handshake is done. `local`: the address that the client reached.
pub(crate) async fn serve3(
    connection: quinn::Connection,
    origin: Origin,
    (listener, local): (SocketAddr, SocketAddr),
    tls: Secured,
    shared: &Rc<Http>,
) {
    count(&shared.core.stats.http3.connections);
    let Some(mut peer) = Peer::new(origin, listener, local) else { return };
    peer.tls = Some(Rc::new(tls));
    let mut peer = Rc::new(peer);
    let settings = shared.core.view().listener(listener).map(|l| l.settings.clone()).unwrap_or_default();
    let entered = shared.open.enter(listener, &settings.timeouts);
    let signal = &entered.signal;
    let (meter, taken) = (Meter::new(shared.core.clock.clone()), Last::default());
    let Some(mut driver) = greet(Transport::new(connection.clone(), meter.clone(), taken.clone()), signal).await else { return };
    signal.end();
    let running = Rc::new(Running { streams: Cell::new(0), signal: signal.clone() });
    let (mut told, mut left) = (Told::Nothing, settings.connections.requests.unwrap_or(u32::MAX));
    let mut waits = None;
    loop {
        let next = poll_fn(|context| {
            signal.wake_with(context.waker());
            meter.wake_with(context.waker());
            let accepted = pin!(driver.accept()).poll(context);
            if meter.is_exceeded() {
                return Poll::Ready(Next::End(Code::H3_EXCESSIVE_LOAD));
            }
            let closing = || left == 0 || signal.is_closing() || shared.core.stopping.get();
            match accepted {
                Poll::Ready(Ok(Some(stream))) => match taken.take() {
                    Some(sending) => Poll::Ready(Next::Stream(Box::new(stream), sending)),
                    None => Poll::Ready(Next::Ended),
                },
                Poll::Ready(Ok(None)) => Poll::Ready(Next::Ended),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, client = %peer.address, "an HTTP/3 connection broke");
                    Poll::Ready(Next::Ended)
                }
                Poll::Pending if signal.is_over() => Poll::Ready(Next::End(Code::H3_NO_ERROR)),
                Poll::Pending if told == Told::Nothing && closing() => Poll::Ready(Next::Goodbye),
                Poll::Pending if told == Told::Closing => {
                    let wait = waits.get_or_insert_with(|| Box::pin(sleep(UNDER_WAY)));
                    wait.as_mut().poll(context).map(|()| Next::Goodbye)
                }
                Poll::Pending if told == Told::Last && running.streams.get() == 0 => Poll::Ready(Next::End(Code::H3_NO_ERROR)),
                Poll::Pending => {
                    // Streams that have begun have their turn first.
                    if meter.end_turn() {
                        context.waker().wake_by_ref();
                    }
                    Poll::Pending
                }
            }
        })
        .await;
        match next {
            // The client was told that it is not served, and may ask elsewhere.
            Next::Stream(_, sending) if told == Told::Last || left == 0 => sending.reset(Code::H3_REQUEST_REJECTED),
            Next::Stream(stream, sending) => {
                left = left.saturating_sub(1);
                match moved(&connection, &peer, listener, local, shared) {
                    Moved::No => {}
                    Moved::To(new) => peer = new,
                    Moved::Out => {
                        connection.close(0x107_u32.into(), b"");
                        return;
                    }
                }
                let (place, peer, settings, shared) = (Place::new(&running), peer.clone(), settings.clone(), shared.clone());
                let (meter, written) = (meter.clone(), sending.clone());
                // A panic ends only this task, and `place` is dropped then, too.
                spawn_local(async move {
                    serve_stream(*stream, sending, peer, settings, meter, shared).await;
                    // A connection that closes takes back what is still under way, so it waits for that.
                    written.delivered().await;
                    drop(place);
                });
            }
            Next::Goodbye => {
                // Who has had as many requests as a connection may have knows at once which is the last.
                told = if told == Told::Nothing && left > 0 { Told::Closing } else { Told::Last };
                let more = if told == Told::Closing { MORE } else { 1 };
                if driver.shutdown(more).await.is_err() {
                    return;
                }
            }
            Next::End(code) => {
                if code == Code::H3_EXCESSIVE_LOAD {
                    count(&shared.core.stats.http3.floods);
                    tracing::debug!(client = %peer.address, "a client floods its HTTP/3 connection");
                }
                connection.close(quinn::VarInt::from_u64(code.value()).unwrap_or_default(), b"");
                return;
            }
            Next::Ended => return,
        }
    }
}

/// Sends SETTINGS; none: the client leaves no room for it in time.
async fn greet(transport: Transport, signal: &Signal) -> Option<Connection<Transport, Bytes>> {
    let mut builder = h3::server::builder();
    builder.max_field_section_size(MAX_HEAD as u64).send_grease(false);
    let mut greeting = pin!(builder.build(transport));
    poll_fn(|context| {
        if signal.is_over() {
            return Poll::Ready(None);
        }
        signal.wake_with(context.waker());
        greeting.as_mut().poll(context).map(Result::ok)
    })
    .await
}

/// Where a client is.
enum Moved {
    No,
    /// It has another address now, from which it may connect.
    To(Rc<Peer>),
    /// It has another address now, from which it may not.
    Out,
}

/// Looks whether a client's address is still the one that it had (RFC 9000 §9): what is decided by an address is decided by the one that requests come from.
fn moved(connection: &quinn::Connection, peer: &Peer, listener: SocketAddr, local: SocketAddr, shared: &Http) -> Moved {
    let now = connection.remote_address();
    let now = SocketAddr::new(now.ip().to_canonical(), now.port());
    if now.ip() == peer.address.ip() {
        return Moved::No;
    }
    count(&shared.core.stats.http3.moved);
    let view = shared.core.view();
    let Some(known) = view.listener(listener) else { return Moved::Out };
    let Ok(origin) = admits(now, listener, &known.settings) else { return Moved::Out };
    match Peer::new(origin, listener, local) {
        Some(mut new) => {
            new.tls = peer.tls.clone();
            Moved::To(Rc::new(new))
        }
        None => Moved::Out,
    }
}

/// Serves one exchange, until its response was sent, or its time is up.
async fn serve_stream(stream: Stream, sending: Sending, peer: Rc<Peer>, settings: Arc<ClientSettings>, meter: Rc<Meter>, shared: Rc<Http>) {
    let entered = shared.open.enter(peer.listener, &settings.timeouts);
    let signal = &entered.signal;
    signal.head();
    let Some((request, halves)) = head(stream, &sending, signal, &meter).await else { return };
    let begun = Instant::now();
    let (send, receive) = halves.split();
    let sender = Sender3::new(send, sending, meter);
    // A stream that was reset before its turn came costs no more than its head.
    if poll_fn(|context| Poll::Ready(sender.poll_gone(context).is_ready())).await {
        return sender.wasted();
    }
    let received = Received3::new(receive, &sender, signal);
    let mut serving = pin!(answer(request, received, &sender, signal, &peer, &settings, begun, &shared));
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
        sender.reset(Cut::Cancelled);
    }
}

/// Reads a head; none: there is none, and the client was told why.
async fn head(stream: Stream, sending: &Sending, signal: &Signal, meter: &Meter) -> Option<(Request<()>, Halves)> {
    let mut reading = pin!(stream.resolve_request());
    let read = poll_fn(|context| {
        if signal.is_over() || signal.is_request_late() {
            return Poll::Ready(None);
        }
        signal.wake_with(context.waker());
        reading.as_mut().poll(context).map(Some)
    })
    .await;
    match read {
        Some(Ok(read)) => Some(read),
        // The library has answered 431.
        Some(Err(StreamError::HeaderTooBig { .. })) => {
            let mut sending = sending.clone();
            let _ = poll_fn(|context| h3::quic::SendStream::poll_finish(&mut sending, context)).await;
            poll_fn(|context| if signal.is_over() { Poll::Ready(Ok(())) } else { sending.poll_flush(context) }).await.ok()?;
            None
        }
        Some(Err(_)) => {
            meter.wasted();
            None
        }
        // Nothing of it was processed, and it may be asked again.
        None => {
            sending.reset(Code::H3_REQUEST_REJECTED);
            None
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "they are what an exchange is made of")]
async fn answer(
    mut request: Request<()>,
    mut received: Received3,
    sender: &Rc<Sender3>,
    signal: &Rc<Signal>,
    peer: &Peer,
    settings: &ClientSettings,
    begun: Instant,
    shared: &Rc<Http>,
) {
    if is_malformed(request.headers()) {
        sender.wasted();
        return sender.reset_with(Code::H3_MESSAGE_ERROR);
    }
    poll_fn(|context| {
        received.look(context);
        Poll::Ready(())
    })
    .await;
    let ended = received.is_empty();
    signal.begin(!ended);
    let head = *request.method() == Method::HEAD;
    let framing = match http2::framing(request.headers(), false) {
        // A request that has no content, and says that it has, is malformed (§4.1.2).
        Ok(Framing::Length(1..)) if ended => {
            sender.wasted();
            return sender.reset_with(Code::H3_MESSAGE_ERROR);
        }
        framing => framing,
    };
    let prepared = prepare(&mut request, settings.head).and(framing.map(drop).map_err(Reason::from));
    received.set_framing(if ended { Framing::Length(0) } else { framing.unwrap_or(Framing::Chunked) });
    let mut request = request.map(|()| RequestBody::Client(AnyContent::Http3(Box::new(received))));
    let response = match prepared {
        Ok(()) => exchange(&mut request, None, peer, begun, &shared.exchanges).await,
        Err(reason) => refuse(reason, Some(request.headers()), peer, &shared.exchanges),
    };
    respond(response, head, &**sender, signal, shared).await;
}

/// Whether a head has fields that only other versions of HTTP have (RFC 9114 §4.2).
fn is_malformed(headers: &HeaderMap) -> bool {
    let of_connections = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
    ];
    of_connections.iter().any(|name| headers.contains_key(name))
        || headers.get_all(header::TE).iter().any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The streams under way on a connection. Without any it is idle.
struct Running {
    streams: Cell<usize>,
    signal: Rc<Signal>,
}

struct Place(Rc<Running>);

impl Place {
    fn new(running: &Rc<Running>) -> Self {
        running.streams.set(running.streams.get() + 1);
        running.signal.carry(None);
        Self(running.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        if self.0.streams.get() == 0 {
            self.0.signal.end();
            // The connection may wait for its last stream.
            self.0.signal.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn fields_of_other_versions_are_malformed() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            is_malformed(&headers)
        };
        for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "websocket"), ("te", "gzip")] {
            assert!(with(name, value), "{name}");
        }
        assert!(!with("te", "trailers") && !with("accept", "*/*"));
    }
}
