//! Datagram sockets, and batched system calls on them: `recvmmsg` and `sendmmsg`, by nix. (quinn-udp has these, too, with GSO and GRO, but forbids fragmentation.
//! That is right for QUIC, and wrong for 8 KB of NFS or a large DNS answer.)

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use sluicegate_model::stats::{UdpDrop, UdpStats};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use crate::endpoint::source;
use crate::watched::{Watched, watch};

/// How many datagrams are received, or sent, by one system call.
pub(super) const BATCH: usize = 32;
/// Room for the largest payload: 65,507 bytes over IPv4, 65,527 over IPv6 without jumbograms.
const ROOM: usize = 1 << 16;
/// What is waited for. `ERROR` is among it, as an ICMP error on a connected socket wakes by nothing else.
const ARRIVES: Interest = Interest::READABLE.add(Interest::ERROR);

/// A socket as the event loop knows it. It tells only what arrives, as nothing here waits until it can send.
pub(super) fn watched(socket: Arc<StdUdpSocket>) -> io::Result<Watched<StdUdpSocket>> {
    watch(socket, ARRIVES)
}

/// A socket for one flow, connected to its endpoint. So only the endpoint's datagrams come back, and ICMP errors about it. `from`: the client's address, if the
/// endpoint is to see that.
pub(super) fn connect(endpoint: SocketAddr, from: Option<IpAddr>) -> io::Result<Watched<StdUdpSocket>> {
    let socket = Socket::new(Domain::for_address(endpoint), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(from) = source::fitting(from, endpoint) {
        source::claim(&socket, from)?;
    }
    socket.connect(&endpoint.into())?;
    watched(Arc::new(socket.into()))
}

/// A datagram that was received. Its bytes are in the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    slot: usize,
    pub(super) len: usize,
    /// Who sent the datagrams; only from a listener.
    pub(super) from: Option<SocketAddr>,
    /// The address that it was sent to, if the listener has several.
    pub(super) to: Option<IpAddr>,
    pub(super) truncated: bool,
}

/// Headers for receiving, 12 KB of them. The kernel writes the lengths of its answers into them, and nix does not reset these. So they serve sockets of one kind
/// only: those of one IP family that do, or do not, tell to which address a datagram was sent.
type Headers = MultiHeaders<SockaddrStorage>;

/// The kind of a socket: sockets of one kind may share headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(usize);

const KINDS: usize = 5;

impl Kind {
    /// The kind of a socket that listens at an address.
    pub(super) fn of(socket: &StdUdpSocket, address: SocketAddr) -> Self {
        let is_ipv6 = socket.local_addr().map_or(address, |local| local).is_ipv6();
        // It is a socket of both families, which only a service manager makes.
        let both = is_ipv6 != address.is_ipv6();
        Self(if both { KINDS - 1 } else { usize::from(is_ipv6) * 2 + usize::from(address.ip().is_unspecified()) })
    }
}

/// The destination of datagrams, and the address that they are sent from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
}

/// The result of sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'d> {
    pub(super) datagrams: usize,
    pub(super) bytes: usize,
    /// Those that were not sent: there is no route to the other side, or what went there before came back (ICMP).
    pub(super) unreachable: &'d [Datagram],
}

/// A worker's room for datagrams between two system calls. One is enough, as nothing waits between them. Only pages that datagrams fill become memory.
pub(super) struct Batch {
    room: Box<[u8]>,
    pub(super) datagrams: Vec<Datagram>,
    /// The headers for receiving, by [`Kind`]. They are made when the first socket of that kind receives.
    receiving: [Option<Headers>; KINDS],
    connected: MultiHeaders<()>,
    plain: Headers,
    from_v4: Headers,
    from_v6: Headers,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            room: vec![0; BATCH * ROOM].into_boxed_slice(),
            datagrams: Vec::with_capacity(BATCH),
            receiving: Default::default(),
            connected: MultiHeaders::preallocate(BATCH, None),
            plain: MultiHeaders::preallocate(BATCH, None),
            from_v4: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(in_pktinfo))),
            from_v6: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(in6_pktinfo))),
        }
    }
}

impl Batch {
    /// Receives what clients have sent. Returns whether more may wait.
    pub(super) fn receive(&mut self, socket: &Watched<StdUdpSocket>, kind: Kind) -> io::Result<bool> {
        let (room, datagrams) = (&mut self.room, &mut self.datagrams);
        let headers =
            self.receiving[kind.0].get_or_insert_with(|| MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(in_pktinfo, in6_pktinfo))));
        datagrams.clear();
        drain(socket, || {
            let mut slices = slices(room);
            let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            datagrams.extend(received.enumerate().map(|(slot, message)| Datagram {
                slot,
                len: message.bytes,
                from: message.address.as_ref().and_then(address),
                to: message.cmsgs().ok().and_then(|mut all| all.find_map(local)),
                truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
            }));
            Ok(datagrams.len())
        })
    }

    /// Receives what an endpoint has sent. Returns whether more may wait.
    pub(super) fn receive_connected(&mut self, socket: &Watched<StdUdpSocket>) -> io::Result<bool> {
        let (room, datagrams, headers) = (&mut self.room, &mut self.datagrams, &mut self.connected);
        datagrams.clear();
        drain(socket, || {
            let mut slices = slices(room);
            let received = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            datagrams.extend(received.enumerate().map(|(slot, message)| Datagram {
                slot,
                len: message.bytes,
                from: None,
                to: None,
                truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
            }));
            Ok(datagrams.len())
        })
    }

    /// Sends datagrams of this batch in order, on a connected socket, or on a listener's to a destination. It never waits: what the socket's buffer has no room for is
    /// dropped, and counted as `full`. It ends early if the other side is found to be unreachable.
    pub(super) fn send<'d>(
        &mut self,
        socket: RawFd,
        way: Option<Way>,
        mut left: &'d [Datagram],
        stats: &UdpStats,
        full: UdpDrop,
    ) -> Sent<'d> {
        let (mut datagrams, mut bytes) = (0, 0);
        while let Some(first) = left.first() {
            let whole = left.iter().take(BATCH).take_while(|d| !d.truncated).count();
            let (why, gone) = match self.send_some(socket, way, &left[..whole]) {
                _ if first.truncated => (UdpDrop::Truncated, 1),
                Ok(sent) if sent > 0 => {
                    datagrams += sent;
                    bytes += left[..sent].iter().map(|d| d.len).sum::<usize>();
                    left = &left[sent..];
                    continue;
                }
                Err(Errno::EINTR) => continue,
                // An error ends a call early, and the next call returns it.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => (full, left.len()),
                Err(Errno::EMSGSIZE) => (UdpDrop::TooLarge, 1),
                Err(error) if is_unreachable(error) => break,
                Ok(_) | Err(_) => (UdpDrop::Failed, 1),
            };
            stats.count_drop(why, gone);
            left = &left[gone..];
        }
        Sent { datagrams, bytes, unreachable: left }
    }

    fn send_some(&mut self, socket: RawFd, way: Option<Way>, datagrams: &[Datagram]) -> nix::Result<usize> {
        if datagrams.is_empty() {
            return Ok(0);
        }
        let piece = |i: usize| datagrams.get(i).map_or(&[][..], |d| &self.room[d.slot * ROOM..d.slot * ROOM + d.len]);
        let slices: [[IoSlice<'_>; 1]; BATCH] = std::array::from_fn(|i| [IoSlice::new(piece(i))]);
        let slices = &slices[..datagrams.len().min(BATCH)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let Some(way) = way else {
            return Ok(sendmmsg(socket, &mut self.connected, slices, [None; BATCH], [], flags)?.count());
        };
        let to = [Some(SockaddrStorage::from(way.to)); BATCH];
        let sent = match way.from {
            None => sendmmsg(socket, &mut self.plain, slices, to, [], flags)?.count(),
            Some(IpAddr::V4(ip)) => {
                let from = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                sendmmsg(socket, &mut self.from_v4, slices, to, [ControlMessage::Ipv4PacketInfo(&from)], flags)?.count()
            }
            Some(IpAddr::V6(ip)) => {
                let from = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                sendmmsg(socket, &mut self.from_v6, slices, to, [ControlMessage::Ipv6PacketInfo(&from)], flags)?.count()
            }
        };
        Ok(sent)
    }
}

/// Receives once. If there are fewer than a batch, nothing is left: the kernel was asked, so tokio need not ask again, and the readiness is taken back as if the
/// call had said so. What arrives from then on makes the socket ready anew.
fn drain(socket: &Watched<StdUdpSocket>, mut receive: impl FnMut() -> nix::Result<usize>) -> io::Result<bool> {
    let received = Cell::new(0);
    let mut once = || {
        received.set(receive().map_err(io::Error::from)?);
        if received.get() < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    };
    // They are made one after the other, as tokio's `try_io` does not take two at a time. Neither makes a system call unless it is ready.
    let mut outcome = Err(io::ErrorKind::WouldBlock.into());
    for interest in [Interest::READABLE, Interest::ERROR] {
        if received.get() == 0 && matches!(&outcome, Err(error) if is_would_block(error)) {
            outcome = socket.try_io(interest, |_| once());
        }
    }
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if is_would_block(&error) && received.get() > 0 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the error says that nothing is there.
pub(super) fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether the error is ICMP's "destination unreachable" for an earlier datagram, or the kernel knows no route.
fn is_unreachable(error: Errno) -> bool {
    use Errno::{ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOPROTOOPT, EPROTO};
    matches!(error, ECONNREFUSED | EHOSTDOWN | EHOSTUNREACH | ENETDOWN | ENETUNREACH | ENOPROTOOPT | EPROTO)
}

/// Waits for a datagram or an error.
pub(super) async fn arrival(socket: &Watched<StdUdpSocket>) -> io::Result<()> {
    socket.ready(ARRIVES).await.map(drop)
}

fn slices(room: &mut [u8]) -> [[IoSliceMut<'_>; 1]; BATCH] {
    let mut pieces = room.chunks_exact_mut(ROOM);
    std::array::from_fn(|_| [IoSliceMut::new(pieces.next().unwrap_or_default())])
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || from.as_sockaddr_in().map(|a| SocketAddr::from(*a));
    v4().or_else(|| from.as_sockaddr_in6().map(|a| SocketAddr::from(*a)))
}

/// The address to answer from: that to which a unicast datagram was sent; the interface's own for a broadcast; the kernel's choice for a multicast.
fn local(message: ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into()),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)).filter(|ip| !ip.is_multicast()).map(IpAddr::from)
        }
        _ => None,
    }
}
