//! Datagram sockets and batched system calls on them: `recvmmsg` and `sendmmsg`, by nix. (quinn-udp has them too, with GSO and GRO, but forbids
//! fragmentation, which is right for QUIC and wrong for whoever sends 8 KB of NFS or a large DNS answer.)

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use sluicegate_model::stats::{UdpDrop, UdpStats};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams received by one system call, and sent by one.
pub(super) const BATCH: usize = 32;
/// Room for the largest payload there is: 65,507 bytes over IPv4, 65,527 over IPv6 without jumbograms.
const ROOM: usize = 1 << 16;
/// Asked of the kernel for a listener, which grants at most `net.core.rmem_max`: bursts wait here while the worker does something else.
const LISTENER_BUFFER: usize = 4 << 20;
/// `ERROR`: an ICMP error on a connected socket wakes with nothing else.
const ARRIVES: Interest = Interest::READABLE.add(Interest::ERROR);

/// A socket for a listener. `shared` as in [`crate::listener`], but without SO_REUSEADDR: for UDP that would let another process take the
/// address over.
pub(crate) fn listen(address: SocketAddr, shared: bool) -> io::Result<StdUdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
        // Refused is no harm: the default holds.
        let _ = socket.set_recv_buffer_size(LISTENER_BUFFER);
    }
    // Before bind: what arrives earlier would come without the address it was sent to.
    let socket = StdUdpSocket::from(socket);
    prepare(&socket, address)?;
    SockRef::from(&socket).bind(&address.into())?;
    Ok(socket)
}

/// Sets what receiving by batches needs.
pub(crate) fn prepare(socket: &StdUdpSocket, address: SocketAddr) -> io::Result<()> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(ip) if ip.is_unspecified() => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        _ => {}
    }
    socket.set_nonblocking(true)
}

/// A socket for one flow, connected to its endpoint: only the endpoint's datagrams come back, and its ICMP errors too.
pub(super) fn connect(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(endpoint), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&endpoint.into())?;
    UdpSocket::from_std(socket.into())
}

/// One that was received; its bytes are in the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    slot: usize,
    pub(super) len: usize,
    /// Who sent it; only from a listener.
    pub(super) from: Option<SocketAddr>,
    /// Which of the listener's addresses it was sent to, if it has several.
    pub(super) to: Option<IpAddr>,
    pub(super) truncated: bool,
}

/// Headers to receive a listener's datagrams with. Each listener has its own: the kernel writes into them how long its answers were, and nix
/// does not set them back, so they serve sockets of one kind only.
pub(super) type Headers = MultiHeaders<SockaddrStorage>;

/// See [`Headers`].
pub(super) fn headers() -> Headers {
    MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(in_pktinfo, in6_pktinfo)))
}

/// Whom to send to, and from which address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
}

/// What came of sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'d> {
    pub(super) datagrams: usize,
    pub(super) bytes: usize,
    /// Not sent: there is no way to the other side, or what went there before came back (ICMP).
    pub(super) unreachable: &'d [Datagram],
}

/// A worker's room for datagrams between two system calls: one is enough, since nothing waits between them. Only the pages that datagrams
/// really fill become memory.
pub(super) struct Batch {
    room: Box<[u8]>,
    pub(super) datagrams: Vec<Datagram>,
    connected: MultiHeaders<()>,
    plain: Headers,
    from_v4: Headers,
    from_v6: Headers,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            room: vec![0; BATCH * ROOM].into_boxed_slice(),
            datagrams: Vec::with_capacity(BATCH),
            connected: MultiHeaders::preallocate(BATCH, None),
            plain: MultiHeaders::preallocate(BATCH, None),
            from_v4: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(in_pktinfo))),
            from_v6: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(in6_pktinfo))),
        }
    }

    /// What clients sent. True if more may wait.
    pub(super) fn receive(&mut self, socket: &UdpSocket, headers: &mut Headers) -> io::Result<bool> {
        let (room, datagrams) = (&mut self.room, &mut self.datagrams);
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

    /// What an endpoint sent. True if more may wait.
    pub(super) fn receive_connected(&mut self, socket: &UdpSocket) -> io::Result<bool> {
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

    /// Sends datagrams of this batch in order, on a connected socket, or on a listener's and a way. Never waits: what the socket's buffer has no
    /// room for is dropped, and counted as `full`. Ends early where the other side turns out to be unreachable.
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
                // An error ends a call early, and the next one names it.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => (full, left.len()),
                Err(Errno::EMSGSIZE) => (UdpDrop::TooLarge, 1),
                Err(error) if is_unreachable(error) => break,
                Ok(_) | Err(_) => (UdpDrop::Failed, 1),
            };
            stats.drop(why, gone);
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

/// Receives once. Fewer than a batch says that nothing is left: the kernel was asked, tokio need not ask again, so its readiness is taken
/// back as if the call had said so. What arrives from then on makes the socket ready anew.
fn drain(socket: &UdpSocket, mut receive: impl FnMut() -> nix::Result<usize>) -> io::Result<bool> {
    let received = Cell::new(0);
    let mut once = || {
        received.set(receive().map_err(io::Error::from)?);
        if received.get() < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    };
    // One after the other: tokio's `try_io` knows no two at a time. Neither makes a system call unless it is ready.
    let mut outcome = Err(io::ErrorKind::WouldBlock.into());
    for interest in [Interest::READABLE, Interest::ERROR] {
        if received.get() == 0 && matches!(&outcome, Err(error) if is_would_block(error)) {
            outcome = socket.try_io(interest, &mut once);
        }
    }
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if is_would_block(&error) && received.get() > 0 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Nothing is there.
pub(super) fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// ICMP's destination unreachable, of an earlier datagram; or the kernel knows no way.
fn is_unreachable(error: Errno) -> bool {
    use Errno::{ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOPROTOOPT, EPROTO};
    matches!(error, ECONNREFUSED | EHOSTDOWN | EHOSTUNREACH | ENETDOWN | ENETUNREACH | ENOPROTOOPT | EPROTO)
}

/// Waits for a datagram or an error.
pub(super) async fn arrival(socket: &UdpSocket) -> io::Result<()> {
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

/// The address to answer from: what a unicast datagram was sent to, the interface's own for a broadcast; the kernel's choice for a multicast.
fn local(message: ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into()),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)).filter(|ip| !ip.is_multicast()).map(IpAddr::from)
        }
        _ => None,
    }
}
