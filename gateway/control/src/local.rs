//! Which addresses are this host's. The kernel is asked about an address once, and again when it has said that local addresses have changed: rtnetlink(7)
//! has groups for that. The question is the kernel's own, whether the address can be bound to, as a route of type `local` makes an address local that no
//! interface has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use sluicegate_model::address::is_local;

/// How long an answer counts where the kernel cannot be listened to.
const UNTOLD: Duration = Duration::from_secs(5);
/// For how many addresses the answer is remembered. Each costs a few system calls to find out.
const MOST: usize = 1 << 16;
/// `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`: addresses of interfaces, and routes.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
/// Of messages that are longer, the rest is not read.
const MESSAGE: usize = 8192;
/// So many messages are read at a time; of those that come faster it is taken that one of them matters.
const MOST_MESSAGES: usize = 1024;

/// The answers there are.
pub(crate) struct Local {
    known: HashMap<IpAddr, bool>,
    since: Instant,
    /// Where the kernel says that addresses have changed; none: it cannot be listened to.
    news: Option<OwnedFd>,
    /// How many questions were put to the kernel, for tests.
    asked: u64,
}

impl Local {
    pub(crate) fn new() -> Self {
        let news = listen().inspect_err(|error| {
            tracing::debug!(%error, "changes of local addresses cannot be listened to; they are asked for again from time to time");
        });
        Self { known: HashMap::new(), since: Instant::now(), news: news.ok(), asked: 0 }
    }

    /// Forgets the answers if they may be others now.
    pub(crate) fn refresh(&mut self) {
        let stale = match &self.news {
            Some(news) => has_changed(news),
            None => self.since.elapsed() > UNTOLD,
        };
        if stale || self.known.len() > MOST {
            self.known = HashMap::new();
            self.since = Instant::now();
        }
    }

    pub(crate) fn has(&mut self, ip: IpAddr) -> bool {
        let asked = &mut self.asked;
        *self.known.entry(ip).or_insert_with(|| {
            *asked += 1;
            is_local(ip)
        })
    }
}

fn listen() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let news = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(news.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(news)
}

/// Whether one of the messages that have come bears on which addresses are local.
fn has_changed(news: &OwnedFd) -> bool {
    let (mut message, mut changed) = ([0; MESSAGE], false);
    for _ in 0..MOST_MESSAGES {
        match recv(news.as_raw_fd(), &mut message, MsgFlags::empty()) {
            Ok(length) => changed |= bears(message.get(..length).unwrap_or_default()),
            Err(Errno::EAGAIN) => return changed,
            Err(Errno::EINTR) => {}
            // More have come than there was room for.
            Err(Errno::ENOBUFS) => changed = true,
            Err(_) => return true,
        }
    }
    true
}

/// Whether a packet of messages has one of an address or of a local route. What cannot be read may be one.
fn bears(mut packet: &[u8]) -> bool {
    /// `RTM_NEWADDR`, `RTM_DELADDR`.
    const ADDRESSES: [u16; 2] = [20, 21];
    /// `RTM_NEWROUTE`, `RTM_DELROUTE`.
    const ROUTES: [u16; 2] = [24, 25];
    /// `RTN_LOCAL`.
    const LOCAL: u8 = 2;
    /// The length of a message's header (`nlmsghdr`): its length, type, flags, number and sender.
    const HEADER: usize = 16;
    /// Where a route's type stands behind that (`rtmsg`).
    const TYPE: usize = HEADER + 7;
    while !packet.is_empty() {
        let length = packet.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize);
        let kind = packet.get(4..6).and_then(|kind| Some(u16::from_ne_bytes(*kind.first_chunk()?)));
        let (Some(length @ HEADER..), Some(kind)) = (length, kind) else { return true };
        if ADDRESSES.contains(&kind) || ROUTES.contains(&kind) && packet.get(TYPE).is_none_or(|kind| *kind == LOCAL) {
            return true;
        }
        // Each message begins at a multiple of four.
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn message(kind: u16, route: u8) -> Vec<u8> {
        let header = [&30_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        [&header[..], &[2, 32, 0, 0, 255, 2, 0, route], &[0; 8]].concat()
    }

    #[test]
    fn addresses_and_local_routes_matter_and_other_routes_do_not() {
        let (unicast, local) = (1, 2);
        for (messages, wanted) in [
            (vec![message(24, unicast)], false),
            (vec![message(24, local)], true),
            (vec![message(25, local)], true),
            (vec![message(20, unicast)], true),
            (vec![message(24, unicast), message(16, local), message(25, unicast)], false),
            (vec![message(24, unicast), message(21, unicast)], true),
            (vec![vec![1, 2, 3]], true),
            (vec![vec![0; 16]], true),
        ] {
            assert_eq!(bears(&messages.concat()), wanted, "{messages:?}");
        }
    }

    /// Says to the test binary that it is in a network namespace of its own.
    const PART: &str = "SLUICEGATE_TEST_IN_NAMESPACE";

    #[test]
    fn the_kernel_is_asked_once_until_addresses_change() {
        const TEST: &str = "local::tests::the_kernel_is_asked_once_until_addresses_change";
        if std::env::var_os(PART).is_none() {
            let mut command = Command::new("unshare");
            command.args(["-rn", "--"]).arg(std::env::current_exe().expect("this binary"));
            let output = command.args(["--exact", TEST, "--nocapture"]).env(PART, "1").output().expect("unshare is there");
            let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let ip = |arguments: &str| {
            let done = Command::new("ip").args(arguments.split(' ')).status().expect("ip is there");
            assert!(done.success(), "ip {arguments}");
        };
        ip("link set lo up");
        let mut local = Local::new();
        assert!(local.news.is_some());
        let mut ask = |address: &str| {
            local.refresh();
            let answer = local.has(address.parse().expect(address));
            (answer, local.asked)
        };
        let (this, that) = ("203.0.113.7", "203.0.113.8");
        assert_eq!((ask(this), ask(that)), ((false, 1), (false, 2)));
        assert_eq!((ask(this), ask(that)), ((false, 2), (false, 2)));
        ip("route add 198.51.100.0/24 dev lo");
        assert_eq!((ask(this), ask(that)), ((false, 2), (false, 2)), "no address has changed");
        ip("address add 203.0.113.7/32 dev lo");
        assert_eq!((ask(this), ask(that)), ((true, 3), (false, 4)));
        ip("route add local 203.0.113.8/32 dev lo");
        assert_eq!((ask(this), ask(that)), ((true, 5), (true, 6)));
        ip("address delete 203.0.113.7/32 dev lo");
        assert!(!ask(this).0);
    }
}
