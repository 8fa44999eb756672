//! One client's HTTP/2 connection: each stream is an exchange with a task of its own, on this thread. The library has flow control and limits of number and
//! size; floods are counted by [`Meter`]; the connection closes by GOAWAY.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason as Code, RecvStream};
use http::Request;
use sluicegate_model::settings::{ClientHttp2, ClientSettings};
use sluicegate_model::stats::count;
use tokio::task::spawn_local;

use super::Http;
use super::stream;
use crate::http::client::Signal;
use crate::http::exchange::Peer;
use crate::http2::{self, FAULTS, Guarded, MAX_HEADER_LIST, Meter, REMEMBERED, SEND_BUFFER};
use crate::stream::Stream;

/// How long the last GOAWAY may take to be written.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection's driver is woken for.
#[expect(clippy::large_enum_variant, reason = "it is looked at once, where it is made")]
enum Next {
    Stream(Request<RecvStream>, SendResponse<Bytes>),
    /// The connection is to close, after the exchanges that run.
    Close,
    /// The connection is to close now, for this reason.
    End(Code),
    Ended,
}

/// `ahead`: what was read to recognize the protocol.
pub(in crate::http) async fn serve(
    stream: Stream,
    ahead: Bytes,
    peer: Rc<Peer>,
    settings: &Arc<ClientSettings>,
    signal: &Rc<Signal>,
    shared: &Rc<Http>,
) {
    count(&shared.core.stats.http2_connections);
    let meter = Meter::new(shared.core.clock.clone(), http2::Peer::Client);
    let guarded = Guarded::of_client(stream, ahead, meter.clone());
    let Some(mut connection) = greet(guarded, &settings.http2, signal).await else { return };
    signal.end();
    let running = Rc::new(Running { streams: Cell::new(0), signal: signal.clone() });
    let (mut told, mut left) = (false, settings.connections.requests.unwrap_or(u32::MAX));
    loop {
        let next = poll_fn(|context| {
            signal.wake_with(context.waker());
            let accepted = connection.poll_accept(context);
            if meter.is_exceeded() {
                return Poll::Ready(Next::End(Code::ENHANCE_YOUR_CALM));
            }
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Next::Stream(request, respond)),
                Poll::Ready(Some(Err(error))) => {
                    if error.is_library() && error.reason() == Some(Code::ENHANCE_YOUR_CALM) {
                        count(&shared.core.stats.http2_floods);
                    }
                    tracing::debug!(%error, client = %peer.address, "an HTTP/2 connection broke");
                    Poll::Ready(Next::Ended)
                }
                Poll::Ready(None) => Poll::Ready(Next::Ended),
                Poll::Pending if signal.is_over() => Poll::Ready(Next::End(Code::NO_ERROR)),
                Poll::Pending if !told && (left == 0 || signal.is_closing() || shared.core.stopping.get() || meter.is_near_its_end()) => {
                    Poll::Ready(Next::Close)
                }
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
            Next::Stream(request, respond) => {
                left = left.saturating_sub(1);
                let (place, peer, settings, shared) = (Place::new(&running), peer.clone(), settings.clone(), shared.clone());
                let meter = meter.clone();
                // A panic ends only this task, and `place` is dropped then, too.
                spawn_local(async move {
                    stream::serve(request, respond, peer, settings, meter, shared).await;
                    drop(place);
                });
            }
            Next::Close => {
                told = true;
                connection.graceful_shutdown();
            }
            Next::End(code) => {
                if code != Code::NO_ERROR {
                    count(&shared.core.stats.http2_floods);
                    tracing::debug!(client = %peer.address, "a client floods its HTTP/2 connection");
                }
                connection.abrupt_shutdown(code);
                let _ = tokio::time::timeout(LINGER, poll_fn(|context| connection.poll_closed(context))).await;
                return;
            }
            Next::Ended => return,
        }
    }
}

/// Exchanges prefaces; none: the client did not, or not in time.
async fn greet(guarded: Guarded, settings: &ClientHttp2, signal: &Signal) -> Option<Connection<Guarded, Bytes>> {
    let mut greeting = pin!(
        Builder::new()
            .max_concurrent_streams(settings.max_concurrent_streams)
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            // The meter judges what comes in turns, and within a second. The library's own limits are for what the meter does not see.
            .max_concurrent_reset_streams(REMEMBERED)
            .max_pending_accept_reset_streams(REMEMBERED)
            .max_local_error_reset_streams(Some(FAULTS))
            .data_frame_budget(http2::small_frames(settings.connection_window))
            .enable_connect_protocol()
            .handshake(guarded)
    );
    poll_fn(|context| {
        if signal.is_over() {
            return Poll::Ready(None);
        }
        signal.wake_with(context.waker());
        greeting.as_mut().poll(context).map(Result::ok)
    })
    .await
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
        }
    }
}
