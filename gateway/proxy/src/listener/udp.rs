//! Sockets that receive datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Use;

/// The receive buffer that the kernel is asked for, in bytes; it grants at most `net.core.rmem_max`. Bursts wait there while the worker does something else.
const LISTENER_BUFFER: usize = 4 << 20;

/// A socket for a listener, as in [`super`], but without SO_REUSEADDR, which for UDP would let another process take the address over.
pub(crate) fn listen(address: SocketAddr, to: Use) -> io::Result<StdUdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    super::prepare(&socket, address, to)?;
    if to != Use::Trial {
        // If it is refused, the default serves as well.
        let _ = socket.set_recv_buffer_size(LISTENER_BUFFER);
    }
    // It comes before bind, as what arrives earlier would come without the address to which it was sent.
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
    // A socket that was handed over may have been one of QUIC, which receives several datagrams as one.
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
    socket.set_nonblocking(true)
}
