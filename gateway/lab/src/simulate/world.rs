//! Endpoints: what they work on, what waits, and what they have in their caches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate_model::pool::{About, Endpoint};
use sluicegate_model::stats::EndpointStats;

use super::settings::Settings;
use crate::generate;

/// A try of a request, by the number of the request and of the try.
pub(super) type Ticket = (usize, u64);

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) stats: Arc<EndpointStats>,
    /// The endpoint as pools have it, except for its address and statistics, which are above.
    made: Endpoint,
    /// How many requests it works on at once, how many may wait, and how many times as fast as the settings it is.
    pub(super) places: usize,
    pub(super) queue: usize,
    pub(super) speed: f64,
    /// Whether it can be connected to.
    pub(super) up: bool,
    pub(super) member: bool,
    pub(super) slow: f64,
    pub(super) fails: bool,
    /// What it works on, and what waits.
    pub(super) serving: Vec<Ticket>,
    pub(super) waiting: VecDeque<Ticket>,
    pub(super) cache: Option<Cache>,
    /// Picks that went to it.
    pub(super) picks: u64,
    /// How long it has worked, in nanoseconds.
    pub(super) worked: f64,
    /// Since when it is in the pool, and how long it was before, in nanoseconds.
    pub(super) since: u64,
    pub(super) present: u64,
}

impl Server {
    /// `like`: the number of the endpoint whose profile it has.
    pub(super) fn new(number: usize, like: usize, settings: &Settings, cache: Option<usize>) -> Self {
        let (address, stats, profile) = (generate::address(number + 1), Arc::new(EndpointStats::default()), settings.profiles.of(like));
        let zone = Some(settings.zone(like).to_owned());
        let made = profile.on(Endpoint {
            about: Arc::new(About { zone, ..About::default() }),
            stats: stats.clone(),
            ..generate::endpoint(address, 1)
        });
        Self {
            address,
            stats,
            made,
            places: settings.places(like),
            queue: profile.queue.unwrap_or(settings.queue),
            speed: profile.speed,
            up: true,
            member: false,
            slow: 1.0,
            fails: false,
            serving: Vec::new(),
            waiting: VecDeque::new(),
            cache: cache.map(Cache::new),
            picks: 0,
            worked: 0.0,
            since: 0,
            present: 0,
        }
    }

    /// The endpoint as a pool has it.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.made.clone()
    }

    pub(super) fn set_member(&mut self, member: bool, now: u64) {
        match (self.member, member) {
            (false, true) => self.since = now,
            (true, false) => self.present += now - self.since,
            _ => return,
        }
        self.member = member;
    }
}

/// A cache of the keys that were used last.
pub(super) struct Cache {
    room: usize,
    turn: u64,
    used: HashMap<usize, u64>,
    by_turn: BTreeMap<u64, usize>,
}

impl Cache {
    fn new(room: usize) -> Self {
        Self { room, turn: 0, used: HashMap::new(), by_turn: BTreeMap::new() }
    }

    /// Whether it has a key. From now on it does.
    pub(super) fn has(&mut self, key: usize) -> bool {
        self.turn += 1;
        let known = self.used.insert(key, self.turn);
        if let Some(turn) = known {
            self.by_turn.remove(&turn);
        }
        self.by_turn.insert(self.turn, key);
        if self.used.len() > self.room
            && let Some((_, oldest)) = self.by_turn.pop_first()
        {
            self.used.remove(&oldest);
        }
        known.is_some()
    }

    pub(super) fn forget(&mut self) {
        self.used.clear();
        self.by_turn.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_used_longest_ago_goes_first() {
        let mut cache = Cache::new(2);
        assert_eq!([1, 2, 1, 3, 1, 2].map(|key| cache.has(key)), [false, false, true, false, true, false]);
        cache.forget();
        assert!(!cache.has(1));
    }
}
