//! What the process's file descriptors are used for: listeners first, then connections and flows.
//!
//! A listener takes one descriptor for each worker, or one in all if those would be more than half of all. At least a quarter is left for traffic: a listener
//! that would need it is not bound, and that is told.

use crate::listener::Spread;

/// Descriptors for files, the admin API, event loops and health checks.
const RESERVED: usize = 128;

/// The largest number of UDP flows, unless something else is configured.
const MOST_FLOWS: usize = 65_536;

/// The number of descriptors that the process may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors(usize);

/// How much traffic there may be, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many client connections may be open at a time.
    pub(crate) connections: usize,
    /// How many UDP flows there may be at a time.
    pub(crate) flows: usize,
}

impl Descriptors {
    /// Raises the soft limit to the hard one.
    pub(crate) fn raised() -> Self {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if limit.current < limit.maximum {
            let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
            match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
                Ok(()) => limit.current = limit.maximum,
                Err(error) => tracing::warn!(%error, limit = limit.current, "the limit of file descriptors cannot be raised"),
            }
        }
        Self(limit.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    /// How many sockets each of so many listeners gets.
    pub(crate) fn spread(self, listeners: usize, workers: usize) -> Spread {
        if listeners.saturating_mul(workers) <= self.0 / 2 { Spread::Workers } else { Spread::Single }
    }

    /// Whether listeners may have so many descriptors.
    pub(crate) fn suffice(self, listening: usize) -> bool {
        listening <= self.0 / 4 * 3
    }

    /// What is left if listeners have so many: three quarters of it for connections, each of which may need another one to an endpoint, and a quarter for flows,
    /// which need only that one.
    pub(crate) fn room(self, listening: usize) -> Room {
        let quarter = self.0.saturating_sub(RESERVED).saturating_sub(listening).max(16) / 4;
        Room { connections: quarter / 2 * 3, flows: quarter.min(MOST_FLOWS) }
    }

    /// The number of descriptors that the process may have.
    pub(crate) fn limit(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_a_socket_where_one_for_each_worker_would_take_more_than_half() {
        let descriptors = Descriptors(20_000);
        assert_eq!(descriptors.spread(5_000, 2), Spread::Workers);
        assert_eq!(descriptors.spread(5_001, 2), Spread::Single);
        assert_eq!(descriptors.spread(5_000, 16), Spread::Single);
        assert!(descriptors.suffice(15_000) && !descriptors.suffice(15_001), "a quarter is for traffic");
        assert_eq!(descriptors.room(10_000), Room { connections: 3_702, flows: 2_468 });
        assert_eq!(descriptors.room(30_000), Room { connections: 6, flows: 4 }, "never none");
        assert_eq!(Descriptors(usize::MAX).room(0).flows, MOST_FLOWS);
    }
}
