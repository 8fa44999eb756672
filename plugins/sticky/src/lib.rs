//! Balancer `sticky`: a client that was served by an endpoint is served by it again, as long as the endpoint is there.
//!
//! If the policy hashes the client's address, this is client IP affinity, as `sessionAffinity: ClientIP` of the Service API, with a sliding time-out of three
//! hours unless the configuration says otherwise. If the policy hashes a cookie, which the gateway sets if it has a time to live, clients stick by that cookie.
//! Unlike consistent hashing, it moves no client when the pool grows, and a new client goes to the less busy of two endpoints (Mitzenmacher, 2001).
//!
//! The state that all workers share says which client is bound to which address. It has room for a limited number of bindings. Beyond that, the endpoint of a
//! new client follows from the hash, so it stays the same as long as the pool does. Pools that use the plugin share this state: an entry has up to four
//! addresses, the newest first, and a pool takes the first one that it has.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::shared::{self, Error};
use sluicegate_sdk::{Balancer, Endpoint, Pick, serde_json};
use sluicegate_two_choices::{Candidate, candidates, less_busy};

/// The configuration of `sticky`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// For how many seconds after its last exchange or connection a client is remembered.
    #[schemars(range(min = 1, max = 604_800))]
    pub timeout_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { timeout_seconds: 10_800 }
    }
}

/// The greatest number of addresses of one entry.
const MOST_ADDRESSES: usize = 4;
/// How many bindings of each worker are kept over a restart.
const MOST_KEPT: usize = 8_192;

/// The balancer of one pool.
#[derive(Debug)]
pub struct Sticky {
    timeout: Option<Duration>,
    /// The index of each endpoint, by its address.
    indices: BTreeMap<String, usize>,
    addresses: Vec<String>,
    candidates: Vec<Candidate>,
    /// The bindings that this pool's picks made, for the next version of the plugin or after a restart.
    bound: BTreeMap<u64, String>,
}

impl Sticky {
    fn remember(&mut self, hash: u64, index: usize) {
        let address = &self.addresses[index];
        if self.bound.get(&hash) == Some(address) {
            return;
        }
        if self.bound.len() >= MOST_KEPT && !self.bound.contains_key(&hash) {
            self.bound.pop_first();
        }
        self.bound.insert(hash, address.clone());
    }

    /// The entry with this address first, and the other addresses of the old entry behind it.
    fn entry(&self, address: &str, old: &str) -> String {
        let others = old.lines().filter(|known| *known != address).take(MOST_ADDRESSES - 1);
        std::iter::once(address).chain(others).collect::<Vec<_>>().join("\n")
    }

    /// Binds a key to an endpoint, or keeps its binding.
    fn bind(&mut self, hash: u64, pick: &Pick) -> Option<usize> {
        let key = format!("{hash:016x}");
        // This is tried again if another worker was quicker, and given up after the third time.
        for _ in 0..3 {
            let old = shared::get(&key);
            let known = old.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok()).unwrap_or_default();
            let bound = known.lines().find_map(|address| self.indices.get(address).copied()).filter(|_| pick.attempt == 0);
            let index = match bound {
                Some(index) => index,
                None => less_busy(&self.candidates, pick)?.0,
            };
            let value = self.entry(&self.addresses[index], known);
            // The entry is written in any case, so that its time to live begins again.
            match shared::compare_and_set(&key, old.as_ref().map(|entry| entry.version), value.as_bytes(), self.timeout) {
                Err(Error::Conflict) => {}
                Err(_) if bound.is_none() => return self.by_hash(hash, pick),
                Ok(_) | Err(_) => {
                    self.remember(hash, index);
                    return Some(index);
                }
            }
        }
        self.by_hash(hash, pick)
    }

    fn by_hash(&self, hash: u64, pick: &Pick) -> Option<usize> {
        let at = hash.wrapping_add(u64::from(pick.attempt)).checked_rem(self.candidates.len() as u64)?;
        Some(self.candidates[at as usize].0)
    }
}

impl Balancer for Sticky {
    type Config = Config;
    /// The state is a JSON list of hashes and addresses.
    const STATE: Option<u32> = Some(1);

    fn open(config: Config) -> Result<Self, String> {
        if !(1..=604_800).contains(&config.timeout_seconds) {
            return Err(format!("config: timeoutSeconds: {} is not from 1 to 604800", config.timeout_seconds));
        }
        Ok(Self {
            timeout: Some(Duration::from_secs(config.timeout_seconds.into())),
            indices: BTreeMap::new(),
            addresses: Vec::new(),
            candidates: Vec::new(),
            bound: BTreeMap::new(),
        })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        // An endpoint whose weight is 0 gets no new clients and keeps its old ones, as one that is drained should.
        self.indices = endpoints.iter().enumerate().map(|(index, endpoint)| (endpoint.address.clone(), index)).collect();
        self.addresses = endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
        self.candidates = candidates(endpoints).collect();
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        match pick.hash {
            Some(hash) => self.bind(hash, pick),
            None => less_busy(&self.candidates, pick).map(|(index, _)| index),
        }
    }

    fn save(&self) -> Vec<u8> {
        let bound: Vec<(u64, &str)> = self.bound.iter().map(|(hash, address)| (*hash, address.as_str())).collect();
        serde_json::to_vec(&bound).unwrap_or_default()
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        if version != 1 {
            return Err(format!("its form {version} is not known, 1 is"));
        }
        let bound: Vec<(u64, String)> = serde_json::from_slice(state).map_err(|error| error.to_string())?;
        for (hash, address) in bound.into_iter().take(MOST_KEPT) {
            // After a swap the entry exists and is newer; after a restart it does not exist. If there is no room for it, the client is bound again when it
            // comes.
            let _ = shared::compare_and_set(&format!("{hash:016x}"), None, address.as_bytes(), self.timeout);
            self.bound.insert(hash, address);
        }
        Ok(())
    }
}

sluicegate_sdk::export_balancer!(Sticky);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sdk::testing::{FakeHost, pass, room, seed};

    fn pool(names: &[&str]) -> Vec<Endpoint> {
        names.iter().map(|name| Endpoint::new(format!("10.0.0.{name}:80"))).collect()
    }

    fn balancer(endpoints: &[Endpoint]) -> Sticky {
        let mut balancer = Sticky::open(Config::default()).expect("the defaults are in range");
        balancer.update(endpoints);
        balancer
    }

    fn place(balancer: &mut Sticky, key: u64, attempt: u32) -> String {
        let mut pick = Pick::fake(&FakeHost::default());
        (pick.hash, pick.attempt) = (Some(key), attempt);
        let index = balancer.pick(&pick).expect("the pool is not empty");
        balancer.addresses[index].clone()
    }

    fn keys(balancer: &mut Sticky) -> Vec<String> {
        (0..1_000).map(|key| place(balancer, key, 0)).collect()
    }

    #[test]
    fn a_client_keeps_its_endpoint_with_all_workers_and_when_the_pool_grows() {
        seed(5);
        let (mut one, mut other) = (balancer(&pool(&["1", "2", "3"])), balancer(&pool(&["1", "2", "3"])));
        let before = keys(&mut one);
        assert_eq!(keys(&mut other), before, "another worker");
        let grown = pool(&["0", "1", "2", "3", "4", "5"]);
        one.update(&grown);
        assert_eq!(keys(&mut one), before, "nobody moves");
        for endpoint in pool(&["1", "2", "3"]) {
            let count = before.iter().filter(|address| **address == endpoint.address).count();
            assert!((250..420).contains(&count), "{count}");
        }
    }

    #[test]
    fn only_clients_of_an_endpoint_that_is_gone_move_and_stay_there_when_it_is_back() {
        seed(5);
        let mut one = balancer(&pool(&["1", "2", "3"]));
        let before = keys(&mut one);
        one.update(&pool(&["1", "3"]));
        let meanwhile = keys(&mut one);
        assert!(before.iter().zip(&meanwhile).all(|(b, m)| b == "10.0.0.2:80" || b == m));
        one.update(&pool(&["1", "2", "3"]));
        assert_eq!(keys(&mut one), meanwhile);
    }

    #[test]
    fn one_that_does_not_come_for_long_is_forgotten_and_one_that_does_is_not() {
        seed(5);
        let mut one = balancer(&pool(&["1", "2", "3", "4", "5", "6", "7", "8"]));
        let before = keys(&mut one);
        pass(Duration::from_secs(10_000));
        let half: Vec<String> = (0..500).map(|key| place(&mut one, key, 0)).collect();
        assert_eq!(half, before[..500]);
        pass(Duration::from_secs(10_000));
        let after = keys(&mut one);
        assert_eq!(after[..500], before[..500], "their time began anew");
        let moved = after[500..].iter().zip(&before[500..]).filter(|(a, b)| a != b).count();
        assert!(moved > 350, "{moved} of 500 are taken as new: seven of eight go elsewhere");
    }

    #[test]
    fn a_retry_goes_on_and_binds_anew() {
        seed(5);
        let mut one = balancer(&pool(&["1", "2", "3"]));
        let first = place(&mut one, 7, 0);
        let retried: Vec<String> = (0..20).map(|_| place(&mut one, 7, 1)).collect();
        assert!(retried.iter().any(|address| *address != first));
        assert_eq!(place(&mut one, 7, 0), retried[19]);
    }

    #[test]
    fn pools_that_share_the_plugin_do_not_displace_each_other() {
        seed(5);
        let (mut one, mut other) = (balancer(&pool(&["1", "2", "3"])), balancer(&pool(&["11", "12", "13"])));
        let before = (keys(&mut one), keys(&mut other));
        assert_eq!((keys(&mut one), keys(&mut other)), before);
    }

    #[test]
    fn without_room_the_hash_says() {
        seed(5);
        room(500);
        let (mut one, mut other) = (balancer(&pool(&["1", "2", "3"])), balancer(&pool(&["1", "2", "3"])));
        let crowd = keys(&mut one);
        assert_eq!((keys(&mut one), keys(&mut other)), (crowd.clone(), crowd.clone()));
        let grown = pool(&["1", "2", "3", "4", "5"]);
        one.update(&grown);
        let moved = keys(&mut one);
        assert_eq!(moved[..500], crowd[..500], "those that had room");
        assert_ne!(moved[500..], crowd[500..]);
    }

    #[test]
    fn a_drained_endpoint_keeps_its_clients_and_gets_no_new_ones() {
        seed(5);
        let mut endpoints = pool(&["1", "2", "3"]);
        let mut one = balancer(&endpoints);
        let before = keys(&mut one);
        endpoints[1].weight = 0;
        one.update(&endpoints);
        assert_eq!(keys(&mut one), before);
        assert!((5_000..6_000).all(|key| place(&mut one, key, 0) != "10.0.0.2:80"));
    }

    #[test]
    fn what_it_knows_outlives_a_restart() {
        seed(5);
        let mut old = balancer(&pool(&["1", "2", "3", "4"]));
        let before = keys(&mut old);
        let saved = old.save();
        // The shared state is gone with the process.
        pass(Duration::from_secs(1_000_000));
        let mut new = Sticky::open(Config::default()).expect("the defaults are in range");
        new.restore(1, &saved).expect("its own state");
        new.update(&pool(&["0", "1", "2", "3", "4"]));
        assert_eq!(keys(&mut new), before);
        assert!(new.restore(2, &saved).is_err() && new.restore(1, b"{}").is_err());
    }

    #[test]
    fn an_empty_pool_has_nothing_to_pick() {
        let mut pick = Pick::fake(&FakeHost::default());
        assert_eq!(balancer(&[]).pick(&pick), None);
        pick.hash = Some(1);
        assert_eq!(balancer(&[]).pick(&pick), None);
    }
}
