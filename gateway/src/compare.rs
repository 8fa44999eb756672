//! Two configurations, compared by what becomes of requests: [`effect`] says what a rule or an answer comes to, [`decide`] asks one configuration what becomes of a
//! recorded request, [`tally`] counts what differs, and [`play`] plays a recording to both. [`report`] and [`page`] show it. `sluicegate diff` is made of it, and
//! so is the shadow of a configuration in a running gateway.

pub(crate) mod decide;
pub(crate) mod effect;
pub(crate) mod page;
pub(crate) mod play;
pub(crate) mod report;
pub(crate) mod tally;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use sluicegate_decide::ladder::Routers;
use sluicegate_model::plugin::{PluginError, Router, RouterGeneration};
use sluicegate_model::snapshot::{Listener, RouterRung, Snapshot};

/// A listener, and the snapshot that has it.
pub(crate) type Of<'s> = (&'s Snapshot, &'s Listener);

/// Pairs the listeners of both: those with the same address are the same, and of the others those with the same name.
pub(crate) fn pairs<'s>(old: &'s Snapshot, new: &'s Snapshot) -> Vec<(Option<Of<'s>>, Option<Of<'s>>)> {
    let of = |snapshot: &'s Snapshot| -> Vec<&'s Listener> { snapshot.listeners.sorted().into_iter().map(|(_, one)| &**one).collect() };
    let (gone, mut come): (Vec<_>, Vec<_>) = (of(old), of(new));
    let (mut pairs, mut left) = (Vec::new(), Vec::new());
    for one in gone {
        match come.iter().position(|other| other.at() == one.at()) {
            Some(at) => pairs.push((Some((old, one)), Some((new, come.remove(at))))),
            None => left.push(one),
        }
    }
    for one in left {
        let same = come.iter().position(|other| other.name == one.name && other.front.protocol() == one.front.protocol());
        pairs.push((Some((old, one)), same.map(|at| (new, come.remove(at)))));
    }
    pairs.extend(come.into_iter().map(|one| (None, Some((new, one)))));
    pairs
}

/// Instances of routers, each made once.
#[derive(Default)]
pub(crate) struct Instances(HashMap<usize, Box<dyn Router>>);

impl Routers for Instances {
    fn router(&mut self, generation: &Arc<dyn RouterGeneration>) -> Result<&mut dyn Router, PluginError> {
        match self.0.entry(Arc::as_ptr(generation).cast::<()>() as usize) {
            Entry::Occupied(known) => Ok(known.into_mut().as_mut()),
            Entry::Vacant(place) => Ok(place.insert(generation.instantiate()?).as_mut()),
        }
    }

    /// If a router fails, the answer tells it.
    fn failed(&mut self, _: &RouterRung, _: &PluginError) {}
}
