//! Why an address cannot be listened on: a privilege is missing, another process has it, or it is not this machine's.

use std::collections::HashSet;
use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use sluicegate_model::route::Protocol;

use crate::listener::udp;
use crate::listener::{self, Use};

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct Blocked {
    error: Error,
    why: Option<Why>,
}

#[derive(Debug)]
enum Why {
    /// This is missing.
    Missing(String),
    /// These processes have the address.
    Held(Vec<Holder>),
    /// A process has the address that cannot be seen.
    HeldUnseen,
}

#[derive(Debug)]
struct Holder {
    name: String,
    pid: u32,
}

impl Blocked {
    /// Whether only processes of this name have the address.
    pub fn is_held_by(&self, name: &str) -> bool {
        matches!(&self.why, Some(Why::Held(holders)) if holders.iter().all(|holder| holder.name == name))
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        match &self.why {
            None => Ok(()),
            Some(Why::Missing(what)) => write!(f, ": {what}"),
            Some(Why::HeldUnseen) => f.write_str(": a process of another user, or of another container, has it"),
            Some(Why::Held(holders)) => {
                for (i, holder) in holders.iter().enumerate() {
                    let own = if holder.pid == std::process::id() { ", this gateway itself" } else { "" };
                    write!(f, "{} {} (pid {}{own})", if i == 0 { ":" } else { "," }, holder.name, holder.pid)?;
                }
                f.write_str(" has it")
            }
        }
    }
}

impl std::error::Error for Blocked {}

/// Tries whether an address could be listened on now, and frees it at once. The error says why not.
pub fn try_listen(protocol: Protocol, address: SocketAddr) -> Result<(), Blocked> {
    let tried = match protocol {
        Protocol::Tcp => listener::listen(address, Use::Trial).map(drop),
        Protocol::Udp => udp::listen(address, Use::Trial).map(drop),
    };
    tried.map_err(|error| explain(protocol, address, error))
}

/// The error, with what can be found out about it.
pub(crate) fn explained(protocol: Protocol, address: SocketAddr, error: Error) -> Error {
    Error::new(error.kind(), explain(protocol, address, error))
}

fn explain(protocol: Protocol, address: SocketAddr, error: Error) -> Blocked {
    let why = match error.kind() {
        ErrorKind::PermissionDenied => privilege(address.port()).map(Why::Missing),
        ErrorKind::AddrInUse => holder(protocol, address),
        ErrorKind::AddrNotAvailable => Some(Why::Missing(foreign(address.ip()))),
        _ => None,
    };
    Blocked { error, why }
}

/// The privilege that a port needs. Ports below `ip_unprivileged_port_start` (ip-sysctl), which is 1024 unless it is set, need CAP_NET_BIND_SERVICE
/// (capabilities(7)).
fn privilege(port: u16) -> Option<String> {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    let start: u16 = start.and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    (port < start).then(|| format!("ports below {start} need CAP_NET_BIND_SERVICE, or sysctl net.ipv4.ip_unprivileged_port_start={port}"))
}

fn foreign(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(_) => "no interface of this machine has the address".to_owned(),
        IpAddr::V6(ip) => format!(
            "no interface of this machine has the address; `ip -6 route add local {ip}/128 dev lo`, or a whole range so, makes it local"
        ),
    }
}

/// Which processes have an address, as far as this process may see. Other users' sockets have a number, but no name.
fn holder(protocol: Protocol, address: SocketAddr) -> Option<Why> {
    let sockets = sockets(protocol, address);
    if sockets.is_empty() {
        return None;
    }
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if descriptors(&process.path()).any(|socket| sockets.contains(&socket)) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(Holder { name: name.trim_end().to_owned(), pid });
        }
    }
    Some(if found.is_empty() { Why::HeldUnseen } else { Why::Held(found) })
}

/// The sockets among a process's descriptors (proc_pid_fd(5)); none if the process may not be looked at.
fn descriptors(process: &Path) -> impl Iterator<Item = u64> {
    let links = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    links.filter_map(|link| {
        let target = std::fs::read_link(link.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// The sockets that keep others from an address, by their inodes (proc_pid_net(5)).
fn sockets(protocol: Protocol, address: SocketAddr) -> HashSet<u64> {
    // A socket of `::` may take IPv4, too.
    let meet = |local: SocketAddr| {
        let alike = local.is_ipv4() == address.is_ipv4() && (local.ip().is_unspecified() || address.ip().is_unspecified());
        local.port() == address.port() && (local.ip() == address.ip() || alike || local.ip() == Ipv6Addr::UNSPECIFIED)
    };
    let (tables, state): (_, Option<&str>) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], Some(LISTEN)),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], None),
    };
    let mut found = HashSet::new();
    for table in tables.iter().filter_map(|path| std::fs::read_to_string(path).ok()) {
        for line in table.lines().skip(1) {
            let mut columns = line.split_ascii_whitespace();
            let local = columns.nth(1).and_then(local_address);
            let is = columns.nth(1);
            let inode = columns.nth(5).and_then(|text| text.parse().ok());
            if let (Some(local), Some(inode)) = (local, inode)
                && meet(local)
                && state.is_none_or(|wanted| is == Some(wanted))
            {
                found.insert(inode);
            }
        }
    }
    found
}

/// The state TCP_LISTEN of the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// Reads an address such as `0100007F:1F90`: words of 32 bits in the machine's byte order, and the port.
fn local_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            IpAddr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn who_has_an_address_is_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (protocol, address) in [(Protocol::Tcp, tcp.local_addr().unwrap()), (Protocol::Udp, udp.local_addr().unwrap())] {
            let everywhere = SocketAddr::new([0, 0, 0, 0].into(), address.port());
            for wanted in [address, everywhere] {
                let error = try_listen(protocol, wanted).unwrap_err().to_string();
                assert!(error.contains(&format!("(pid {}, this gateway itself) has it", std::process::id())), "{error}");
            }
        }
        drop((tcp, udp));
    }

    #[test]
    fn processes_are_known_by_their_names() {
        let held = |names: &[&str]| {
            let holders = names.iter().zip(7..).map(|(name, pid)| Holder { name: (*name).to_owned(), pid }).collect();
            Blocked { error: ErrorKind::AddrInUse.into(), why: Some(Why::Held(holders)) }
        };
        assert!(held(&["sluicegate"]).is_held_by("sluicegate") && !held(&["sluicegate", "nginx"]).is_held_by("sluicegate"));
        assert!(!Blocked { error: ErrorKind::AddrInUse.into(), why: Some(Why::HeldUnseen) }.is_held_by("sluicegate"));
        assert_eq!(held(&["sluicegate", "nginx"]).to_string(), "address in use: sluicegate (pid 7), nginx (pid 8) has it");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(local_address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(local_address("00000000000000000000000001000000:0050"), Some("[::1]:80".parse().unwrap()));
        assert_eq!((local_address("0100007F"), local_address("01:1")), (None, None));
    }

    #[test]
    fn a_missing_privilege_and_a_foreign_address_are_told() {
        assert!(privilege(0).is_none_or(|why| why.contains("CAP_NET_BIND_SERVICE")));
        assert_eq!(privilege(65535), None);
        let error = explained(Protocol::Tcp, "[fd00::1]:80".parse().unwrap(), ErrorKind::AddrNotAvailable.into());
        assert!(error.to_string().contains("ip -6 route add local fd00::1/128 dev lo"), "{error}");
    }
}
