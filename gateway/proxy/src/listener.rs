//! Sockets: one a worker for each address, by SO_REUSEPORT, so that the kernel spreads connections and flows and no accept is shared; or those
//! that were handed to this process, by a predecessor or a service manager.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sluicegate_model::settings::{ClientSettings, Keepalive};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::udp;

const BACKLOG: i32 = 4096;

/// The sockets of one address; each worker has its own, which are several when more were handed over than there are workers.
pub(crate) struct SocketSet<S>(Vec<Mutex<Vec<S>>>);

impl SocketSet<TcpListener> {
    pub(crate) fn tcp(address: SocketAddr, workers: usize) -> std::io::Result<Self> {
        Self::bind(address, workers, listen)
    }

    /// Of sockets that listen already. Each goes to a worker, or what the kernel puts into its queue would wait for ever; workers for which there
    /// is none share one. `sockets` is not empty.
    pub(crate) fn adopt(sockets: Vec<TcpListener>, workers: usize) -> std::io::Result<Self> {
        let mut own: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for worker in sockets.len()..workers {
            own[worker].push(sockets[worker % sockets.len()].try_clone()?);
        }
        for (i, socket) in sockets.into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            own[i % workers].push(socket);
        }
        Ok(Self(own.into_iter().map(Mutex::new).collect()))
    }

    /// Sets what accepted connections inherit (tcp(7) on Linux): no call a connection for it. A changed policy counts for those to come.
    pub(crate) fn apply(&self, settings: &ClientSettings) {
        for worker in 0..self.0.len() {
            for socket in &*self.of(worker) {
                // Both fail on no socket that listens.
                let _ = SockRef::from(socket).set_tcp_nodelay(true);
                let _ = keep_alive(socket, &settings.keepalive);
            }
        }
    }
}

impl SocketSet<UdpSocket> {
    pub(crate) fn udp(address: SocketAddr, workers: usize) -> std::io::Result<Self> {
        Self::bind(address, workers, udp::listen)
    }

    /// Of sockets that were handed over. Two workers that read from one socket would each have half of a flow, so workers for which there is none
    /// get one of their own beside them; where that cannot be, as without SO_REUSEPORT, they get none.
    pub(crate) fn adopt(sockets: Vec<UdpSocket>, address: SocketAddr, workers: usize) -> std::io::Result<Self> {
        let mut own: Vec<Vec<UdpSocket>> = (0..workers).map(|_| Vec::new()).collect();
        let missing = sockets.len()..workers;
        for (i, socket) in sockets.into_iter().enumerate() {
            udp::prepare(&socket, address)?;
            own[i % workers].push(socket);
        }
        for worker in missing {
            match udp::listen(address, true) {
                Ok(socket) => own[worker].push(socket),
                Err(error) => {
                    tracing::warn!(%error, %address, "fewer sockets than workers were handed over, and no other can be bound beside them");
                    break;
                }
            }
        }
        Ok(Self(own.into_iter().map(Mutex::new).collect()))
    }
}

impl<S: AsFd + From<OwnedFd>> SocketSet<S> {
    /// A second descriptor of each of a worker's sockets, which stay open until [`Self::close`].
    pub(crate) fn take(&self, worker: usize) -> Vec<S> {
        self.of(worker).iter().filter_map(|socket| socket.as_fd().try_clone_to_owned().ok()).map(S::from).collect()
    }

    /// A second descriptor of each, for a successor.
    pub(crate) fn all(&self) -> impl Iterator<Item = OwnedFd> {
        let clones = |worker| self.of(worker).iter().filter_map(|socket| socket.as_fd().try_clone_to_owned().ok()).collect::<Vec<_>>();
        (0..self.0.len()).flat_map(clones)
    }
}

impl<S> SocketSet<S> {
    fn bind(address: SocketAddr, workers: usize, listen: fn(SocketAddr, bool) -> std::io::Result<S>) -> std::io::Result<Self> {
        // Without SO_REUSEPORT first: with it, another process on the address would silently share its connections with us.
        drop(listen(address, false)?);
        let sockets = (0..workers).map(|_| listen(address, true).map(|s| Mutex::new(vec![s])));
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// A worker's sockets, now only the caller's: to be drained and closed.
    pub(crate) fn close(&self, worker: usize) -> Vec<S> {
        std::mem::take(&mut *self.of(worker))
    }

    fn of(&self, worker: usize) -> MutexGuard<'_, Vec<S>> {
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the probes that find dead peers.
pub(crate) fn keep_alive(socket: &impl AsFd, settings: &Keepalive) -> std::io::Result<()> {
    let probes = TcpKeepalive::new().with_time(settings.idle).with_interval(settings.interval);
    SockRef::from(socket).set_tcp_keepalive(&settings.probes.map_or_else(|| probes.clone(), |count| probes.clone().with_retries(count)))
}

fn listen(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
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
