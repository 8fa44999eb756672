//! The flows of a worker: found by their key, bounded in number, forgotten when they are idle. The table knows no sockets and no clock: times are passed in.
//!
//! A client's address costs its sender nothing, so a flood of them must not push out flows that live. As Linux' connection tracking does
//! (`early_drop` spares what is "assured"), a flow that has shown two-way traffic goes on probation no more: when the table is full, the least
//! recently used flow on probation goes, and an assured one only when there is no other (segmented LRU: Karedla, Love and Wherry, "Caching
//! strategies to improve disk system performance", IEEE Computer 27(3), 1994). All is O(1) for a datagram.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Stands for no slot.
const NONE: u32 = u32::MAX;

/// One of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Probation,
    Assured,
}

struct Slot<K, V> {
    key: K,
    value: V,
    last: Instant,
    idle: Duration,
    class: Class,
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
}

/// The table of flows, as the module describes it.
pub(super) struct Table<K, V> {
    /// The slots of flows, by keyed SipHash: with a weaker hash, a flood could choose addresses that collide.
    index: HashMap<K, u32>,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<u32>,
    lists: [List; 2],
    limit: usize,
}

impl<K: Copy + Eq + Hash, V> Default for Table<K, V> {
    fn default() -> Self {
        Self::new(1)
    }
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, NONE as usize - 1);
        Self { index: HashMap::new(), slots: Vec::new(), free: Vec::new(), lists: [List { newest: NONE, oldest: NONE }; 2], limit }
    }

    /// Limits the number of flows from now on. Those beyond it go when they expire, or others want their place.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, NONE as usize - 1);
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether another flow would push one out.
    pub(super) fn is_full(&self) -> bool {
        self.index.len() >= self.limit
    }

    /// Finds a flow, and notes that it is used now.
    pub(super) fn touch(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        let class = self.slot(at)?.class;
        self.unlink(at);
        self.link(at, class);
        let slot = self.slot_mut(at)?;
        slot.last = now;
        Some(&mut slot.value)
    }

    /// Notes that the flow has shown two-way traffic.
    pub(super) fn assure(&mut self, key: &K) {
        if let Some(at) = self.index.get(key).copied()
            && self.slot(at).is_some_and(|s| s.class == Class::Probation)
        {
            self.unlink(at);
            self.link(at, Class::Assured);
        }
    }

    /// Adds a flow, on probation, or replaces one. Returns the flow that had to make room for it.
    pub(super) fn insert(&mut self, key: K, value: V, idle: Duration, now: Instant) -> Option<V> {
        let replaced = self.remove(&key);
        let evicted = replaced.or_else(|| if self.is_full() { self.evict() } else { None });
        let slot = Some(Slot { key, value, last: now, idle, class: Class::Probation, newer: NONE, older: NONE });
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                // It is below the limit, which fits.
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(key, at);
        self.link(at, Class::Probation);
        evicted
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        self.unlink(at);
        self.free.push(at);
        self.slots[at as usize].take().map(|slot| slot.value)
    }

    /// Makes room among the flows of one kind: if the least recently used flow on probation is of it, that flow goes.
    pub(super) fn evict_unproven(&mut self, wanted: impl Fn(&K) -> bool) -> Option<V> {
        let key = self.slot(self.lists[Class::Probation as usize].oldest)?.key;
        if wanted(&key) { self.remove(&key) } else { None }
    }

    /// Makes room: the least recently used flow on probation goes; if there is none, the least recently used one.
    pub(super) fn evict(&mut self) -> Option<V> {
        let at = self.lists.iter().map(|list| list.oldest).find(|at| *at != NONE)?;
        let key = self.slot(at)?.key;
        self.remove(&key)
    }

    /// Takes out the flows whose idle time is over. It looks at all of them once a second, some nanoseconds each.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<V> {
        self.extract(|_, slot| now.saturating_duration_since(slot.last) >= slot.idle)
    }

    /// Takes out the flows whose key is wanted.
    pub(super) fn extract_by_key(&mut self, wanted: impl Fn(&K) -> bool) -> Vec<V> {
        self.extract(|key, _| wanted(key))
    }

    fn extract(&mut self, wanted: impl Fn(&K, &Slot<K, V>) -> bool) -> Vec<V> {
        let keys: Vec<K> = self.slots.iter().flatten().filter(|slot| wanted(&slot.key, slot)).map(|slot| slot.key).collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// All flows, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().flatten().map(|slot| &slot.value)
    }

    fn slot(&self, at: u32) -> Option<&Slot<K, V>> {
        self.slots.get(at as usize)?.as_ref()
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slot(at) else { return };
        let (newer, older, class) = (slot.newer, slot.older, slot.class as usize);
        match self.slot_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.lists[class].newest = older,
        }
        match self.slot_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.lists[class].oldest = newer,
        }
    }

    /// Adds a slot as the newest of its list.
    fn link(&mut self, at: u32, class: Class) {
        let older = std::mem::replace(&mut self.lists[class as usize].newest, at);
        match self.slot_mut(older) {
            Some(slot) => slot.newer = at,
            None => self.lists[class as usize].oldest = at,
        }
        if let Some(slot) = self.slot_mut(at) {
            (slot.class, slot.newer, slot.older) = (class, NONE, older);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn filled(limit: usize, keys: impl IntoIterator<Item = u32>) -> (Table<u32, u32>, Instant) {
        let (mut table, now) = (Table::new(limit), Instant::now());
        for key in keys {
            assert_eq!(table.insert(key, key, IDLE, now), None);
        }
        (table, now)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let (mut table, now) = filled(3, [1, 2, 3]);
        assert!(table.touch(&1, now).is_some());
        assert_eq!(table.insert(4, 4, IDLE, now), Some(2));
        assert_eq!(table.insert(5, 5, IDLE, now), Some(3));
        assert_eq!(table.insert(6, 6, IDLE, now), Some(1));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_flood_pushes_out_only_its_own_while_assured_flows_go_on() {
        let (mut table, now) = filled(8, 0..4);
        (0..4).for_each(|key| table.assure(&key));
        for key in 100..100_000 {
            assert!(table.insert(key, key, IDLE, now).is_none_or(|evicted| evicted >= 100));
            assert!(table.len() <= 8 && table.slots.len() <= 8);
        }
        assert!((0..4).all(|key| table.touch(&key, now).is_some()));
    }

    #[test]
    fn a_table_of_assured_flows_still_takes_new_ones() {
        let (mut table, now) = filled(2, [1, 2]);
        table.assure(&2);
        table.assure(&1);
        assert_eq!(table.insert(3, 3, IDLE, now), Some(2));
        assert_eq!(table.insert(4, 4, IDLE, now), Some(3));
        assert!(table.touch(&1, now).is_some());
    }

    #[test]
    fn only_flows_on_probation_make_room_for_others_of_their_kind() {
        let (mut table, now) = filled(9, [1, 2, 3]);
        table.assure(&1);
        assert_eq!(table.evict_unproven(|key| *key > 2), None, "another kind's is older");
        assert_eq!(table.evict_unproven(|key| *key < 3), Some(2));
        assert_eq!(table.evict_unproven(|key| *key == 3), Some(3));
        assert_eq!((table.evict_unproven(|_| true), table.len()), (None, 1), "what has shown two-way traffic stays");
        assert!(table.touch(&1, now).is_some());
    }

    #[test]
    fn each_flow_expires_by_its_own_time() {
        let (mut table, begun) = (Table::new(9), Instant::now());
        table.insert(1, "long", Duration::from_secs(60), begun);
        table.insert(2, "short", Duration::from_secs(5), begun);
        table.insert(3, "touched", Duration::from_secs(5), begun);
        let after = |seconds| begun + Duration::from_secs(seconds);
        table.touch(&3, after(4));
        assert_eq!(table.expire(after(4)), [] as [&str; 0]);
        assert_eq!(table.expire(after(5)), ["short"]);
        assert_eq!(table.expire(after(9)), ["touched"]);
        assert_eq!(table.expire(after(60)), ["long"]);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_replaced_flow_is_handed_back_and_slots_are_used_again() {
        let (mut table, now) = filled(4, [1, 2]);
        assert_eq!(table.insert(1, 10, IDLE, now), Some(1));
        assert_eq!(table.remove(&2), Some(2));
        assert_eq!(table.remove(&2), None);
        assert_eq!(table.extract_by_key(|key| *key == 1), [10]);
        for key in 3..7 {
            table.insert(key, key, IDLE, now);
        }
        assert_eq!((table.len(), table.slots.len()), (4, 4));
        assert_eq!(table.values().sum::<u32>(), 18);
    }

    /// Compares the table with a model: whatever is done, the lists hold each flow once, in the order of use.
    #[test]
    fn the_lists_stay_whole() {
        let (mut table, now) = (Table::new(16), Instant::now());
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 33) as u32 % 40;
            match (random >> 60) % 4 {
                0 => drop(table.insert(key, key, IDLE, now)),
                1 => drop(table.touch(&key, now)),
                2 => table.assure(&key),
                _ => drop(table.remove(&key)),
            }
            let mut linked = 0;
            for class in 0..2 {
                let (mut at, mut newer) = (table.lists[class].newest, NONE);
                while let Some(slot) = table.slot(at) {
                    assert_eq!((slot.class as usize, slot.newer, table.index.get(&slot.key)), (class, newer, Some(&at)));
                    linked += 1;
                    (newer, at) = (at, slot.older);
                }
                assert_eq!(table.lists[class].oldest, newer);
            }
            assert_eq!(linked, table.len());
        }
    }
}
