//! Finds which host name of a listener serves a request or a connection. It goes by a hash, so their number does not matter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Target;
use crate::tls::{HANDSHAKE_TIMEOUT, ServerTls};

/// What serves one host name of an HTTP listener.
#[derive(Clone, Debug)]
pub struct VirtualHost<T = Target> {
    /// The host name in lower case; `*.example.com` is a wildcard, which spans dots; none: any host.
    pub hostname: Option<String>,
    /// Where its requests go.
    pub target: T,
}

/// What serves one server name of a TLS listener. `S`: how TLS is ended.
#[derive(Clone, Debug)]
pub struct TlsHost<T = Target, S = Arc<ServerTls>> {
    /// The server name, as [`VirtualHost::hostname`]. A client that sends no name gets the host without one.
    pub hostname: Option<String>,
    /// What becomes of TLS.
    pub mode: TlsMode<S>,
    /// Where its connections or requests go.
    pub target: T,
}

impl TlsHost {
    /// The time within which the handshake must be done. A host that forwards TLS waits as long for the client's hello.
    pub fn patience(&self) -> Duration {
        self.server().map_or(HANDSHAKE_TIMEOUT, |tls| tls.settings.handshake_timeout)
    }

    /// How TLS is ended, if it is ended here.
    pub fn server(&self) -> Option<&Arc<ServerTls>> {
        match &self.mode {
            TlsMode::Passthrough => None,
            TlsMode::Tcp(tls) | TlsMode::Http(tls) => Some(tls),
        }
    }
}

/// What becomes of a TLS connection. `S`: how it is ended.
#[derive(Clone, Debug)]
pub enum TlsMode<S = Arc<ServerTls>> {
    /// TLS is forwarded as it is.
    Passthrough,
    /// TLS is ended, and the bytes in it are forwarded.
    Tcp(S),
    /// TLS is ended, and HTTP requests are taken from it.
    Http(S),
}

impl TlsMode {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Passthrough, Self::Passthrough) => true,
            (Self::Tcp(a), Self::Tcp(b)) | (Self::Http(a), Self::Http(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Something that has a host name.
pub trait Host {
    /// The host name, as [`VirtualHost::hostname`].
    fn hostname(&self) -> Option<&str>;

    /// How long a handshake may take, as [`TlsHost::patience`].
    fn patience(&self) -> Duration {
        HANDSHAKE_TIMEOUT
    }
}

impl Host for VirtualHost {
    fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }
}

impl Host for TlsHost {
    fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    fn patience(&self) -> Duration {
        Self::patience(self)
    }
}

/// The host names of a listener. An exact name goes before wildcards, a wildcard before those of fewer labels, and any of them before the one
/// that serves any host (Gateway API, `hostname` of a Gateway's listener).
pub struct Hosts<H> {
    all: Vec<H>,
    /// Positions in `all` by exact names. Others choose the names, so the hash has a secret.
    exact: HashMap<Box<str>, usize>,
    /// Positions in `all` by what follows the asterisk of a wildcard.
    wildcards: HashMap<Box<str>, usize>,
    /// The length of the longest key of `wildcards`, in bytes. What is longer need not be looked up.
    longest: usize,
    any: Option<usize>,
    patience: Duration,
}

impl<H: Host> Hosts<H> {
    /// Of several hosts with one name, the first serves.
    pub fn new(all: Vec<H>) -> Self {
        let (mut exact, mut wildcards, mut longest, mut any) = (HashMap::new(), HashMap::new(), 0, None);
        for (at, host) in all.iter().enumerate() {
            match host.hostname().map(|name| (name, name.strip_prefix('*'))) {
                None => _ = any.get_or_insert(at),
                Some((_, Some(suffix))) => {
                    longest = longest.max(suffix.len());
                    wildcards.entry(suffix.into()).or_insert(at);
                }
                Some((name, None)) => _ = exact.entry(name.into()).or_insert(at),
            }
        }
        let patience = all.iter().map(Host::patience).max().unwrap_or(HANDSHAKE_TIMEOUT);
        Self { all, exact, wildcards, longest, any, patience }
    }

    /// The longest time that any host allows for a handshake, which counts until it is known which host is meant.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The host that serves this name, which is given in lower case and without a port.
    pub fn find(&self, host: &str) -> Option<&H> {
        self.all.get(self.position(host)?)
    }

    /// The position among [all](Self::iter) of the host that serves this name.
    pub fn position(&self, host: &str) -> Option<usize> {
        if !self.exact.is_empty()
            && let Some(at) = self.exact.get(host)
        {
            return Some(*at);
        }
        self.wildcard(host).or(self.any)
    }

    /// Finds a wildcard. A wildcard spans dots, but at least one label. The longest that fits has the most labels.
    fn wildcard(&self, host: &str) -> Option<usize> {
        if self.wildcards.is_empty() {
            return None;
        }
        let dots = host.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'.');
        let suffixes = dots.map(|(at, _)| &host[at..]).filter(|suffix| suffix.len() <= self.longest);
        suffixes.filter_map(|suffix| self.wildcards.get(suffix)).next().copied()
    }

    /// The host of this very name, which may be a wildcard; none: the host that serves any name.
    pub fn named(&self, hostname: Option<&str>) -> Option<&H> {
        let at = match hostname.map(|name| (name, name.strip_prefix('*'))) {
            None => self.any,
            Some((_, Some(suffix))) => self.wildcards.get(suffix).copied(),
            Some((name, None)) => self.exact.get(name).copied(),
        };
        self.all.get(at?)
    }

    /// All hosts, in the order in which they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, H> {
        self.all.iter()
    }
}

impl<H: Host> From<Vec<H>> for Hosts<H> {
    fn from(all: Vec<H>) -> Self {
        Self::new(all)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    struct Named(Option<String>);

    impl Host for Named {
        fn hostname(&self) -> Option<&str> {
            self.0.as_deref()
        }
    }

    /// The rule as the documentation has it: the first in the order of all that serves the host.
    fn by_a_walk(sorted: &[Option<String>], host: &str) -> Option<usize> {
        sorted.iter().position(|hostname| match hostname {
            None => true,
            Some(wanted) => match wanted.strip_prefix('*') {
                Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                None => wanted == host,
            },
        })
    }

    /// Sorts names: exact ones, then wildcards, of more labels first, then any host.
    fn sorted(mut names: Vec<Option<String>>) -> Vec<Option<String>> {
        let order = |name: &Option<String>| match name {
            None => (2, 0),
            Some(name) if name.starts_with('*') => (1, usize::MAX - name.matches('.').count()),
            Some(_) => (0, 0),
        };
        names.sort_by_key(order);
        names.dedup();
        names
    }

    #[test]
    fn wildcards_span_dots_but_not_nothing() {
        let hosts = Hosts::new(vec![Named(Some("*.example.com".to_owned())), Named(Some("a.example".to_owned()))]);
        assert_eq!(hosts.position("a.b.example.com"), Some(0));
        assert_eq!(hosts.position("a.example"), Some(1));
        for none in ["example.com", ".example.com", "b.a.example", "", ".", "com"] {
            assert_eq!(hosts.position(none), None, "{none}");
        }
    }

    #[test]
    fn a_look_up_finds_what_a_walk_finds() {
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..300 {
            let name = |random: &mut StdRng, most: usize| {
                let labels = random.random_range(1..=most);
                (0..labels)
                    .map(|_| ["a", "b", "cc", ""][random.random_range(0..if most > 4 { 4 } else { 3 })])
                    .collect::<Vec<_>>()
                    .join(".")
            };
            let names = (0..random.random_range(0..12)).map(|_| match random.random_range(0..8) {
                0 => None,
                1..=3 => Some(format!("*.{}", name(&mut random, 4))),
                _ => Some(name(&mut random, 4)),
            });
            let names = sorted(names.collect());
            let hosts = Hosts::new(names.iter().cloned().map(Named).collect());
            for _ in 0..200 {
                let host = name(&mut random, 6);
                assert_eq!(hosts.position(&host), by_a_walk(&names, &host), "{host:?} of {names:?}");
            }
        }
    }

    #[test]
    fn of_ten_thousand_hosts_one_is_found_without_a_walk() {
        let names = (0..10_000).map(|n| Some(if n % 2 == 0 { format!("h{n}.example") } else { format!("*.w{n}.example") }));
        let hosts = Hosts::new(names.map(Named).collect());
        assert_eq!(hosts.position("h9998.example"), Some(9_998));
        assert_eq!(hosts.position("a.b.w9999.example"), Some(9_999));
        assert_eq!(hosts.position("w9999.example"), None);
        // A name of more labels than any wildcard costs a comparison of lengths for each label, and no look-up.
        assert!(hosts.longest < 20 && hosts.position(&"a.".repeat(120)).is_none());
    }
}
