//! Which generations and tables the served snapshot refers to, and which pools nobody can ask for any more.

use std::collections::HashMap;
use std::rc::{Rc, Weak};

use rustc_hash::FxBuildHasher;
use sluicegate_model::snapshot::{Listener, ServicePort, Target};

use crate::core::View;
use crate::core::delta::{Delta, Ids};

/// How many service ports or targets refer to something, by its number. What nothing refers to is not in it.
#[derive(Default)]
pub(super) struct Counts(HashMap<u64, usize, FxBuildHasher>);

impl Counts {
    fn up(&mut self, id: u64) {
        *self.0.entry(id).or_default() += 1;
    }

    fn down(&mut self, id: u64) {
        if let Some(count) = self.0.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&id);
            }
        }
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }
}

/// What the served snapshot refers to. It is kept up to date by what changes.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) balancers: Counts,
    pub(super) routers: Counts,
    /// The tables of routers.
    pub(super) tables: Counts,
}

impl Uses {
    /// Counts what a snapshot changes.
    pub(super) fn note(&mut self, delta: &Delta<'_>) {
        // What comes is counted before what goes, so that what stays is never at 0 in between.
        delta.after().flat_map(|service| balancers(service)).for_each(|id| self.balancers.up(id));
        delta.before().flat_map(|service| balancers(service)).for_each(|id| self.balancers.down(id));
        for (router, table) in delta.listeners.iter().filter_map(|change| change.after).flat_map(|listener| routers(listener)) {
            self.routers.up(router);
            self.tables.up(table);
        }
        for (router, table) in delta.listeners.iter().filter_map(|change| change.before).flat_map(|listener| routers(listener)) {
            self.routers.down(router);
            self.tables.down(table);
        }
    }
}

fn balancers(service: &ServicePort) -> impl Iterator<Item = u64> {
    let on_trial = service.trial.as_ref().map(|on| &on.generation);
    service.balancers.iter().chain(on_trial).map(|generation| generation.generation().id)
}

/// The generations and tables of a listener's routers.
fn routers(listener: &Listener) -> impl Iterator<Item = (u64, u64)> {
    let bindings = listener.front.targets().into_iter().filter_map(|t| if let Target::Router(binding) = t { Some(binding) } else { None });
    bindings.flat_map(|binding| &binding.ladder).map(|rung| (rung.generation.generation().id, rung.table.id))
}

/// Pools that are gone. Exchanges that began on earlier snapshots may still ask for them, and an instance would open them once more. So they are freed again
/// when the last of those exchanges has ended.
#[derive(Default)]
pub(super) struct Retired(Vec<(Weak<View>, Ids)>);

impl Retired {
    /// Notes that a view was followed by one in which these pools are gone, and others may be back.
    pub(super) fn note(&mut self, view: &Rc<View>, gone: &Ids, delta: &Delta<'_>) {
        for (_, pools) in self.0.iter_mut().filter(|(_, pools)| !pools.is_empty()) {
            delta.after().flat_map(|service| [service.internal.id, service.external.id]).for_each(|id| _ = pools.remove(&id));
        }
        self.0.push((Rc::downgrade(view), gone.clone()));
    }

    /// The pools that nobody can ask for any more; none: no view was dropped. A view's pools are kept with the view before it, as long as anybody has that.
    pub(super) fn settle(&mut self) -> Option<Ids> {
        let (mut settled, mut held) = (None, Vec::<(Weak<View>, Ids)>::new());
        for (view, pools) in self.0.drain(..) {
            if view.strong_count() > 0 {
                held.push((view, pools));
            } else if let Some((_, earlier)) = held.last_mut() {
                earlier.extend(pools);
            } else {
                settled.get_or_insert_with(Ids::default).extend(pools);
            }
        }
        self.0 = held;
        settled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate_model::snapshot::Snapshot;

    use super::*;
    use crate::core::decider::tests::service;

    fn view(snapshot: &Arc<Snapshot>) -> Rc<View> {
        Rc::new(View { snapshot: snapshot.clone() })
    }

    #[test]
    fn a_pool_is_settled_when_no_view_that_had_it_is_held() {
        let (all, none) = (Arc::new(Snapshot::of(1, [], [Arc::new(service(&[1]))])), Arc::new(Snapshot::of(2, [], [])));
        let gone = Delta::between(&all, &none);
        let nothing = Delta::between(&none, &none);
        let mut retired = Retired::default();
        let (first, second, third) = (view(&all), view(&all), view(&none));
        retired.note(&first, &Ids::default(), &nothing);
        retired.note(&second, &gone.pools_gone(), &gone);
        retired.note(&third, &Ids::default(), &nothing);
        drop((second, third));
        assert_eq!(retired.settle(), None, "the first one still has it");
        assert_eq!(retired.0.len(), 1, "what is held by nobody is not listed");
        drop(first);
        assert_eq!(retired.settle(), Some(gone.pools_gone()));
        assert!(retired.settle().is_none() && retired.0.is_empty());
    }

    #[test]
    fn a_generation_is_in_use_as_long_as_one_service_port_of_many_has_it() {
        let (one, other) = (Arc::new(service(&[1])), Arc::new(service(&[2])));
        let other = Arc::new(ServicePort { balancers: one.balancers.clone(), ..ServicePort::clone(&other) });
        let id = one.balancers[0].generation().id;
        let (mut uses, none) = (Uses::default(), Snapshot::default());
        let both = Snapshot::of(1, [], [one.clone(), other.clone()]);
        uses.note(&Delta::between(&none, &both));
        let moved = Snapshot::of(2, [], [other]);
        uses.note(&Delta::between(&both, &moved));
        assert!(uses.balancers.contains(id), "it is at another index now");
        uses.note(&Delta::between(&moved, &none));
        assert!(!uses.balancers.contains(id));
    }
}
