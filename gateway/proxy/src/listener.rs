//! Sockets: one a worker for each address, by SO_REUSEPORT, so that the kernel spreads connections and no accept is shared.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use sluicegate_model::settings::{ClientSettings, Keepalive};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

const BACKLOG: i32 = 4096;

/// The sockets of one address; each worker accepts from its own.
pub(crate) struct SocketSet(Vec<Mutex<Option<TcpListener>>>);

impl SocketSet {
    pub(crate) fn bind(address: SocketAddr, workers: usize) -> std::io::Result<Self> {
        // Without SO_REUSEPORT first: with it, another process on the address would silently share its connections with us.
        drop(socket(address, false)?);
        let sockets = (0..workers).map(|_| socket(address, true).map(|s| Mutex::new(Some(s))));
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Sets what accepted connections inherit (tcp(7) on Linux): no call a connection for it. A changed policy counts for those to come.
    pub(crate) fn apply(&self, settings: &ClientSettings) {
        for socket in &self.0 {
            if let Some(socket) = &*socket.lock().unwrap_or_else(PoisonError::into_inner) {
                // Both fail on no socket that listens.
                let _ = SockRef::from(socket).set_tcp_nodelay(true);
                let _ = keep_alive(socket, &settings.keepalive);
            }
        }
    }

    /// A second descriptor of a worker's socket, which stays open until [`Self::close`].
    pub(crate) fn take(&self, worker: usize) -> Option<TcpListener> {
        self.0.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.try_clone().ok()
    }

    /// A worker's socket, now only the caller's: to be drained and closed.
    pub(crate) fn close(&self, worker: usize) -> Option<TcpListener> {
        self.0.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Sets the probes that find dead peers.
pub(crate) fn keep_alive(socket: &impl AsFd, settings: &Keepalive) -> std::io::Result<()> {
    let probes = TcpKeepalive::new().with_time(settings.idle).with_interval(settings.interval);
    SockRef::from(socket).set_tcp_keepalive(&settings.probes.map_or_else(|| probes.clone(), |count| probes.clone().with_retries(count)))
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
