//! From an address's queue to a connection's task; or to its end, if there is no room.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::Front;
use sluicegate_model::stats::{Reset, count};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::overload;
use crate::stream::Stream;
use crate::tcp::{Asked, Speak};
use crate::worker::{Shared, View};
use crate::{http, origin, tcp, tls};

/// After an accept fails, trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections off an address's queue until it is aborted.
pub(crate) async fn accept(socket: std::net::TcpListener, address: SocketAddr, shared: Rc<Shared>) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, %address, "cannot listen"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, client)) => enter(stream, client, address, &shared),
            Err(error) => {
                count(&shared.stats.accept_errors);
                tracing::debug!(%error, %address, "accept failed");
                if !is_out_of_descriptors(&error) || !shared.reserve.refuse_one(&listener, &shared).await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Of the process (EMFILE) or of the system (ENFILE): accept(2).
fn is_out_of_descriptors(error: &Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(rustix::io::Errno::MFILE.raw_os_error()) || errno == Some(rustix::io::Errno::NFILE.raw_os_error())
}

/// A descriptor held back. Without one a waiting client can neither be served nor sent away: it stays in the queue, and the queue stays ready.
/// With it, the client is taken and reset, and may try another gateway.
#[derive(Default)]
pub(crate) struct Reserve(RefCell<Option<File>>);

impl Reserve {
    /// Opens it, if there is room.
    pub(crate) fn fill(&self) {
        let mut held = self.0.borrow_mut();
        if held.is_none() {
            *held = File::open("/dev/null").ok();
        }
    }

    /// Resets the first client of the queue. False: there was no descriptor for that, or somebody else took it.
    async fn refuse_one(&self, listener: &TcpListener, shared: &Shared) -> bool {
        self.fill();
        if self.0.borrow_mut().take().is_none() {
            return false;
        }
        // One look, not a wait: the descriptor is needed back.
        let refused = match poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await {
            Poll::Ready(Ok((stream, _))) => {
                count(&shared.stats.accepted);
                count(&shared.stats.refused);
                tcp::refuse(&stream, Reset::Limit, shared);
                true
            }
            Poll::Ready(Err(_)) => false,
            Poll::Pending => true,
        };
        self.fill();
        refused
    }
}

/// Takes what waits in the queue of a socket that nothing accepts from any more: its close would reset it. What remains is the moment between the
/// last look and the close, in which the kernel may finish a handshake; a client that came before is served, one that comes later is refused
/// (only a successor that has the same socket could serve it).
pub(crate) fn drain(socket: &std::net::TcpListener, address: SocketAddr, shared: &Rc<Shared>) {
    // Fails for want of descriptors, or, as a rule, because the queue is empty.
    while let Ok((stream, peer)) = socket.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            enter(stream, peer, address, shared);
        }
    }
}

/// Counts a connection, and begins it if there is room.
fn enter(stream: TcpStream, peer: SocketAddr, address: SocketAddr, shared: &Rc<Shared>) {
    // A socket for all addresses of both families, which only a service manager makes, shows IPv4 clients in IPv6's clothes.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    count(&shared.stats.accepted);
    if overload::is_refusing(&shared.stats) {
        count(&shared.stats.overload.connections);
        return tcp::refuse(&stream, Reset::Limit, shared);
    }
    let Some(open) = Open::new(shared) else {
        // Early and cheaply, while what runs goes on: without descriptors there would be no endpoint for it either.
        count(&shared.stats.refused);
        return tcp::refuse(&stream, Reset::Limit, shared);
    };
    let (view, shared) = (shared.view(), shared.clone());
    // A panic ends this task only; `open` is dropped in unwinding too.
    spawn_local(async move {
        connection(stream, peer, address, view, shared).await;
        drop(open);
    });
}

/// `view`: of the moment it was accepted, when its listener was there.
async fn connection(stream: TcpStream, peer: SocketAddr, address: SocketAddr, view: Rc<View>, shared: Rc<Shared>) {
    let Some(listener) = view.listener(address) else { return tcp::refuse(&stream, Reset::NoRoute, &shared) };
    let (limits, admission, at) = (&listener.settings.connections, &shared.admission, (Protocol::Tcp, address));
    // Before its first byte is waited for: who sends none has a place, too.
    let _place = match admission.listener(at, limits.listener, &shared.stats) {
        Ok(place) => place,
        Err(why) => return Box::pin(admission.refuse(stream, why, &shared)).await,
    };
    let origin = match origin::admit(&stream, peer, address, &listener.settings).await {
        Ok(origin) => origin,
        Err(why) => return tcp::refuse(&stream, why, &shared),
    };
    let _client = match admission.client(at, origin.client.ip(), limits.client, &shared.stats) {
        Ok(place) => place,
        Err(why) => return Box::pin(admission.refuse(stream, why, &shared)).await,
    };
    match &listener.front {
        Front::Udp(_) => tcp::refuse(&stream, Reset::NoRoute, &shared),
        Front::Tcp(_) => {
            let asked = Asked { origin: &origin, listener: address, host: "", alpn: &[], speak: Speak::Tcp };
            tcp::forward(Stream::Tcp(stream), &[], &asked, view, &shared).await;
        }
        Front::Http(_) => {
            // A connection outlives snapshots: each request takes the newest.
            drop(view);
            http::serve(Stream::Tcp(stream), origin, address, None, &shared).await;
        }
        Front::Tls(_) => {
            drop(view);
            tls::serve(stream, origin, address, &shared).await;
        }
    }
}

/// A client connection, counted while it lives.
struct Open(Rc<Shared>);

impl Open {
    /// None: as many are open as may be, over all workers.
    fn new(shared: &Rc<Shared>) -> Option<Self> {
        let most = shared.most_open as u64;
        let more = |open: u64| (open < most).then(|| open + 1);
        shared.stats.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        shared.open.set(shared.open.get() + 1);
        Some(Self(shared.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}
