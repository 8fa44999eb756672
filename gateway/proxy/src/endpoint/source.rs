//! Connections and flows to endpoints that come from the client's address (`IP_TRANSPARENT`, ip(7)), so that the endpoint sees the client as its peer. The kernel
//! takes any address for such a socket's own. That the endpoint's answers come back to this machine, and to the socket, is a matter of routing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, SockRef, Socket, Type};

/// Whether this process may do that.
///
/// # Errors
/// It may not: it lacks CAP_NET_ADMIN, in the operating system's words.
pub fn may_keep_clients() -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::STREAM, None)?.set_ip_transparent_v4(true)
}

/// The address from which `to` is to be met, if both are of one IP family. An endpoint is not met from its own address: it would answer itself.
pub(crate) fn fitting(from: Option<IpAddr>, to: SocketAddr) -> Option<IpAddr> {
    from.filter(|from| from.is_ipv4() == to.is_ipv4() && *from != to.ip())
}

/// Has a socket that is not connected yet come from a client's address.
pub(crate) fn claim(socket: &impl AsFd, from: IpAddr) -> io::Result<()> {
    let of = SockRef::from(socket);
    match from {
        IpAddr::V4(_) => of.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => of.set_ip_transparent_v6(true)?,
    }
    // The port is chosen when it connects: so a client has as many of them as there are, to each endpoint. An old kernel chooses at once.
    let _ = setsockopt(socket, IpBindAddressNoPort, &true);
    of.bind(&SocketAddr::new(from, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_met_from_an_address_of_its_family_that_is_not_its_own() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let to = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(fitting(Some(ip("192.0.2.1")), to("10.0.0.1:80")), Some(ip("192.0.2.1")));
        assert_eq!(fitting(Some(ip("2001:db8::1")), to("[fd00::1]:80")), Some(ip("2001:db8::1")));
        assert_eq!(fitting(Some(ip("192.0.2.1")), to("[fd00::1]:80")), None);
        assert_eq!(fitting(Some(ip("10.0.0.1")), to("10.0.0.1:80")), None);
        assert_eq!(fitting(None, to("10.0.0.1:80")), None);
    }
}
