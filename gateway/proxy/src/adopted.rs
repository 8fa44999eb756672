//! Sockets that were handed to this process, by a predecessor or a service manager, until there is a listener for their address.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use sluicegate_model::route::Protocol;
use socket2::{Domain, SockRef, Type};

use crate::quic::Predecessor;

/// The sockets, by protocol and address. There may be several for one address: one for each worker of a predecessor.
#[derive(Default)]
pub(crate) struct Adopted {
    pub(crate) tcp: BTreeMap<SocketAddr, Vec<TcpListener>>,
    pub(crate) udp: BTreeMap<SocketAddr, Vec<UdpSocket>>,
    /// A predecessor that has connections of QUIC.
    pub(crate) predecessor: Option<Arc<Predecessor>>,
    /// The ports of sockets for all addresses, and whether these take both IP families.
    everywhere: BTreeMap<(Protocol, u16), bool>,
}

impl Adopted {
    /// Adds a socket. Errors: it is not a socket of the internet's, or one that takes neither connections nor datagrams.
    pub(crate) fn add(&mut self, socket: OwnedFd) -> Result<()> {
        if SockRef::from(&socket).domain()? == Domain::UNIX {
            self.predecessor = Some(Arc::new(Predecessor::meet(UnixDatagram::from(socket))?));
            return Ok(());
        }
        let (kind, (address, both)) = (SockRef::from(&socket).r#type()?, address_of(&socket)?);
        let protocol = match kind {
            Type::STREAM => {
                self.tcp.entry(address).or_default().push(socket.into());
                Protocol::Tcp
            }
            Type::DGRAM => {
                self.udp.entry(address).or_default().push(socket.into());
                Protocol::Udp
            }
            _ => return Err(Error::new(ErrorKind::InvalidInput, "neither TCP nor UDP")),
        };
        if address.ip() == Ipv4Addr::UNSPECIFIED {
            self.everywhere.insert((protocol, address.port()), both);
        }
        Ok(())
    }

    /// Whether it is no failure that all addresses of IPv6 cannot be listened on. Either what arrives there comes to a socket that was handed over under
    /// `0.0.0.0`; or whoever gave this process that socket did not mean it to have IPv6's as well, as it may not bind such a port itself.
    pub(crate) fn covers(&self, protocol: Protocol, address: SocketAddr, error: &Error) -> bool {
        let handed = self.everywhere.get(&(protocol, address.port())).filter(|_| address.ip() == Ipv6Addr::UNSPECIFIED);
        handed.is_some_and(|both| *both || error.kind() == ErrorKind::PermissionDenied)
    }

    /// The addresses of sockets that nobody has asked for.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.keys().chain(self.udp.keys()).copied().collect()
    }
}

/// The address under which a socket is to be found, and whether it takes both IP families. A socket for all IPv6 addresses that takes IPv4, too, stands for
/// all IPv4 addresses.
fn address_of(socket: &OwnedFd) -> Result<(SocketAddr, bool)> {
    let socket = SockRef::from(socket);
    let address = socket.local_addr()?.as_socket().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no address of the internet's"))?;
    let both = address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()?;
    Ok((if both { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()) } else { address }, both))
}
