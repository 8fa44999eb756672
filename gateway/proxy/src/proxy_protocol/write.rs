//! Writes a header.

use std::net::{IpAddr, SocketAddr};

use sluicegate_model::settings::ProxyVersion;

use super::{Ends, FIXED, Header, SIGNATURE, TYPE_CHECKSUM, crc32c};

/// The header for a connection from `source` to `destination`, unless the header that it came with says more.
pub(crate) fn write(version: ProxyVersion, source: SocketAddr, destination: SocketAddr, came_with: Option<&Header>) -> Vec<u8> {
    let own = Ends::Inet { source, destination };
    let ends = came_with.map(|h| &h.ends).filter(|ends| **ends != Ends::Own).unwrap_or(&own);
    match version {
        ProxyVersion::V1 => line(ends),
        ProxyVersion::V2 => binary(ends, came_with.map_or(&[], |h| &h.tlvs), came_with.is_some_and(|h| h.checksum)),
    }
}

fn line(ends: &Ends) -> Vec<u8> {
    let Ends::Inet { source, destination } = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to) = one_family(source.ip(), destination.ip());
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(ends: &Ends, tlvs: &[u8], checksum: bool) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(0x21);
    // The family with a stream as its transport, then the length, which is filled in later.
    let family = |header: &mut Vec<u8>, family: u8| header.extend_from_slice(&[family << 4 | 1, 0, 0]);
    match ends {
        Ends::Own => family(&mut header, 0),
        Ends::Unix(paths) => {
            family(&mut header, 3);
            header.extend_from_slice(&**paths);
        }
        Ends::Inet { source, destination } => {
            let (from, to) = one_family(source.ip(), destination.ip());
            family(&mut header, if from.is_ipv4() { 1 } else { 2 });
            for address in [from, to] {
                match address {
                    IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
                }
            }
            header.extend_from_slice(&source.port().to_be_bytes());
            header.extend_from_slice(&destination.port().to_be_bytes());
        }
    }
    header.extend_from_slice(tlvs);
    if checksum {
        header.extend_from_slice(&[TYPE_CHECKSUM, 0, 4, 0, 0, 0, 0]);
    }
    // It cannot be cut: what was read was at most 4 KiB, and nothing longer is added.
    let length = u16::try_from(header.len() - FIXED).unwrap_or(u16::MAX);
    header[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
    if checksum {
        let sum = crc32c(header.iter().copied());
        let at = header.len() - 4;
        header[at..].copy_from_slice(&sum.to_be_bytes());
    }
    header
}

/// Both addresses as IPv4, or both as IPv6, as a header has one family. IPv4-mapped addresses become IPv4 if that is possible.
fn one_family(from: IpAddr, to: IpAddr) -> (IpAddr, IpAddr) {
    let dress = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        ip => ip,
    };
    match (from.to_canonical(), to.to_canonical()) {
        (from, to) if from.is_ipv4() == to.is_ipv4() => (from, to),
        (from, to) => (dress(from), dress(to)),
    }
}
