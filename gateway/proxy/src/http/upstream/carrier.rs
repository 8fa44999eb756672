//! One HTTP/2 connection to an endpoint, which the exchanges of a worker share. A task drives it, as no exchange waits for it alone.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::{Request, uri};
use sluicegate_model::settings::KeepAlive;
use sluicegate_model::snapshot::ServicePort;

use super::Upstreams;
use super::terms::Terms;
use crate::core::places::Places;
use crate::http2::{self, FAULTS, Guarded, MAX_HEADER_LIST, Meter, Outgoing, REMEMBERED, SEND_BUFFER};
use crate::stream::Stream;

/// How long the endpoint's settings may take. An endpoint that speaks HTTP/2 sends them at once (RFC 9113 §3.4), and they say how many streams it takes.
const SETTINGS_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Carrier {
    /// Opens no stream itself: each is opened by a clone. A sender remembers the newest of its streams that has to wait for a place, opens no other until that has
    /// one, and if it is polled, takes away that stream's waker. A clone remembers none.
    sender: RefCell<SendRequest<Bytes>>,
    meter: Rc<Meter>,
    scheme: uri::Scheme,
    /// How many exchanges are under way, and how many there may be by the gateway's own settings.
    streams: Cell<usize>,
    most: usize,
    idle_since: Cell<Instant>,
    terms: Cell<Terms>,
    /// The places that it takes, as long as it is open.
    places: Weak<Places>,
    state: Rc<State>,
    /// Is told when there is room again.
    upstreams: Weak<Upstreams>,
    address: SocketAddr,
}

/// What the task that drives the connection knows.
#[derive(Default)]
struct State {
    ended: Cell<bool>,
    /// Whether the endpoint's settings are known.
    settled: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl State {
    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for the endpoint's settings. Returns false if the connection has ended before.
    fn poll_settled(&self, context: &mut Context<'_>) -> Poll<bool> {
        if self.settled.get() || self.ended.get() {
            return Poll::Ready(!self.ended.get());
        }
        *self.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Carrier {
    /// Begins HTTP/2, and waits for the endpoint's settings. None: there are none, as the endpoint does not speak HTTP/2.
    pub(super) async fn new(
        stream: Stream,
        service: &ServicePort,
        places: Option<Box<Places>>,
        (upstreams, address): (&Rc<Upstreams>, SocketAddr),
        clock: Rc<Cell<u64>>,
    ) -> Option<Rc<Self>> {
        let settings = &service.settings.http2;
        let places: Option<Rc<Places>> = places.map(Rc::from);
        let counted = places.as_ref().map_or_else(Weak::new, Rc::downgrade);
        let scheme = if matches!(stream, Stream::Tls(_)) { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
        let meter = Meter::new(clock, http2::Peer::Endpoint);
        let most = usize::try_from(settings.max_concurrent_streams).unwrap_or(usize::MAX);
        let hello = Builder::new()
            .enable_push(false)
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .initial_max_send_streams(most)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED)
            .max_local_error_reset_streams(Some(FAULTS))
            .data_frame_budget(http2::small_frames(settings.connection_window))
            .handshake(Guarded::new(stream, Bytes::new(), meter.clone()));
        let (sender, mut connection) = hello.await.ok()?;
        let state = Rc::new(State::default());
        let (driven, pings, keep_alive) = (state.clone(), connection.ping_pong(), settings.keep_alive);
        let counted_by = meter.clone();
        tokio::task::spawn_local(async move {
            let mut living = pin!(sign_of_life(pings, keep_alive));
            poll_fn(|context| {
                // When it is dropped, the connection is closed, and its streams are told.
                if living.as_mut().poll(context).is_ready() || meter.is_exceeded() {
                    return Poll::Ready(());
                }
                let polled = Pin::new(&mut connection).poll(context);
                if !driven.settled.get() && meter.is_settled() {
                    driven.settled.set(true);
                    driven.wake();
                }
                match polled {
                    Poll::Ready(Ok(())) => Poll::Ready(()),
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "an HTTP/2 connection to an endpoint ended");
                        Poll::Ready(())
                    }
                    Poll::Pending if meter.is_exceeded() => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            drop((connection, places));
            driven.ended.set(true);
            driven.wake();
        });
        let settled = tokio::time::timeout(SETTINGS_WITHIN, poll_fn(|context| state.poll_settled(context))).await;
        let carrier = Self {
            sender: RefCell::new(sender),
            meter: counted_by,
            scheme,
            streams: Cell::new(0),
            most,
            idle_since: Cell::new(Instant::now()),
            terms: Cell::new(Terms::new(service)),
            places: counted,
            state,
            upstreams: Rc::downgrade(upstreams),
            address,
        };
        matches!(settled, Ok(true)).then(|| Rc::new(carrier))
    }

    pub(super) fn scheme(&self) -> uri::Scheme {
        self.scheme.clone()
    }

    /// Whether it takes new streams at all: it has not ended, nor sent GOAWAY, nor run out of numbers, nor served for as long as it may.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        // It is never pending, as this sender has opened no stream.
        let ready = self.sender.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.state.ended.get() && self.terms.get().allow(now) && !matches!(ready, Poll::Ready(Err(_))) && !self.meter.is_near_its_end()
    }

    /// Whether there is room for one more exchange, by the endpoint's settings and the gateway's.
    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < self.most.min(self.sender.borrow().current_max_send_streams())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Whether it has been idle for longer than it may be.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.is_idle() && !self.terms.get().allow_idle(self.idle_since.get(), now)
    }

    /// The places that it takes, if it is counted.
    pub(super) fn places(&self) -> Option<Rc<Places>> {
        self.places.upgrade()
    }

    pub(super) fn enter(&self) {
        self.streams.set(self.streams.get() + 1);
        let mut terms = self.terms.get();
        terms.begin();
        self.terms.set(terms);
    }

    pub(super) fn leave(&self) {
        self.streams.set(self.streams.get() - 1);
        self.idle_since.set(Instant::now());
        if let Some(upstreams) = self.upstreams.upgrade() {
            upstreams.queues.wake(self.address);
        }
    }

    /// Opens a stream. `whole`: the head is all of the request.
    pub(super) fn open(&self, request: Request<()>, whole: bool) -> Result<(ResponseFuture, Outgoing), h2::Error> {
        let mut sender = self.sender.borrow().clone();
        let (response, stream) = sender.send_request(request, whole)?;
        Ok((response, Outgoing::new(stream, whole, self.meter.clone())))
    }

    /// Whether the endpoint takes extended CONNECT (RFC 8441 §3).
    pub(super) fn connects(&self) -> bool {
        self.sender.borrow().is_extended_connect_protocol_enabled()
    }
}

/// Ends when the connection shows no sign of life.
async fn sign_of_life(pings: Option<PingPong>, keep_alive: Option<KeepAlive>) {
    let (Some(mut pings), Some(KeepAlive { interval, timeout })) = (pings, keep_alive) else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        if !matches!(tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return tracing::debug!("an HTTP/2 connection to an endpoint gave no sign of life");
        }
    }
}
