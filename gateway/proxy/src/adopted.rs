//! Sockets that were handed to this process, by a predecessor or a service manager, until there is a listener for their address.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use socket2::{SockRef, Type};

/// By protocol and address; of one address there are several, one for each worker of a predecessor.
#[derive(Default)]
pub(crate) struct Adopted {
    pub(crate) tcp: BTreeMap<SocketAddr, Vec<TcpListener>>,
    pub(crate) udp: BTreeMap<SocketAddr, Vec<UdpSocket>>,
}

impl Adopted {
    /// Errors: it is no socket of the internet's, or none that connections or datagrams are taken from.
    pub(crate) fn add(&mut self, socket: OwnedFd) -> Result<()> {
        let (kind, address) = (SockRef::from(&socket).r#type()?, address_of(&socket)?);
        match kind {
            Type::STREAM => self.tcp.entry(address).or_default().push(socket.into()),
            Type::DGRAM => self.udp.entry(address).or_default().push(socket.into()),
            _ => return Err(Error::new(ErrorKind::InvalidInput, "neither TCP nor UDP")),
        }
        Ok(())
    }

    /// What nobody has asked for.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.keys().chain(self.udp.keys()).copied().collect()
    }
}

/// Under which address a socket is to be found: one for all IPv6 addresses that takes IPv4 too stands for all IPv4 addresses.
fn address_of(socket: &OwnedFd) -> Result<SocketAddr> {
    let socket = SockRef::from(socket);
    let address = socket.local_addr()?.as_socket().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no address of the internet's"))?;
    let both = address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()?;
    Ok(if both { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()) } else { address })
}
