//! Takes connections off an address's queue: each becomes a task, or is reset if there is no room for it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::Front;
use sluicegate_model::stats::{Reset, count};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::core::admission::Refused;
use crate::core::{Core, View};
use crate::endpoint::{Speak, refuse};
use crate::overload;
use crate::stream::Stream;
use crate::tcp::Asked;
use crate::tls::{self, Tls};
use crate::watched::{Watched, watch};
use crate::{http, origin, tcp};

/// How long to wait after an accept has failed, as trying again at once would spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What the client connections of a worker share.
pub(crate) struct Clients {
    pub(crate) core: Rc<Core>,
    pub(crate) tls: Rc<Tls>,
    /// The number of connections that are open.
    pub(crate) open: Cell<usize>,
    /// How many connections may be open, over all workers.
    pub(crate) most_open: Cell<usize>,
    /// A descriptor for sending clients away.
    pub(crate) reserve: Reserve,
}

impl Clients {
    pub(crate) fn new(tls: Rc<Tls>) -> Self {
        Self { core: tls.core.clone(), tls, open: Cell::new(0), most_open: Cell::new(0), reserve: Reserve::default() }
    }
}

/// Takes connections off an address's queue until it is aborted.
pub(crate) async fn accept(socket: Arc<TcpListener>, address: SocketAddr, shared: Rc<Clients>) {
    let listener = match watch(socket, Interest::READABLE) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, %address, "cannot listen"),
    };
    loop {
        // If workers share the socket, another one may have been quicker: that is no error, and this one waits again.
        match listener.async_io(Interest::READABLE, |socket| next(socket)).await {
            Ok((stream, client)) => enter(stream, client, address, &shared),
            Err(error) => {
                count(&shared.core.stats.accept_errors);
                tracing::debug!(%error, %address, "accept failed");
                if !is_out_of_descriptors(&error) || !shared.reserve.refuse_one(&listener, &shared.core) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Takes the first connection of the queue, without blocking.
fn next(socket: &TcpListener) -> std::io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = socket.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Whether the process (EMFILE) or the system (ENFILE) is out of descriptors: accept(2).
fn is_out_of_descriptors(error: &Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(rustix::io::Errno::MFILE.raw_os_error()) || errno == Some(rustix::io::Errno::NFILE.raw_os_error())
}

/// A descriptor that is held in reserve. Without one a waiting client can neither be served nor sent away: it stays in the queue, and the queue stays ready.
/// With it, the client is accepted and reset, and may try another gateway.
#[derive(Default)]
pub(crate) struct Reserve(RefCell<Option<File>>);

impl Reserve {
    /// Opens the descriptor, if there is room.
    pub(crate) fn fill(&self) {
        let mut held = self.0.borrow_mut();
        if held.is_none() {
            *held = File::open("/dev/null").ok();
        }
    }

    /// Resets the first client of the queue. Returns false if there was no descriptor for that, or somebody else took the client.
    fn refuse_one(&self, listener: &Watched<TcpListener>, core: &Core) -> bool {
        self.fill();
        if self.0.borrow_mut().take().is_none() {
            return false;
        }
        // The event loop learns from this if the queue is empty. accept(2) asks for a descriptor first, and says so only then.
        let refused = match listener.try_io(Interest::READABLE, |socket| next(socket)) {
            Ok((stream, _)) => {
                count(&core.stats.accepted);
                count(&core.stats.refused);
                refuse(&stream, Reset::Limit, core);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.fill();
        refused
    }
}

/// Takes what waits in the queue of a socket from which nothing accepts any more, as its close would reset it. There remains the moment between the last
/// look and the close, in which the kernel may finish a handshake: a client that came before is served, one that comes then is refused (only a successor
/// that has the same socket could serve it).
pub(crate) fn drain(socket: &TcpListener, address: SocketAddr, shared: &Rc<Clients>) {
    // It ends for want of descriptors, or, mostly, because the queue is empty.
    while let Ok((stream, peer)) = next(socket) {
        enter(stream, peer, address, shared);
    }
}

/// Counts a connection, and begins it if there is room.
fn enter(stream: TcpStream, peer: SocketAddr, address: SocketAddr, shared: &Rc<Clients>) {
    // A socket for all addresses of both families, which only a service manager makes, shows IPv4 clients by IPv4-mapped addresses.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    count(&shared.core.stats.accepted);
    if overload::is_refusing(&shared.core.stats) {
        count(&shared.core.stats.overload.connections);
        return refuse(&stream, Reset::Limit, &shared.core);
    }
    let Some(open) = Open::new(shared) else {
        // It is refused early and cheaply, while what runs goes on. Without descriptors there would be no connection to an endpoint for it either.
        count(&shared.core.stats.refused);
        return refuse(&stream, Reset::Limit, &shared.core);
    };
    let (view, shared) = (shared.core.view(), shared.clone());
    // A panic ends only this task, and `open` is dropped then, too.
    spawn_local(async move {
        connection(stream, peer, address, view, shared).await;
        drop(open);
    });
}

/// Serves a connection. `view`: that of the moment in which it was accepted, when its listener was there.
async fn connection(stream: TcpStream, peer: SocketAddr, address: SocketAddr, view: Rc<View>, shared: Rc<Clients>) {
    let Some(listener) = view.listener(address) else { return refuse(&stream, Reset::NoRoute, &shared.core) };
    let (limits, admission, at) = (&listener.settings.connections, &shared.core.admission, (Protocol::Tcp, address));
    // This comes before its first byte is waited for, as a client that sends none takes a place, too.
    let _place = match admission.listener(at, limits.listener, &shared.core.stats) {
        Ok(place) => place,
        Err(why) => return Box::pin(hold(stream, why, &shared.core)).await,
    };
    let origin = match origin::admit(&stream, peer, address, &listener.settings).await {
        Ok(origin) => origin,
        Err(why) => return refuse(&stream, why, &shared.core),
    };
    let _client = match admission.client(at, origin.client.ip(), limits.client, &shared.core.stats) {
        Ok(place) => place,
        Err(why) => return Box::pin(hold(stream, why, &shared.core)).await,
    };
    match &listener.front {
        Front::Udp(_) => refuse(&stream, Reset::NoRoute, &shared.core),
        Front::Tcp(_) => {
            let asked = Asked { origin: &origin, listener: address, host: "", alpn: &[], speak: Speak::Tcp };
            tcp::forward(Stream::Tcp(stream), &[], &asked, view, &shared.tls.tcp).await;
        }
        Front::Http(_) => {
            // A connection outlives snapshots, and each request takes the newest.
            drop(view);
            http::serve(Stream::Tcp(stream), origin, address, None, &shared.tls.http).await;
        }
        Front::Tls(_) => {
            drop(view);
            tls::serve(stream, origin, address, &shared.tls).await;
        }
    }
}

/// Resets a connection beyond a limit, after the limit's delay.
async fn hold(stream: TcpStream, why: Refused, core: &Core) {
    core.admission.hold(why).await;
    refuse(&stream, Reset::Limit, core);
}

/// A client connection, counted while it lives.
pub(crate) struct Open(Rc<Clients>);

impl Open {
    /// Counts a connection. None: as many are open as may be, over all workers.
    pub(crate) fn new(shared: &Rc<Clients>) -> Option<Self> {
        let most = shared.most_open.get() as u64;
        let more = |open: u64| (open < most).then(|| open + 1);
        shared.core.stats.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        shared.open.set(shared.open.get() + 1);
        Some(Self(shared.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.core.stats.open.fetch_sub(1, Ordering::Relaxed);
    }
}
