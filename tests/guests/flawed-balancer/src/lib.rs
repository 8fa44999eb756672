//! Balancers that look right: fair on small pools of usual weights, and wrong in one way that only certain pools, updates or millions of calls show.
//! The configuration chooses the flaw; with `flaw: none` it is a fair random choice that honours weights and keeps the contract.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use sluicegate_sdk::{Balancer, Endpoint, Outcome, Pick};

/// The flaw of a balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// There is none: it picks at random by weight.
    #[default]
    None,
    /// There is none, and the same hash goes to the same address (rendezvous hashing).
    NoneHashed,
    /// There is none, and of two endpoints the one with fewer exchanges under way is picked.
    NoneLeast,
    /// It traps with pools of `size` endpoints.
    TrapAtSize,
    /// It picks no endpoint of pools of `size` endpoints.
    NoneAtSize,
    /// With pools of `size` endpoints it now and then picks one beyond their end.
    BeyondAtSize,
    /// It never picks the last of `size` endpoints.
    SkipLastAtSize,
    /// It takes random bits by a mask: if the size of a pool is not a power of two, the rest gets nothing.
    Mask,
    /// In pools of `size` or more endpoints, it only picks from the first half.
    HalfOfLarge,
    /// In pools of `size` or more endpoints, one in `every` picks takes the first endpoint.
    LeadOfLarge,
    /// It keeps weights in 16 bits.
    NarrowWeights,
    /// It sums weights up in 32 bits.
    NarrowSum,
    /// Where weights are large, heavier endpoints get less.
    InverseOfLarge,
    /// It gives retries to the first endpoint.
    FirstAtRetry,
    /// It gives retries to the first half.
    HalfAtRetry,
    /// It gives retries that have a hash to the first half.
    HalfAtHashedRetry,
    /// It ignores an update that has as many endpoints as before.
    KeepsSameLength,
    /// It takes an update for one of weights only: addresses, which are hashed, stay.
    KeepsAddresses,
    /// It takes an update for one of addresses only: weights stay.
    KeepsWeights,
    /// It keeps a word of each pick.
    LeakPick,
    /// It keeps a word of each report.
    LeakReport,
    /// It keeps each address that it was ever told.
    LeakAddress,
    /// It keeps a page of each pool that is gone.
    LeakPool,
    /// It traps at each `every`th pick.
    RareTrap,
    /// It picks no endpoint at each `every`th pick.
    RareNone,
    /// It picks beyond the end at each `every`th pick.
    RareBeyond,
    /// It traps with pools of one endpoint, but not at once.
    TrapOfOne,
    /// It picks no endpoint of pools of one, but not at once.
    NoneOfOne,
    /// It picks beyond the end when the hash is all ones, as a division by the largest value does.
    BeyondAtOnes,
    /// Its updates compare every two endpoints.
    QuadraticUpdate,
    /// One in `every` updates compares every two endpoints.
    RareQuadraticUpdate,
    /// An update compares every two endpoints only if it comes after others and has other addresses.
    QuadraticReplacement,
    /// It writes each weight out as that many places.
    Places,
    /// It reads what is under way once after each update.
    FrozenInFlight,
    /// It reads latencies once after each update.
    FrozenLatency,
    /// It reads the share of successes once after each update.
    FrozenSuccess,
}

/// The flaw, and where it shows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The flaw.
    pub flaw: Flaw,
    /// The pool size that some flaws are about.
    pub size: usize,
    /// How often some flaws show.
    pub every: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { flaw: Flaw::None, size: 1_025, every: 1_000_000 }
    }
}

/// The balancer of one pool.
pub struct Flawed {
    config: Config,
    addresses: Vec<String>,
    /// The hashes of the endpoints' addresses.
    names: Vec<u64>,
    weights: Vec<u64>,
    /// For each endpoint the sum of the weights up to and including it.
    sums: Vec<u64>,
    picks: u64,
    updates: u64,
    frozen: Option<Vec<f64>>,
    hoard: Vec<u64>,
    known: BTreeMap<String, usize>,
    places: Vec<u32>,
}

impl Balancer for Flawed {
    type Config = Config;
    const REPORTS: bool = true;

    fn open(config: Config) -> Result<Self, String> {
        if config.flaw == Flaw::LeakPool {
            std::mem::forget(std::hint::black_box(vec![1_u8; 4096]));
        }
        Ok(Self {
            config,
            addresses: Vec::new(),
            names: Vec::new(),
            weights: Vec::new(),
            sums: Vec::new(),
            picks: 0,
            updates: 0,
            frozen: None,
            hoard: Vec::new(),
            known: BTreeMap::new(),
            places: Vec::new(),
        })
    }

    fn update(&mut self, endpoints: &[Endpoint]) {
        self.updates += 1;
        self.frozen = None;
        let same_length = self.updates > 1 && endpoints.len() == self.addresses.len();
        let flaw = self.config.flaw;
        if same_length && flaw == Flaw::KeepsSameLength {
            return;
        }
        let quadratic = match flaw {
            Flaw::QuadraticUpdate => true,
            Flaw::RareQuadraticUpdate => self.updates.is_multiple_of(self.config.every),
            Flaw::QuadraticReplacement => {
                self.updates > 1 && endpoints.first().is_some_and(|first| self.addresses.first() != Some(&first.address))
            }
            _ => false,
        };
        if quadratic {
            let twins = endpoints.iter().map(|a| endpoints.iter().filter(|b| a.address.len() == b.address.len()).count());
            std::hint::black_box(twins.max());
        }
        if !(same_length && flaw == Flaw::KeepsAddresses) {
            self.addresses = endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
            // This is FNV-1a.
            let hash = |address: &String| {
                address.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
            };
            self.names = self.addresses.iter().map(hash).collect();
        }
        if !(same_length && flaw == Flaw::KeepsWeights) {
            let all_zero = endpoints.iter().all(|endpoint| endpoint.weight == 0);
            self.weights = endpoints.iter().map(|endpoint| if all_zero { 1 } else { self.weight(endpoint.weight) }).collect();
        }
        let narrow = flaw == Flaw::NarrowSum;
        let mut sum = 0_u64;
        self.sums = self
            .weights
            .iter()
            .map(|weight| {
                sum += weight;
                if narrow {
                    sum &= u64::from(u32::MAX);
                }
                sum
            })
            .collect();
        if flaw == Flaw::LeakAddress {
            for address in &self.addresses {
                let next = self.known.len();
                self.known.entry(address.clone()).or_insert(next);
            }
        }
        if flaw == Flaw::Places {
            let most = |weight: u64| usize::try_from(weight).unwrap_or(usize::MAX);
            self.places = (0..).zip(&self.weights).flat_map(|(i, weight)| std::iter::repeat_n(i, most(*weight))).collect();
        }
    }

    fn pick(&mut self, pick: &Pick) -> Option<usize> {
        let (n, flaw, size, every) = (self.addresses.len(), self.config.flaw, self.config.size, self.config.every.max(1));
        self.picks += 1;
        if n == 0 {
            return None;
        }
        let turn = self.picks.is_multiple_of(every);
        match flaw {
            Flaw::TrapAtSize if n == size => panic!("flawed: size"),
            Flaw::NoneAtSize if n == size => None,
            Flaw::BeyondAtSize if n == size && pick.below(16) == 0 => Some(n),
            Flaw::SkipLastAtSize if n == size => Some(pick.below(n - 1)),
            Flaw::Mask => Some(pick.below(1 << n.ilog2())),
            Flaw::HalfOfLarge if n >= size => Some(pick.below(n / 2)),
            Flaw::LeadOfLarge if n >= size && (pick.below(usize::try_from(every).unwrap_or(usize::MAX)) == 0) => Some(0),
            Flaw::FirstAtRetry if pick.attempt > 0 => Some(0),
            Flaw::HalfAtRetry if pick.attempt > 0 => Some(pick.below(n.div_ceil(2))),
            Flaw::HalfAtHashedRetry if pick.attempt > 0 && pick.hash.is_some() => Some(pick.below(n.div_ceil(2))),
            Flaw::RareTrap if turn => panic!("flawed: rare"),
            Flaw::RareNone if turn => None,
            Flaw::RareBeyond if turn => Some(n),
            Flaw::TrapOfOne if n == 1 && self.picks > 300 => panic!("flawed: one"),
            Flaw::NoneOfOne if n == 1 => None,
            Flaw::BeyondAtOnes if pick.hash == Some(u64::MAX) => Some(n),
            Flaw::LeakPick => {
                self.hoard.push(self.picks);
                self.fair(pick)
            }
            Flaw::NoneHashed | Flaw::KeepsSameLength | Flaw::KeepsAddresses => match pick.hash {
                Some(hash) => self.highest(hash.wrapping_add(u64::from(pick.attempt))),
                None => self.fair(pick),
            },
            Flaw::NoneLeast => self.better(pick, |i| f64::from(pick.in_flight(i))),
            Flaw::FrozenInFlight => self.frozen(pick, |i| f64::from(pick.in_flight(i))),
            Flaw::FrozenLatency => self.frozen(pick, |i| f64::from(pick.latency_us(i))),
            Flaw::FrozenSuccess => self.frozen(pick, |i| -f64::from(pick.success(i))),
            _ => self.fair(pick),
        }
    }

    fn report(&mut self, outcome: Outcome) {
        if self.config.flaw == Flaw::LeakReport {
            self.hoard.push(outcome.endpoint as u64);
        }
    }
}

impl Flawed {
    fn weight(&self, weight: u32) -> u64 {
        match self.config.flaw {
            Flaw::NarrowWeights => u64::from(weight & 0xffff),
            Flaw::InverseOfLarge if weight > 1 << 20 => u64::from(u32::MAX - weight) + 1,
            _ => u64::from(weight),
        }
    }

    /// Picks in proportion to the weights.
    fn fair(&self, pick: &Pick) -> Option<usize> {
        let total = *self.sums.last()?;
        let at = u64::try_from((u128::from(pick.random()) * u128::from(total)) >> 64).unwrap_or(0);
        Some(self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1))
    }

    /// Rendezvous hashing: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous" (1996), with weights as Schindler has them.
    fn highest(&self, hash: u64) -> Option<usize> {
        let mixed = |name: u64| {
            let mixed = (name ^ hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 11
        };
        let of = |i: usize| mixed(self.names[i]);
        if self.weights.iter().all(|weight| *weight == self.weights[0]) {
            return (0..self.names.len()).max_by_key(|i| of(*i));
        }
        let score = |i: usize| -(self.weights[i] as f64) / ((of(i) as f64 + 0.5) / (1_u64 << 53) as f64).ln();
        let scored = (0..self.names.len()).filter(|i| self.weights[*i] > 0).map(|i| (i, score(i)));
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    /// Picks the one with the lower cost of two that were drawn by weight.
    fn better(&self, pick: &Pick, cost: impl Fn(usize) -> f64) -> Option<usize> {
        let first = self.fair(pick)?;
        let total = *self.sums.last()?;
        let at = sluicegate_sdk::random() % total.max(1);
        let second = self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1);
        Some(if cost(second) < cost(first) { second } else { first })
    }

    /// Picks the one with the lower cost of two, by costs as they were at the first pick after an update.
    fn frozen(&mut self, pick: &Pick, cost: impl Fn(usize) -> f64) -> Option<usize> {
        let n = self.addresses.len();
        let frozen = self.frozen.take().unwrap_or_else(|| (0..n).map(cost).collect());
        let picked = self.better(pick, |i| frozen[i]);
        self.frozen = Some(frozen);
        picked
    }
}

sluicegate_sdk::export_balancer!(Flawed);
