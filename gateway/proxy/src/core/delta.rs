//! What the next snapshot changes for a worker, which does work for that and nothing else.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use sluicegate_model::persistent::Change;
use sluicegate_model::pool::Pool;
use sluicegate_model::snapshot::{At, Listener, ServiceIndex, ServicePort, Snapshot};

/// Numbers of pools, generations or tables.
pub(crate) type Ids = HashSet<u64, FxBuildHasher>;

/// An endpoint, and the rules of TLS by which it is met ([`sluicegate_model::snapshot::EndpointTls::id`]): no connection is used that was met by others.
pub(crate) type Met = (SocketAddr, u64);

/// Endpoints, each with the rules of TLS by which it is met.
pub(crate) type Mets = HashSet<Met, FxBuildHasher>;

/// What differs between the snapshot that a worker serves and the one that it takes. It may have missed some in between.
pub(crate) struct Delta<'a> {
    pub(crate) services: Vec<Change<'a, ServiceIndex, ServicePort>>,
    pub(crate) listeners: Vec<Change<'a, At, Listener>>,
}

impl<'a> Delta<'a> {
    pub(crate) fn between(last: &'a Snapshot, next: &'a Snapshot) -> Self {
        Self { services: next.services.changes(&last.services), listeners: next.listeners.changes(&last.listeners) }
    }

    /// The service ports that have changed or are gone, as they were before.
    pub(crate) fn before(&self) -> impl Iterator<Item = &'a Arc<ServicePort>> {
        self.services.iter().filter_map(|change| change.before)
    }

    /// The service ports that have changed or are new, as they are now.
    pub(crate) fn after(&self) -> impl Iterator<Item = &'a Arc<ServicePort>> {
        self.services.iter().filter_map(|change| change.after)
    }

    /// The pools that no service port has any more.
    pub(crate) fn pools_gone(&self) -> Ids {
        let mut gone: Ids = self.before().flat_map(|service| [service.internal.id, service.external.id]).collect();
        if !gone.is_empty() {
            self.after().flat_map(|service| [service.internal.id, service.external.id]).for_each(|id| _ = gone.remove(&id));
        }
        gone
    }

    /// The endpoints that a service port had and that no changed one has. A service port that has not changed may still have one of them, and then has to
    /// connect to it anew: to find that out would mean to look at all.
    pub(crate) fn endpoints_gone(&self) -> Mets {
        let mut gone = Mets::default();
        for change in &self.services {
            let Some(before) = change.before else { continue };
            let tls = before.tls.id();
            let after = change.after.filter(|after| after.tls.id() == tls);
            let stays =
                |pool: &Arc<Pool>| after.is_some_and(|after| Arc::ptr_eq(pool, &after.internal) || Arc::ptr_eq(pool, &after.external));
            for pool in pools(before).filter(|pool| !stays(pool)) {
                let found = |address: &SocketAddr| after.is_some_and(|after| pools(after).any(|pool| pool.find(*address).is_some()));
                gone.extend(pool.endpoints.iter().map(|e| e.address).filter(|address| !found(address)).map(|address| (address, tls)));
            }
        }
        if !gone.is_empty() && self.services.len() > 1 {
            self.met().for_each(|met| _ = gone.remove(&met));
        }
        gone
    }

    /// The endpoints of all service ports that have changed or are new.
    pub(crate) fn met(&self) -> impl Iterator<Item = Met> {
        self.after().flat_map(|service| pools(service).flat_map(move |pool| pool.endpoints.iter().map(|e| (e.address, service.tls.id()))))
    }

    /// The addresses at which HTTP requests were taken, and no longer are.
    pub(crate) fn closed_to_http(&self) -> HashSet<SocketAddr, FxBuildHasher> {
        let serves = |listener: Option<&Arc<Listener>>| listener.is_some_and(|l| l.front.serves_http());
        self.listeners.iter().filter(|change| serves(change.before) && !serves(change.after)).map(|change| change.key.1).collect()
    }
}

/// The pools of a service port, each once.
fn pools(service: &ServicePort) -> impl Iterator<Item = &Arc<Pool>> {
    let external = (!Arc::ptr_eq(&service.external, &service.internal)).then_some(&service.external);
    std::iter::once(&service.internal).chain(external)
}

/// Endpoints that have gone lately. An exchange that ran when its endpoint went gives its connection back afterwards. So what is kept of endpoints is looked
/// over at the end of this time and of the next one, too.
#[derive(Default)]
pub(crate) struct Leaving([Mets; 2]);

impl Leaving {
    /// Notes that some have gone, and that others may have come back.
    pub(crate) fn note(&mut self, delta: &Delta<'_>, gone: &Mets) {
        if self.0.iter().any(|mets| !mets.is_empty()) {
            for met in delta.met() {
                self.0.iter_mut().for_each(|mets| _ = mets.remove(&met));
            }
        }
        self.0[0].extend(gone);
    }

    /// Ends the time. Returns all that have gone in it and in the one before, which is forgotten.
    pub(crate) fn turn(&mut self) -> Mets {
        let before = std::mem::take(&mut self.0[1]);
        self.0.swap(0, 1);
        self.0[1].iter().copied().chain(before).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::core::decider::tests::{changed, service};

    fn addresses(mets: &Mets) -> Vec<u16> {
        let mut ports: Vec<u16> = mets.iter().map(|(address, _)| address.port()).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn of_ten_thousand_services_one_changed_endpoint_is_one_change() {
        let last = Snapshot::of(1, [], (0..10_000).map(|_| Arc::new(service(&[1, 2]))));
        let next = changed(&last, 4_711, &[2, 3]);
        let delta = Delta::between(&last, &next);
        assert_eq!((delta.services.len(), delta.listeners.len()), (1, 0));
        assert_eq!(addresses(&delta.endpoints_gone()), [1]);
        assert_eq!(delta.pools_gone().len(), 0, "the pool is the same one with other endpoints");
        assert!(Delta::between(&next, &next.clone()).services.is_empty());
    }

    #[test]
    fn a_worker_that_missed_snapshots_sees_what_differs_in_the_end() {
        let first = Snapshot::of(1, [], (0..300).map(|_| Arc::new(service(&[1]))));
        let second = changed(&first, 7, &[2]);
        let third = changed(&second, 8, &[3]);
        let back = changed(&third, 7, &[1]);
        let delta = Delta::between(&first, &back);
        assert_eq!(delta.services.iter().map(|c| c.key).collect::<Vec<_>>(), [7, 8]);
        assert!(addresses(&delta.endpoints_gone()).is_empty(), "1 is still, or again, in one of them");
        assert_eq!(addresses(&Delta::between(&second, &third).endpoints_gone()), [1]);
    }

    #[test]
    fn another_service_port_under_the_index_of_one_that_is_gone_is_a_change() {
        let last = Snapshot::of(1, [], [Arc::new(service(&[1]))]);
        let next = Snapshot::of(2, [], [Arc::new(service(&[2]))]);
        let delta = Delta::between(&last, &next);
        assert_eq!(addresses(&delta.endpoints_gone()), [1]);
        assert_eq!(delta.pools_gone(), Ids::from_iter([last.services.get(&0).unwrap().internal.id]));
    }

    #[test]
    fn what_went_is_looked_for_twice_unless_it_comes_back() {
        let all = Snapshot::of(1, [], [Arc::new(service(&[1, 2]))]);
        let none = changed(&all, 0, &[]);
        let mut leaving = Leaving::default();
        let going = Delta::between(&all, &none);
        leaving.note(&going, &going.endpoints_gone());
        let one = changed(&none, 0, &[1]);
        let coming = Delta::between(&none, &one);
        leaving.note(&coming, &coming.endpoints_gone());
        assert_eq!(addresses(&leaving.turn()), [2]);
        assert_eq!(addresses(&leaving.turn()), [2]);
        assert!(leaving.turn().is_empty());
    }
}
