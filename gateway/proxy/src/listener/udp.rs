//! Sockets that receive datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Use;

/// Asked of the kernel for a listener, which grants at most `net.core.rmem_max`: bursts wait here while the worker does something else.
const LISTENER_BUFFER: usize = 4 << 20;

/// A socket for a listener, as in [`super`], but without SO_REUSEADDR: for UDP that would let another process take the
/// address over.
pub(crate) fn listen(address: SocketAddr, to: Use) -> io::Result<StdUdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    super::prepare(&socket, address, to)?;
    if to != Use::Trial {
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
