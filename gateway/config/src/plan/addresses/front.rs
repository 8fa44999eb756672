//! Listeners at one address, joined: they differ in their host names.

use std::cmp::Reverse;

use sluicegate_model::snapshot::Front;

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

impl Sharing {
    pub(super) fn of(front: &PlannedFront) -> Self {
        match front {
            Front::Http(_) => Self::Http,
            Front::Tls(_) => Self::Tls,
            Front::Tcp(_) | Front::Udp(_) => Self::Nothing,
        }
    }
}

/// The host names of a listener; none of one that has no host names.
pub(super) fn hostnames(front: &PlannedFront) -> Vec<Option<&str>> {
    match front {
        Front::Http(hosts) => hosts.iter().map(|host| host.hostname.as_deref()).collect(),
        Front::Tls(hosts) => hosts.iter().map(|host| host.hostname.as_deref()).collect(),
        Front::Tcp(_) | Front::Udp(_) => Vec::new(),
    }
}

/// Takes in another listener, which has other host names.
pub(super) fn join(front: &mut PlannedFront, other: &PlannedFront) {
    match (front, other) {
        (Front::Http(hosts), Front::Http(more)) => hosts.extend_from_slice(more),
        (Front::Tls(hosts), Front::Tls(more)) => hosts.extend_from_slice(more),
        _ => {}
    }
}

/// Brings host names into the order in which they are looked at.
pub(super) fn sort(front: &mut PlannedFront) {
    match front {
        Front::Http(hosts) => hosts.sort_by_cached_key(|host| host_order(host.hostname.as_deref())),
        Front::Tls(hosts) => hosts.sort_by_cached_key(|host| host_order(host.hostname.as_deref())),
        Front::Tcp(_) | Front::Udp(_) => {}
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
