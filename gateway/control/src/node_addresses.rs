//! The addresses of this machine, on which node ports are served.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The unspecified addresses of the IP families that this machine has: a kernel may be without IPv6.
pub fn wildcards() -> Vec<IpAddr> {
    // Nothing is sent, and port 0 is free, so this fails only if the IP family is missing.
    let there = |ip: &IpAddr| std::net::UdpSocket::bind((*ip, 0)).is_ok();
    [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)].into_iter().filter(there).collect()
}

/// The addresses by which clients reach this machine: those of its interfaces, but for loopback and link-local ones. If there are none, its loopback
/// addresses.
pub fn own_addresses() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = if_addrs::get_if_addrs().into_iter().flatten().map(|interface| interface.ip()).collect();
    all.sort_unstable();
    all.dedup();
    let link_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let outside: Vec<IpAddr> = all.iter().copied().filter(|ip| !ip.is_loopback() && !link_local(ip)).collect();
    if outside.is_empty() { all } else { outside }
}

/// The local addresses that `--nodeport-addresses` selects. A single address (`/32`, `/128`) in 127.0.0.0/8 is always local. Empty: all addresses.
pub fn node_addresses(cidrs: &[ipnet::IpNet]) -> std::io::Result<Vec<IpAddr>> {
    if cidrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<IpAddr> =
        if_addrs::get_if_addrs()?.into_iter().map(|i| i.ip()).filter(|ip| cidrs.iter().any(|c| c.contains(ip))).collect();
    found.extend(cidrs.iter().filter(|c| c.prefix_len() == c.max_prefix_len() && c.addr().is_loopback()).map(ipnet::IpNet::addr));
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(std::io::Error::other(format!(
            "no local address is in {}",
            cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(found)
}
