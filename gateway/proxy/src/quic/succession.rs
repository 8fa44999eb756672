//! Connections that outlive a take-over. A successor receives from the very sockets of its predecessor, so packets of connections that the predecessor has come to
//! the successor. It knows them by their IDs, as it was given the secret of these, and sends them on through a pair of Unix sockets, until the predecessor ends.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use quinn::udp::EcnCodepoint;
use sluicegate_model::persistent::Map;
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;

use super::id::{self, Ids, SECRET};
use super::post::{Packet, Quic};
use crate::watched::watch;

/// What stands before a packet: the listener's address, the sender's, the destination's, and the mark of congestion.
const HEAD: usize = ADDRESS + ADDRESS + IP + 1;
const ADDRESS: usize = IP + 2;
const IP: usize = 16;
/// How much may wait on the way, in bytes; the kernel grants at most `net.core.wmem_max`.
const BUFFER: usize = 4 << 20;
/// The largest packet that is sent on.
const MOST: usize = 2 << 10;

/// A predecessor that still has connections.
pub(crate) struct Predecessor {
    ids: Ids,
    socket: UnixDatagram,
}

impl Predecessor {
    /// What a predecessor hands over. Its first message is the secret.
    pub(crate) fn meet(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let mut secret = [0; SECRET];
        match socket.recv(&mut secret)? {
            SECRET => Ok(Self { ids: Ids::of(secret), socket }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Sends a packet on, if it is of a connection that the predecessor has. Returns whether it is, and whether it was sent.
    pub(super) fn pass(
        &self,
        listener: SocketAddr,
        packet: &[u8],
        from: SocketAddr,
        to: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
    ) -> Option<bool> {
        self.ids.worker(id::destination(packet)?)?;
        let mut bytes = Vec::with_capacity(HEAD + packet.len());
        put(&mut bytes, listener);
        put(&mut bytes, from);
        bytes.extend_from_slice(&to.map_or(Ipv6Addr::UNSPECIFIED, mapped).octets());
        bytes.push(ecn.map_or(0, |ecn| ecn as u8));
        bytes.extend_from_slice(packet);
        Some(self.socket.send(&bytes).is_ok())
    }
}

/// Makes the two ends for a successor: this process', and the one that is handed over.
pub(crate) fn pair(ids: &Ids) -> io::Result<(UnixDatagram, UnixDatagram)> {
    // Each message stays one, as with datagrams, of which the kernel would queue ten; these wait by their size.
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
    for end in [&ours, &theirs] {
        // If it is refused, the default serves as well.
        let _ = end.set_send_buffer_size(BUFFER);
    }
    let (ours, theirs) = (UnixDatagram::from(OwnedFd::from(ours)), UnixDatagram::from(OwnedFd::from(theirs)));
    ours.set_nonblocking(true)?;
    ours.send(ids.secret())?;
    Ok((ours, theirs))
}

/// Takes the packets that a successor sends on, and gives each to its worker, until there is no successor any more.
pub(crate) async fn take(socket: Arc<UnixDatagram>, listeners: Map<SocketAddr, Quic>) {
    let socket = match watch(socket, Interest::READABLE) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot take what a successor sends on"),
    };
    let mut bytes = vec![0; HEAD + MOST];
    while let Ok(count) = socket.async_io(Interest::READABLE, |socket| socket.recv(&mut bytes)).await {
        let Some((listener, packet)) = bytes.get(..count).and_then(read) else {
            // The other end has closed.
            if count == 0 {
                return;
            }
            continue;
        };
        if let Some(quic) = listeners.get(&listener)
            && let Some(worker) = id::destination(&packet.bytes).and_then(|id| quic.post.ids.worker(id))
        {
            quic.post.hand_over(packet, worker);
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn put(into: &mut Vec<u8>, address: SocketAddr) {
    into.extend_from_slice(&mapped(address.ip()).octets());
    into.extend_from_slice(&address.port().to_be_bytes());
}

fn ip(from: &mut &[u8]) -> Option<IpAddr> {
    let (ip, rest) = from.split_first_chunk::<IP>()?;
    *from = rest;
    Some(IpAddr::from(*ip).to_canonical())
}

fn address(from: &mut &[u8]) -> Option<SocketAddr> {
    let ip = ip(from)?;
    let (port, rest) = from.split_first_chunk::<2>()?;
    *from = rest;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

fn read(mut bytes: &[u8]) -> Option<(SocketAddr, Packet)> {
    let (listener, from, to) = (address(&mut bytes)?, address(&mut bytes)?, ip(&mut bytes)?);
    let (ecn, packet) = bytes.split_first()?;
    let to = Some(to).filter(|to| !to.is_unspecified());
    Some((listener, Packet { from, to, ecn: EcnCodepoint::from_bits(*ecn), bytes: packet.into() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_packet_comes_through_as_it_was_and_only_to_whose_it_is() {
        let (old, new) = (Ids::default(), Ids::default());
        let (ours, theirs) = pair(&old).unwrap();
        let predecessor = Predecessor::meet(theirs).unwrap();
        let (listener, from): (SocketAddr, SocketAddr) = ("192.0.2.1:443".parse().unwrap(), "[2001:db8::1]:5000".parse().unwrap());
        let packet = |ids: &Ids| [&[0x40][..], &ids.make(3), &[7; 30]].concat();
        assert_eq!(predecessor.pass(listener, &packet(&new), from, None, None), None);
        for (to, ecn) in [(None, None), (Some("192.0.2.9".parse().unwrap()), Some(EcnCodepoint::Ce))] {
            let packet = packet(&old);
            assert_eq!(predecessor.pass(listener, &packet, from, to, ecn), Some(true));
            let mut bytes = [0; HEAD + MOST];
            let count = ours.recv(&mut bytes).unwrap();
            let (at, read) = read(&bytes[..count]).unwrap();
            assert_eq!((at, read.from, read.to, read.ecn, &*read.bytes), (listener, from, to, ecn, &packet[..]));
        }
        drop(ours);
        assert_eq!(predecessor.pass(listener, &packet(&old), from, None, None), Some(false));
        assert!(read(&[0; HEAD - 1]).is_none());
    }
}
