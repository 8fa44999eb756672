//! One client's connection, and how it is told to close: when its listener is gone or the worker stops, after the running exchange.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustc_hash::FxBuildHasher;
use tokio::net::TcpStream;

use super::exchange::exchange;
use crate::worker::Shared;

/// A client has this long to send a request's head, counted from the end of the exchange before: it also ends idle connections.
const HEADER_TIME: Duration = Duration::from_secs(30);
const MAX_HEADERS: usize = 100;
const MAX_BUFFER: usize = 64 << 10;

/// The client, and what is said of it in every request.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Its address as a field value, written once for the connection.
    pub(super) value: HeaderValue,
    /// The address it connected to.
    pub(super) listener: SocketAddr,
}

pub(crate) async fn serve(stream: TcpStream, client: SocketAddr, listener: SocketAddr, shared: &Rc<Shared>) {
    let Ok(value) = HeaderValue::from_str(&client.ip().to_canonical().to_string()) else { return };
    let peer = Peer { address: client, value, listener };
    let closing = shared.closings.enter(listener);
    let service = service_fn(|request| exchange(request, &peer, shared));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut told = false;
    let ended = poll_fn(|context| {
        if !told {
            if closing.signal.closing.get() || shared.stopping.get() {
                told = true;
                connection.as_mut().graceful_shutdown();
            } else {
                closing.signal.wake_with(context.waker());
            }
        }
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
}

struct Signal {
    listener: SocketAddr,
    closing: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
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
        let signal = Rc::new(Signal { listener, closing: Cell::new(false), waker: RefCell::default() });
        self.signals.borrow_mut().insert(id, signal.clone());
        Entered { id, signal, all: self }
    }

    /// Tells the connections of the listeners that `which` names.
    pub(crate) fn close(&self, which: impl Fn(SocketAddr) -> bool) {
        for signal in self.signals.borrow().values().filter(|s| which(s.listener)) {
            signal.closing.set(true);
            if let Some(waker) = signal.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.all.signals.borrow_mut().remove(&self.id);
    }
}
