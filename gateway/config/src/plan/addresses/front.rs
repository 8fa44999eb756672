//! Listeners that share one address and differ in their host names are joined in one.

use std::cmp::Reverse;

use sluicegate_model::snapshot::Front;

use crate::plan::PlannedFront;

/// What tells listeners at one address apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Listeners are told apart by the host name of plain HTTP requests.
    Http,
    /// Listeners are told apart by the server name of TLS.
    Tls,
    /// Listeners cannot be told apart: the address belongs to one of them.
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

/// The host names of a listener; none of one that has none.
pub(super) fn hostnames(front: &PlannedFront) -> impl Iterator<Item = Option<&str>> {
    let (http, tls) = match front {
        Front::Http(hosts) => (Some(hosts), None),
        Front::Tls(hosts) => (None, Some(hosts)),
        Front::Tcp(_) | Front::Udp(_) => (None, None),
    };
    let http = http.into_iter().flatten().map(|host| host.hostname.as_deref());
    http.chain(tls.into_iter().flatten().map(|host| host.hostname.as_deref()))
}

/// Adds another listener, which has other host names, to this one.
pub(super) fn join(front: &mut PlannedFront, other: &PlannedFront) {
    match (front, other) {
        (Front::Http(hosts), Front::Http(more)) => hosts.extend_from_slice(more),
        (Front::Tls(hosts), Front::Tls(more)) => hosts.extend_from_slice(more),
        _ => {}
    }
}

/// Sorts host names into the order in which they are compared with a request's.
pub(super) fn sort(front: &mut PlannedFront) {
    match front {
        Front::Http(hosts) => hosts.sort_by(|a, b| host_order(a.hostname.as_deref()).cmp(&host_order(b.hostname.as_deref()))),
        Front::Tls(hosts) => hosts.sort_by(|a, b| host_order(a.hostname.as_deref()).cmp(&host_order(b.hostname.as_deref()))),
        Front::Tcp(_) | Front::Udp(_) => {}
    }
}

/// Exact names, then wildcards with more labels first, then the empty one.
fn host_order(host: Option<&str>) -> (u8, Reverse<usize>, &str) {
    match host {
        None => (2, Reverse(0), ""),
        Some(h) if h.starts_with("*.") => (1, Reverse(h.split('.').count()), h),
        Some(h) => (0, Reverse(0), h),
    }
}
