//! Sockets: one a worker for each address, by SO_REUSEPORT, so that the kernel spreads connections and no accept is shared.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 4096;

/// The sockets of one address; each worker takes its own, once.
pub(crate) struct SocketSet(Vec<Mutex<Option<TcpListener>>>);

impl SocketSet {
    pub(crate) fn bind(address: SocketAddr, workers: usize) -> std::io::Result<Self> {
        // Without SO_REUSEPORT first: with it, another process on the address would silently share its connections with us.
        drop(socket(address, false)?);
        let sockets = (0..workers).map(|_| socket(address, true).map(|s| Mutex::new(Some(s))));
        sockets.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn take(&self, worker: usize) -> Option<TcpListener> {
        self.0.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
