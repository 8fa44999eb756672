//! One client's connection, and how it is told to close: when its listener is gone or the worker stops, after the running exchange.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rustc_hash::FxBuildHasher;
use tokio::net::TcpStream;

use super::body::RequestBody;
use super::exchange::exchange;
use crate::io::Io;
use crate::worker::Shared;

/// A client has this long to send a request's head, counted from the end of the exchange before: it also ends idle connections. In seconds,
/// looked at once a second: hyper's own time-out arms a timer for each request.
const HEADER_SECONDS: u64 = 30;
/// An exchange in which no byte of a body has moved for so long is ended with its connection; also while a response's head is waited for
/// (Envoy's stream idle time-out has the same default).
const IDLE_SECONDS: u64 = 300;
const MAX_HEADERS: usize = 100;
const MAX_BUFFER: usize = 64 << 10;

/// The client, and what is said of it in every request.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Its address as a field value, written once for the connection.
    pub(super) value: HeaderValue,
    /// The address it connected to.
    pub(super) listener: SocketAddr,
    signal: Rc<Signal>,
}

impl Peer {
    /// An exchange begins: no head is waited for until the result is dropped, which is at the end of the response.
    pub(super) fn busy(&self) -> Exchanging {
        self.signal.waiting_since.set(None);
        self.signal.moved();
        Exchanging(self.signal.clone())
    }

    /// For a request's body.
    pub(super) fn progress(&self) -> Progress {
        Progress(self.signal.clone())
    }
}

/// Says that bytes of an exchange have moved.
pub(crate) struct Progress(Rc<Signal>);

impl Progress {
    pub(super) fn moved(&self) {
        self.0.moved();
    }
}

impl Exchanging {
    pub(super) fn moved(&self) {
        self.0.moved();
    }
}

/// See [`Peer::busy`].
pub(crate) struct Exchanging(Rc<Signal>);

impl Drop for Exchanging {
    fn drop(&mut self) {
        self.0.waiting_since.set(Some(self.0.clock.get()));
    }
}

pub(crate) async fn serve(stream: TcpStream, client: SocketAddr, listener: SocketAddr, shared: &Rc<Shared>) {
    let Ok(value) = HeaderValue::from_str(&client.ip().to_canonical().to_string()) else { return };
    let closing = shared.closings.enter(listener);
    let peer = Peer { address: client, value, listener, signal: closing.signal.clone() };
    let service = service_fn(|request: Request<Incoming>| {
        exchange(Some(request.map(|body| RequestBody::Client(body, peer.progress()))), &peer, shared)
    });
    let mut connection =
        pin!(http1::Builder::new().max_headers(MAX_HEADERS).max_buf_size(MAX_BUFFER).serve_connection(Io::new(stream), service));
    let mut told = false;
    let ended = poll_fn(|context| {
        if closing.signal.late.get() {
            return Poll::Ready(Ok(()));
        }
        if !told && (closing.signal.closing.get() || shared.stopping.get()) {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        closing.signal.wake_with(context.waker());
        match connection.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        }
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, %client, "the connection ended");
    }
}

/// The worker's HTTP connections, to be told when to close. A flag and a waker for each: looking at it costs a load, not a lock.
#[derive(Default)]
pub(crate) struct Closings {
    next: Cell<u64>,
    signals: RefCell<HashMap<u64, Rc<Signal>, FxBuildHasher>>,
    /// Seconds since the worker's start.
    clock: Rc<Cell<u64>>,
}

struct Signal {
    listener: SocketAddr,
    closing: Cell<bool>,
    /// Since when a request's head is waited for; none during an exchange.
    waiting_since: Cell<Option<u64>>,
    /// When a part of a body last moved, or the exchange began.
    moved_at: Cell<u64>,
    /// One of the two was too long ago.
    late: Cell<bool>,
    clock: Rc<Cell<u64>>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    fn moved(&self) {
        self.moved_at.set(self.clock.get());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn wake_with(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|k| k.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }
}

/// A connection's place among [`Closings`]; leaves it when dropped.
struct Entered<'a> {
    id: u64,
    signal: Rc<Signal>,
    all: &'a Closings,
}

impl Closings {
    fn enter(&self, listener: SocketAddr) -> Entered<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        let signal = Rc::new(Signal {
            listener,
            closing: Cell::new(false),
            waiting_since: Cell::new(Some(self.clock.get())),
            moved_at: Cell::new(self.clock.get()),
            late: Cell::new(false),
            clock: self.clock.clone(),
            waker: RefCell::default(),
        });
        self.signals.borrow_mut().insert(id, signal.clone());
        Entered { id, signal, all: self }
    }

    /// A second has passed: ends the connections that waited too long for a head, or in an exchange.
    pub(crate) fn second(&self) {
        let now = self.clock.get() + 1;
        self.clock.set(now);
        let late = |s: &&Rc<Signal>| match s.waiting_since.get() {
            Some(since) => now - since > HEADER_SECONDS,
            None => now - s.moved_at.get() > IDLE_SECONDS,
        };
        for signal in self.signals.borrow().values().filter(late) {
            signal.late.set(true);
            signal.wake();
        }
    }

    /// Tells the connections of the listeners that `which` names.
    pub(crate) fn close(&self, which: impl Fn(SocketAddr) -> bool) {
        for signal in self.signals.borrow().values().filter(|s| which(s.listener)) {
            signal.closing.set(true);
            signal.wake();
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.all.signals.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(closings: &Closings, count: u64) {
        (0..count).for_each(|_| closings.second());
    }

    #[test]
    fn a_head_has_thirty_seconds_and_an_exchange_may_stall_for_five_minutes() {
        let closings = Closings::default();
        let entered = closings.enter(([127, 0, 0, 1], 80).into());
        let signal = entered.signal.clone();
        seconds(&closings, HEADER_SECONDS);
        assert!(!signal.late.get());
        signal.waiting_since.set(None);
        signal.moved();
        let exchanging = Exchanging(signal.clone());
        seconds(&closings, IDLE_SECONDS);
        exchanging.moved();
        seconds(&closings, IDLE_SECONDS);
        assert!(!signal.late.get(), "bytes moved in between");
        drop(exchanging);
        seconds(&closings, HEADER_SECONDS);
        assert!(!signal.late.get(), "the time for the next head begins at the end of the exchange");
        seconds(&closings, 1);
        assert!(signal.late.get());
    }

    #[test]
    fn a_stalled_exchange_is_ended() {
        let closings = Closings::default();
        let entered = closings.enter(([127, 0, 0, 1], 80).into());
        entered.signal.waiting_since.set(None);
        seconds(&closings, IDLE_SECONDS);
        assert!(!entered.signal.late.get());
        seconds(&closings, 1);
        assert!(entered.signal.late.get());
    }
}
