//! Addresses that are never an endpoint's, whoever names them, and which addresses of IPv6 stand for others. It is one table for the addresses that
//! plugins connect to and those that they publish.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is special about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Special {
    /// The unspecified address: 0.0.0.0/8 (RFC 1122 §3.2.1.3) and ::. Connecting to 0.0.0.0 reaches this host.
    Unspecified,
    /// A loopback address: 127.0.0.0/8 and ::1.
    Loopback,
    /// A link-local address: 169.254.0.0/16 (RFC 3927) and fe80::/10.
    LinkLocal,
    /// The address of a metadata service, where a cloud tells its machines their secrets. 169.254.169.254 is link-local as well.
    Metadata,
    /// A multicast address: 224.0.0.0/4 and ff00::/8.
    Multicast,
    /// The broadcast address: 255.255.255.255.
    Broadcast,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
        })
    }
}

/// Metadata services over IPv4: of AWS, Azure, Google, Oracle and others; of Alibaba; Azure's host agent; Oracle's first one.
const METADATA_V4: [Ipv4Addr; 4] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// Metadata services over IPv6: of AWS, of its pods' identities, of Google, of Scaleway.
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// What is special about an address, or about the IPv4 address that one of IPv6 stands for.
pub fn special(ip: IpAddr) -> Option<Special> {
    spellings(ip).into_iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    })
}

fn special_v4(ip: Ipv4Addr) -> Option<Special> {
    Some(match ip {
        _ if METADATA_V4.contains(&ip) => Special::Metadata,
        _ if ip.octets()[0] == 0 => Special::Unspecified,
        _ if ip.is_loopback() => Special::Loopback,
        _ if ip.is_link_local() => Special::LinkLocal,
        _ if ip.is_multicast() => Special::Multicast,
        _ if ip.is_broadcast() => Special::Broadcast,
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<Special> {
    Some(match ip {
        _ if METADATA_V6.contains(&ip) => Special::Metadata,
        _ if ip.is_unspecified() => Special::Unspecified,
        _ if ip.is_loopback() => Special::Loopback,
        _ if ip.is_unicast_link_local() => Special::LinkLocal,
        _ if ip.is_multicast() => Special::Multicast,
        _ => return None,
    })
}

/// Whether a connection to `to` reaches what listens on `listens`. `is_local` says whether an address is this host's; it is asked only where
/// something listens on all of them.
pub fn reaches(to: SocketAddr, listens: SocketAddr, mut is_local: impl FnMut(IpAddr) -> bool) -> bool {
    let own = listens.ip().to_canonical();
    to.port() == listens.port()
        && spellings(to.ip()).into_iter().any(|to| {
            // Connecting to the unspecified address reaches this host.
            to == own || (to.is_unspecified() && (own.is_loopback() || own.is_unspecified())) || (own.is_unspecified() && is_local(to))
        })
}

/// The address itself, and the IPv4 addresses that one of IPv6 may stand for: IPv4-mapped and -compatible (RFC 4291 §2.5.5), those that a translator
/// (NAT64, RFC 6052 and RFC 8215) or a tunnel (6to4, RFC 3056; Teredo, RFC 4380) leads to.
pub fn spellings(ip: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = ip else { return vec![ip] };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return vec![mapped.into()];
    }
    let o = v6.octets();
    let v4 = |at: [usize; 4]| IpAddr::V4(Ipv4Addr::from(at.map(|i| o[i])));
    let mut all = vec![ip];
    match v6.segments() {
        // `::` and `::1` are not IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => all.push(v4([12, 13, 14, 15])),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => all.push(v4([12, 13, 14, 15])),
        // The local prefix of a translator may have any length from 48 bits on (RFC 6052 §2.2: octet 8 is left out). Which is not known, and one whose
        // first octet is 0 is none.
        [0x64, 0xff9b, 1, ..] => {
            let each = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
            all.extend(each.into_iter().filter(|at| o[at[0]] != 0).map(v4));
        }
        [0x2002, ..] => all.push(v4([2, 3, 4, 5])),
        [0x2001, 0, ..] => all.extend([v4([4, 5, 6, 7]), Ipv4Addr::from([12, 13, 14, 15].map(|i| !o[i])).into()]),
        _ => {}
    }
    all
}

/// Whether an address is this host's: only such a one can be bound to, whether an interface has it or a route of type `local`.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_known_in_every_spelling() {
        for (ip, what) in [
            ("0.0.0.0", Special::Unspecified),
            ("0.1.2.3", Special::Unspecified),
            ("::", Special::Unspecified),
            ("::ffff:0.0.0.0", Special::Unspecified),
            ("127.0.0.1", Special::Loopback),
            ("127.255.1.2", Special::Loopback),
            ("::1", Special::Loopback),
            ("::ffff:127.0.0.1", Special::Loopback),
            ("::127.0.0.1", Special::Loopback),
            ("64:ff9b::7f00:1", Special::Loopback),
            ("2002:7f00:1::", Special::Loopback),
            ("169.254.0.1", Special::LinkLocal),
            ("fe80::1", Special::LinkLocal),
            ("169.254.169.254", Special::Metadata),
            ("::ffff:169.254.169.254", Special::Metadata),
            ("64:ff9b::169.254.169.254", Special::Metadata),
            ("64:ff9b:1::169.254.169.254", Special::Metadata),
            ("64:ff9b:1:a9fe:a9:fe00::", Special::Metadata),
            ("2002:a9fe:a9fe::1", Special::Metadata),
            ("2001:0:a9fe:a9fe::", Special::Metadata),
            ("2001:0:102:304::5601:5601", Special::Metadata),
            ("100.100.100.200", Special::Metadata),
            ("fd00:ec2::254", Special::Metadata),
            ("fd20:ce::254", Special::Metadata),
            ("168.63.129.16", Special::Metadata),
            ("224.0.0.1", Special::Multicast),
            ("239.1.2.3", Special::Multicast),
            ("ff02::1", Special::Multicast),
            ("::ffff:224.0.0.1", Special::Multicast),
            ("255.255.255.255", Special::Broadcast),
        ] {
            assert_eq!(special(ip.parse().expect(ip)), Some(what), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "192.0.2.1",
            "100.64.0.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "240.0.0.1",
        ] {
            assert_eq!(special(ip.parse().expect(ip)), None, "{ip}");
        }
    }

    #[test]
    fn what_listens_is_reached_by_every_spelling_of_its_address() {
        let reached = |to: &str, listens: &str| {
            let is_local = |ip: IpAddr| ip.is_loopback() || ip == IpAddr::from([192, 0, 2, 1]);
            reaches(to.parse().expect(to), listens.parse().expect(listens), is_local)
        };
        for to in ["127.0.0.1:9901", "0.0.0.0:9901", "[::]:9901", "[::ffff:127.0.0.1]:9901", "[64:ff9b::7f00:1]:9901"] {
            assert!(reached(to, "127.0.0.1:9901"), "{to}");
        }
        for to in ["127.0.0.5:9901", "192.0.2.1:9901", "[::ffff:192.0.2.1]:9901", "[2002:c000:201::]:9901", "[::1]:9901", "0.0.0.0:9901"] {
            assert!(reached(to, "0.0.0.0:9901") && reached(to, "[::]:9901"), "{to}");
        }
        assert!(reached("192.0.2.1:9901", "[::ffff:192.0.2.1]:9901"));
        assert!(!reached("127.0.0.1:9902", "0.0.0.0:9901") && !reached("127.0.0.2:9901", "127.0.0.1:9901"));
        assert!(!reached("192.0.2.2:9901", "0.0.0.0:9901"), "another host's");
    }

    #[test]
    fn only_addresses_of_this_host_are_local() {
        assert!(is_local(IpAddr::from([127, 9, 9, 9])) && is_local(Ipv6Addr::LOCALHOST.into()));
        assert!(!is_local(IpAddr::from([192, 0, 2, 1])), "an address for documentation");
    }
}
