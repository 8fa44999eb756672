//! Sockets. A worker has one for each address, by SO_REUSEPORT, so that the kernel spreads connections and flows, and no accept is shared. If descriptors
//! would not suffice, all workers have one ([`Spread`]). Sockets may also have been handed to this process, by a predecessor or a service manager.

pub(crate) mod udp;

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_model::settings::{ClientSettings, Keepalive};
use smallvec::{SmallVec, smallvec};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

const BACKLOG: i32 = 4096;

/// How many sockets a new address gets. Each is a descriptor for as long as the listener lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// One for each worker, so that no accept wakes another worker.
    Workers,
    /// One in all. All workers accept from a TCP socket; a UDP socket is one worker's, as two would each receive half of a flow.
    Single,
}

/// The sockets of one address, by worker. One worker may have several, if more were handed over than there are workers. A worker listens by the very
/// descriptor that is kept here.
pub(crate) struct SocketSet<S> {
    workers: Box<[Mutex<Sockets<S>>]>,
    /// The options that were set on them and that connections inherit.
    applied: Mutex<Option<Keepalive>>,
}

/// The sockets of one worker.
type Sockets<S> = SmallVec<[Arc<S>; 1]>;

impl SocketSet<TcpListener> {
    pub(crate) fn tcp(address: SocketAddr, workers: usize, spread: Spread) -> std::io::Result<Self> {
        match spread {
            Spread::Workers => Self::bind(address, workers, listen),
            Spread::Single => {
                let socket = Arc::new(listen_alone(address, listen)?);
                Ok(Self::of_workers((0..workers).map(|_| smallvec![socket.clone()])))
            }
        }
    }

    /// From sockets that listen already. Each goes to a worker, as what the kernel puts into its queue would else wait for ever. Workers for which there is none
    /// share one. `sockets` is not empty.
    pub(crate) fn adopt(sockets: Vec<TcpListener>, workers: usize) -> std::io::Result<Self> {
        let mut own: Vec<Sockets<TcpListener>> = (0..workers).map(|_| SmallVec::new()).collect();
        let sockets: Vec<Arc<TcpListener>> = sockets.into_iter().map(Arc::new).collect();
        for worker in sockets.len()..workers {
            own[worker].push(sockets[worker % sockets.len()].clone());
        }
        for (i, socket) in sockets.into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            own[i % workers].push(socket);
        }
        Ok(Self::of_workers(own))
    }

    /// Sets the options that accepted connections inherit (tcp(7) on Linux), if they differ from those that were set; so no connection needs a call for them. A
    /// policy that has changed counts for later connections. Returns on how many sockets something was set.
    pub(crate) fn apply(&self, settings: &ClientSettings) -> u64 {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.as_ref() == Some(&settings.keepalive) {
            return 0;
        }
        let sockets = self.all();
        for socket in &sockets {
            // Neither fails on a socket that listens.
            if applied.is_none() {
                let _ = SockRef::from(&**socket).set_tcp_nodelay(true);
            }
            let _ = keep_alive(&**socket, &settings.keepalive);
        }
        *applied = Some(settings.keepalive);
        sockets.len() as u64
    }
}

impl SocketSet<UdpSocket> {
    pub(crate) fn udp(address: SocketAddr, workers: usize, spread: Spread) -> std::io::Result<Self> {
        match spread {
            Spread::Workers => Self::bind(address, workers, udp::listen),
            Spread::Single => {
                let socket = Arc::new(listen_alone(address, udp::listen)?);
                let its = only_worker(address, workers);
                let of = |worker| if worker == its { smallvec![socket.clone()] } else { SmallVec::new() };
                Ok(Self::of_workers((0..workers).map(of)))
            }
        }
    }

    /// From sockets that were handed over. Two workers that read from one socket would each have half of a flow. So workers for which there is none get one of
    /// their own beside them; if that cannot be, as without SO_REUSEPORT, or need not be, they get none.
    pub(crate) fn adopt(sockets: Vec<UdpSocket>, address: SocketAddr, workers: usize, spread: Spread) -> std::io::Result<Self> {
        let mut own: Vec<Sockets<UdpSocket>> = (0..workers).map(|_| SmallVec::new()).collect();
        let missing = if spread == Spread::Workers { sockets.len()..workers } else { 0..0 };
        let first = if spread == Spread::Workers { 0 } else { only_worker(address, workers) };
        for (i, socket) in sockets.into_iter().enumerate() {
            udp::prepare(&socket, address)?;
            own[(first + i) % workers].push(Arc::new(socket));
        }
        for worker in missing {
            match udp::listen(address, Use::Shared) {
                Ok(socket) => own[worker].push(Arc::new(socket)),
                Err(error) => {
                    tracing::warn!(%error, %address, "fewer sockets than workers were handed over, and no other can be bound beside them");
                    break;
                }
            }
        }
        Ok(Self::of_workers(own))
    }
}

impl<S> SocketSet<S> {
    /// A worker's sockets.
    pub(crate) fn take(&self, worker: usize) -> Sockets<S> {
        self.of(worker).clone()
    }

    /// All sockets, each once, for a successor.
    pub(crate) fn all(&self) -> Vec<Arc<S>> {
        let mut all: Vec<Arc<S>> = Vec::new();
        for socket in (0..self.workers.len()).flat_map(|worker| self.take(worker)) {
            if !all.iter().any(|known| Arc::ptr_eq(known, &socket)) {
                all.push(socket);
            }
        }
        all
    }

    /// How many file descriptors the sockets take.
    pub(crate) fn descriptors(&self) -> usize {
        self.all().len()
    }
}

impl<S> SocketSet<S> {
    fn bind(address: SocketAddr, workers: usize, listen: fn(SocketAddr, Use) -> std::io::Result<S>) -> std::io::Result<Self> {
        // It is tried without SO_REUSEPORT first. With it, another process at the address would silently share its connections with this one.
        drop(listen(address, Use::Trial)?);
        let sockets = (0..workers).map(|_| listen(address, Use::Shared).map(|s| smallvec![Arc::new(s)]));
        sockets.collect::<Result<Vec<_>, _>>().map(Self::of_workers)
    }

    fn of_workers(sockets: impl IntoIterator<Item = Sockets<S>>) -> Self {
        Self { workers: sockets.into_iter().map(Mutex::new).collect(), applied: Mutex::default() }
    }

    /// A worker's sockets, to be drained and dropped. Each closes when the last worker drops it.
    pub(crate) fn close(&self, worker: usize) -> Sockets<S> {
        std::mem::take(&mut *self.of(worker))
    }

    fn of(&self, worker: usize) -> MutexGuard<'_, Sockets<S>> {
        self.workers[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket for an address that nobody else has. A successor that has more descriptors could share the address later.
fn listen_alone<S>(address: SocketAddr, listen: fn(SocketAddr, Use) -> std::io::Result<S>) -> std::io::Result<S> {
    drop(listen(address, Use::Trial)?);
    listen(address, Use::Shared)
}

/// Which worker has the only UDP socket of an address: the same one in each process, and different ones for different addresses.
fn only_worker(address: SocketAddr, workers: usize) -> usize {
    let last = match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    (usize::from(last) + usize::from(address.port())) % workers
}

/// Sets the probes that find dead peers.
pub(crate) fn keep_alive(socket: &impl AsFd, settings: &Keepalive) -> std::io::Result<()> {
    let probes = TcpKeepalive::new().with_time(settings.idle).with_interval(settings.interval);
    SockRef::from(socket).set_tcp_keepalive(&settings.probes.map_or_else(|| probes.clone(), |count| probes.clone().with_retries(count)))
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is bound to see whether the address is free.
    Trial,
    /// It is one of several of the address.
    Shared,
    /// It is the only one of the address.
    Alone,
}

pub(crate) fn listen(address: SocketAddr, to: Use) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    prepare(&socket, address, to)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if to != Use::Trial {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Sets what sockets of TCP and UDP need before they are bound.
pub(crate) fn prepare(socket: &Socket, address: SocketAddr, to: Use) -> std::io::Result<()> {
    if address.is_ipv6() {
        // Each family has a socket of its own.
        socket.set_only_v6(true)?;
        // A local network of IPv6 is not bindable as a whole, unlike 127.0.0.0/8: bind(2) wants each of its addresses on an interface.
        if local_by_route(address) {
            socket.set_freebind_v6(true)?;
        }
    }
    if to == Use::Shared {
        socket.set_reuse_port(true)?;
    }
    Ok(())
}

/// Whether a route makes an address this machine's, as after `ip -6 route add local fd96::/112 dev lo`.
fn local_by_route(address: SocketAddr) -> bool {
    let IpAddr::V6(ip) = address.ip() else { return false };
    if ip.is_unspecified() || ip.is_loopback() {
        return false;
    }
    let table = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    table.lines().filter_map(local_route).any(|(network, length)| {
        // A prefix of length 0 has no bits to compare.
        (ip.to_bits() ^ network).checked_shr(128 - length).unwrap_or(0) == 0
    })
}

/// RTF_LOCAL of the kernel's `ipv6_route.h`.
const LOCAL: u32 = 0x8000_0000;

/// The network and the prefix length of a line of `/proc/net/ipv6_route`, if it says that the network is this machine's.
fn local_route(line: &str) -> Option<(u128, u32)> {
    let mut columns = line.split_ascii_whitespace();
    let network = u128::from_str_radix(columns.next()?, 16).ok()?;
    let length = u32::from_str_radix(columns.next()?, 16).ok()?;
    let flags = u32::from_str_radix(columns.nth(6)?, 16).ok()?;
    (flags & LOCAL != 0 && length <= 128).then_some((network, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_make_a_network_local_are_known() {
        let local = "fd960000000000000000000000000000 70 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 80000001       lo";
        assert_eq!(local_route(local), Some((0xfd96 << 112, 112)));
        assert_eq!(local_route(&local.replace("80000001", "00200200")), None);
        assert_eq!(local_route(""), None);
    }
}
