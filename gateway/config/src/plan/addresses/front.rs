//! Listeners at one address, joined: they differ in their host names.

use std::cmp::Reverse;

use crate::plan::PlannedFront;

/// What tells listeners at one address apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The host name of plain HTTP.
    Http,
    /// The server name of TLS.
    Tls,
    /// Nothing: the address is one listener's.
    Nothing,
}

impl PlannedFront {
    pub(super) fn sharing(&self) -> Sharing {
        match self {
            Self::Http(_) => Sharing::Http,
            Self::Tls(_) => Sharing::Tls,
            Self::Tcp(_) | Self::Udp(_) => Sharing::Nothing,
        }
    }

    /// Its host names; none of what has no host names.
    pub(super) fn hostnames(&self) -> Vec<Option<&str>> {
        match self {
            Self::Http(hosts) => hosts.iter().map(|(hostname, _)| hostname.as_deref()).collect(),
            Self::Tls(hosts) => hosts.iter().map(|host| host.hostname.as_deref()).collect(),
            Self::Tcp(_) | Self::Udp(_) => Vec::new(),
        }
    }

    /// Takes in another listener, which has other host names.
    pub(super) fn join(&mut self, other: &Self) {
        match (self, other) {
            (Self::Http(hosts), Self::Http(more)) => hosts.extend_from_slice(more),
            (Self::Tls(hosts), Self::Tls(more)) => hosts.extend_from_slice(more),
            _ => {}
        }
    }

    /// The order in which host names are looked at.
    pub(super) fn sort(&mut self) {
        match self {
            Self::Http(hosts) => hosts.sort_by_cached_key(|(hostname, _)| host_order(hostname.as_deref())),
            Self::Tls(hosts) => hosts.sort_by_cached_key(|host| host_order(host.hostname.as_deref())),
            Self::Tcp(_) | Self::Udp(_) => {}
        }
    }
}

/// Exact names, then wildcards with more labels first, then the empty one.
fn host_order(host: Option<&str>) -> (u8, Reverse<usize>, String) {
    match host {
        None => (2, Reverse(0), String::new()),
        Some(h) if h.starts_with("*.") => (1, Reverse(h.split('.').count()), h.to_owned()),
        Some(h) => (0, Reverse(0), h.to_owned()),
    }
}
