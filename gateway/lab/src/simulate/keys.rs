//! Which keys move when a pool changes, which is what hashing is for. An instance of its own is asked, with endpoints that are idle, so that the question changes
//! nothing in the simulation.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate_host::balancer::{Instance, WasmBalancer};
use sluicegate_model::plugin::{Balancer as _, PickContext, hash_bytes};
use sluicegate_model::pool::{Endpoint, Pool};

use super::outcome::Moved;
use crate::generate::{endpoint, pool};

const KEYS: usize = 1_000;

/// The hash of a key, as the gateway hashes a header's value.
pub(super) fn hash(key: usize) -> u64 {
    hash_bytes(format!("key-{key}").as_bytes())
}

pub(super) struct Probe {
    instance: Instance,
    config: Arc<str>,
    places: Vec<Option<SocketAddr>>,
    moved: Moved,
}

impl Probe {
    /// None if the plugin does not go by the hash: the same key goes to several endpoints, or all keys go to the same one.
    pub(super) fn new(generation: &WasmBalancer, config: &Arc<str>, seed: u64, first: &Pool) -> Option<Self> {
        let moved = Moved { changes: 0, each_change: 0.0, needlessly: 0.0 };
        let mut probe = Self { instance: generation.seeded(seed), config: config.clone(), places: Vec::new(), moved };
        probe.places = probe.places(first, 0..KEYS);
        // They are asked once more in reverse, as a balancer that takes turns would come to the same endpoints in the same order.
        let mut again = probe.places(first, (0..KEYS).rev());
        again.reverse();
        let distinct: BTreeSet<_> = probe.places.iter().flatten().collect();
        (distinct.len() > 1 && again == probe.places).then_some(probe)
    }

    fn places(&mut self, shape: &Pool, keys: impl Iterator<Item = usize>) -> Vec<Option<SocketAddr>> {
        let idle = |e: &Endpoint| {
            let mut made = endpoint(e.address, e.weight);
            made.zone.clone_from(&e.zone);
            made
        };
        let pool = pool(shape.id, shape.endpoints.iter().map(idle).collect());
        let place = |key| {
            let context = PickContext { hash: Some(hash(key)), attempt: 0, random: None };
            let picked = self.instance.pick(&pool, &self.config, context).ok().flatten();
            picked.map(|index| pool.endpoints[index].address)
        };
        keys.map(place).collect()
    }

    /// Notes that the pool has changed.
    pub(super) fn changed(&mut self, now: &Pool) {
        let places = self.places(now, 0..KEYS);
        let stays = |place: &SocketAddr| now.endpoints.binary_search_by_key(place, |e| e.address).is_ok();
        let moved = self.places.iter().zip(&places).filter(|(old, new)| old != new);
        let (mut all, mut needlessly) = (0, 0);
        // The endpoints that had a key before: each that has been there for long has some of a thousand.
        let known: BTreeSet<_> = self.places.iter().flatten().collect();
        for (old, new) in moved {
            all += 1;
            // The key moved from an endpoint that is still there to one that was there before, without need.
            if old.as_ref().is_some_and(stays) && new.as_ref().is_some_and(|new| known.contains(new)) {
                needlessly += 1;
            }
        }
        self.moved.changes += 1;
        self.moved.each_change += f64::from(all) / KEYS as f64;
        self.moved.needlessly += f64::from(needlessly) / KEYS as f64;
        self.places = places;
    }

    pub(super) fn moved(mut self) -> Moved {
        let changes = self.moved.changes.max(1) as f64;
        self.moved.each_change /= changes;
        self.moved.needlessly /= changes;
        self.moved
    }
}
