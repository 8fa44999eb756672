//! The look-up table, which says which endpoint holds each slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sluicegate_sdk::Endpoint;

/// The slots, each with the index of an endpoint. There are none for an empty pool.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<u32>,
    /// How many different endpoints hold slots.
    holders: u32,
}

/// The permutation of the slots of one endpoint: `offset + j * skip` modulo the size, which visits each slot once, as the size is prime.
struct Claimant {
    index: u32,
    weight: u64,
    slot: u64,
    skip: u64,
}

/// The sizes that are used instead of one that is too small for a pool. They are prime.
const LARGER: [u32; 4] = [16_411, 65_537, 262_147, 1_048_573];

/// This size, or the first larger one in which each endpoint may have two slots: in a table with fewer slots than endpoints some would get nothing.
fn fitting(size: u32, endpoints: usize) -> u32 {
    let fits = |size: &u32| *size as usize >= endpoints * 2;
    std::iter::once(size).chain(LARGER.into_iter().filter(|larger| *larger > size)).find(fits).unwrap_or(LARGER[LARGER.len() - 1].max(size))
}

impl Table {
    /// Fills a table of this prime size, or of a larger one where the pool is too large for it. The claimants take turns in the order of their addresses, so
    /// that the order in which the pool lists them does not matter: two gateways with the same endpoints have the same table.
    pub(crate) fn fill(size: u32, endpoints: &[Endpoint]) -> Self {
        let heaviest = endpoints.iter().map(|endpoint| endpoint.weight).max().unwrap_or(0);
        let mut order: Vec<usize> = (0..endpoints.len()).filter(|&i| heaviest == 0 || endpoints[i].weight > 0).collect();
        order.sort_by(|&a, &b| endpoints[a].address.cmp(&endpoints[b].address));
        let size = fitting(size, order.len());
        let modulus = u64::from(size);
        let mut claimants: Vec<Claimant> = order
            .into_iter()
            .map(|index| {
                let hash = hash(endpoints[index].address.as_bytes());
                let weight = if heaviest == 0 { 1 } else { u64::from(endpoints[index].weight) };
                Claimant { index: index as u32, weight, slot: hash % modulus, skip: mix(hash) % (modulus - 1) + 1 }
            })
            .collect();
        if claimants.is_empty() {
            return Self::default();
        }
        const FREE: u32 = u32::MAX;
        let mut slots = vec![FREE; size as usize];
        // The loop ends, as a claimant passes over each taken slot once in all.
        let mut claim = |claimant: &mut Claimant| {
            while slots[claimant.slot as usize] != FREE {
                claimant.slot = (claimant.slot + claimant.skip) % modulus;
            }
            slots[claimant.slot as usize] = claimant.index;
        };
        let heaviest = u64::from(heaviest.max(1));
        if claimants.iter().all(|claimant| claimant.weight == claimants[0].weight) {
            let count = claimants.len();
            (0..size as usize).for_each(|turn| claim(&mut claimants[turn % count]));
        } else {
            // The heaviest endpoint claims a slot in each turn, and one of half its weight in every other turn. Which one comes next is taken from a heap: if
            // one is a million times as heavy as the others, nearly all would be asked in vain in each turn.
            let turn = |claims: u64, weight: u64| (claims * heaviest).div_ceil(weight);
            let mut next: BinaryHeap<_> = claimants.iter().enumerate().map(|(at, c)| Reverse((turn(1, c.weight), at, 1))).collect();
            for _ in 0..size {
                let Some(Reverse((_, at, claims))) = next.pop() else { break };
                claim(&mut claimants[at]);
                next.push(Reverse((turn(claims + 1, claimants[at].weight), at, claims + 1)));
            }
        }
        let mut holding = vec![false; endpoints.len()];
        slots.iter().for_each(|&index| holding[index as usize] = true);
        let holders = holding.into_iter().filter(|&holds| holds).count() as u32;
        Self { slots, holders }
    }

    /// The endpoint of a hash.
    pub(crate) fn at(&self, hash: u64) -> Option<usize> {
        let slot = hash.checked_rem(self.slots.len() as u64)?;
        Some(self.slots[slot as usize] as usize)
    }

    /// The endpoint of a hash for its first, second, ... try: the n-th different endpoint from its slot on; after the last the first comes again. Retries are
    /// few, and looking back at the slots that were passed needs no allocation.
    pub(crate) fn nth_different(&self, hash: u64, attempt: u32) -> Option<usize> {
        let first = self.at(hash)?;
        let n = attempt % self.holders;
        if n == 0 {
            return Some(first);
        }
        let len = self.slots.len();
        let start = (hash % len as u64) as usize;
        let walk = |to: usize| (0..to).map(move |step| self.slots[(start + step) % len]);
        // The number is bounded: a retry past this many different endpoints, which no policy allows, takes the last of them.
        let n = n.min(MOST_TRIES);
        let mut seen = [0u32; MOST_TRIES as usize + 1];
        let mut count = 0usize;
        for index in walk(len) {
            if seen[..count].contains(&index) {
                continue;
            }
            if count == n as usize {
                return Some(index as usize);
            }
            seen[count] = index;
            count += 1;
        }
        Some(first)
    }
}

/// The greatest number of different endpoints over which the tries of one exchange are spread.
const MOST_TRIES: u32 = 64;

/// FNV-1a (Fowler, Noll, Vo), finished with [`mix`], since FNV alone leaves neighbouring addresses close together. It must never change: the
/// gateways of a fleet agree on endpoints by it, also while some of them are a version behind.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of SplitMix64.
pub(crate) fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
