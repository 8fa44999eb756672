//! Pools, contexts and requests made from a seed: the same seed makes the same ones on every machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use sluicegate_model::health::Condition;
use sluicegate_model::plugin::{Limits, PickContext};
use sluicegate_model::pool::{EmptyReason, Endpoint, Pool, unique};
use sluicegate_model::shared::Shared;
use sluicegate_model::shared::state::SharedState;
use sluicegate_model::stats::Sight;

/// The generator of random numbers. Its algorithm does not change with a library's version.
pub type Random = Xoshiro256PlusPlus;

/// One of the independent streams of a seed: what one purpose draws does not depend on how much another one drew.
pub fn stream(seed: u64, purpose: u64) -> Random {
    Random::seed_from_u64(seed ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// A clock that goes on when it is told to, for what plugins share and let expire.
#[derive(Clone, Debug, Default)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    /// Sets how many nanoseconds have passed.
    pub fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Relaxed);
    }

    /// What the instances of a plugin have in common, by this clock.
    pub fn shared(&self, limits: &Limits) -> Shared {
        let time = self.0.clone();
        let state = SharedState::with_clock(Arc::new(move || Duration::from_nanos(time.load(Ordering::Relaxed))));
        let shared = Shared { state: Arc::new(state), ..Shared::default() };
        shared.limit(limits);
        shared
    }
}

/// An endpoint of which nothing is known.
pub fn endpoint(address: SocketAddr, weight: u32) -> Endpoint {
    Endpoint { weight, ..Endpoint::new(address) }
}

/// The address number `index` of a network of 2^24.
pub fn address(index: usize) -> SocketAddr {
    let [_, b, c, d] = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
    SocketAddr::from(([10, b, c, d], 8080))
}

/// A pool of these endpoints, under an id of its own, or that of the pool that it follows.
pub fn pool(id: u64, endpoints: Vec<Endpoint>) -> Arc<Pool> {
    let empty = endpoints.is_empty().then_some(EmptyReason::NoEndpoints);
    Arc::new(Pool { id, version: unique(), endpoints: endpoints.into(), draining: Vec::new(), panic: false, empty })
}

/// A plain pool: so many endpoints, of which nothing is known but their weights.
pub fn plain(size: usize, weight: impl Fn(usize) -> u32) -> Arc<Pool> {
    pool(unique(), (0..size).map(|i| endpoint(address(i), weight(i))).collect())
}

/// The size of the generated pool number `turn`: 0, 1 and others, now and then 1,000 or 10,000.
pub fn size(turn: usize, random: &mut Random) -> usize {
    const SMALL: [usize; 8] = [0, 1, 2, 3, 5, 10, 50, 200];
    match turn {
        _ if turn % 500 == 7 => 10_000,
        _ if turn % 100 == 53 => 1_000,
        _ => SMALL[random.random_range(0..SMALL.len())],
    }
}

/// A pool with whatever may come: addresses of both families, also the same one twice; weights that are equal, uneven, huge, or zero in part or in all; with
/// zones, nodes and labels or without; and any statistics.
pub fn wild(size: usize, random: &mut Random) -> Arc<Pool> {
    let weights = random.random_range(0..6);
    let (v6, named) = (random.random_range(0..3), random.random_bool(0.5));
    let mut endpoints: Vec<Endpoint> = (0..size).map(|i| wild_endpoint(i, weights, v6, named, random)).collect();
    if size > 1 && random.random_bool(0.2) {
        // The gateway names no address twice. A plugin that is told one twice must still keep within its list.
        endpoints[1].address = endpoints[0].address;
    }
    endpoints.sort_by_key(|e| e.address);
    pool(unique(), endpoints)
}

fn wild_endpoint(index: usize, weights: u32, v6: u32, named: bool, random: &mut Random) -> Endpoint {
    let weight = match weights {
        0 => 1,
        1 => random.random_range(1..100),
        2 => random.random_range(0..3),
        3 => 0,
        4 => [1, 1_000_000][usize::from(random.random_bool(0.1))],
        _ => u32::MAX,
    };
    let bits = random.next_u64();
    let ip = match (v6, bits % 2) {
        (0, _) | (1, 0) => IpAddr::V4(Ipv4Addr::from(bits as u32)),
        _ => IpAddr::V6(Ipv6Addr::from((u128::from(bits) << 64) | index as u128)),
    };
    let mut made = endpoint(SocketAddr::new(ip, random.random_range(1..=u16::MAX)), weight);
    if named {
        made.zone = Some(format!("zone-{}", random.random_range(0..4)));
        made.node = (!index.is_multiple_of(3)).then(|| format!("node-{}", random.random_range(0..1000)));
        made.labels = (0..index % 4).map(|i| (format!("example.com/label-{i}"), random.random_range(0..3).to_string())).collect();
    }
    made.annotations = (0..index % 3).map(|i| (format!("example.com/note-{i}"), "x".repeat(i * 10))).collect();
    made.terminating = random.random_range(0..20) == 0;
    made.stats.show(wild_sight(random));
    made
}

/// Any statistics.
pub fn wild_sight(random: &mut Random) -> Sight {
    const CONDITIONS: [Condition; 5] =
        [Condition::Healthy, Condition::Warming, Condition::Pending, Condition::Ejected, Condition::Unhealthy];
    Sight {
        in_flight: [0, random.random_range(0..100), u32::MAX][random.random_range(0..20_usize).saturating_sub(17)],
        latency_us: [0, random.random_range(1..2_000_000), u32::MAX][random.random_range(0..20_usize).saturating_sub(17)],
        success: [1.0, 0.0, f32::from(random.random_range(0..=100_u8)) / 100.0][random.random_range(0..3_usize)],
        condition: CONDITIONS[random.random_range(0..20_usize).saturating_sub(15)],
    }
}

/// The same pool after a change: some endpoints are gone, some are new, some have other weights. One time in eight all are gone.
pub fn churn(old: &Pool, random: &mut Random) -> Arc<Pool> {
    if random.random_range(0..8) == 0 {
        return pool(old.id, Vec::new());
    }
    let mut endpoints: Vec<Endpoint> = old.endpoints.iter().filter(|_| random.random_bool(0.8)).cloned().collect();
    for made in &mut endpoints {
        if random.random_bool(0.1) {
            made.weight = random.random_range(0..10);
        }
        made.stats.show(wild_sight(random));
    }
    let more = random.random_range(0..=old.endpoints.len() / 4 + 1);
    endpoints.extend((0..more).map(|i| wild_endpoint(old.endpoints.len() + i, 1, 1, false, random)));
    endpoints.sort_by_key(|e| e.address);
    pool(old.id, endpoints)
}

/// Any context.
pub fn context(random: &mut Random) -> PickContext {
    let hash = match random.random_range(0..4) {
        0 => None,
        1 => Some(random.random_range(0..8)),
        2 => Some(u64::MAX),
        _ => Some(random.next_u64()),
    };
    PickContext { hash, attempt: [0, 0, 0, 1, 2, u32::MAX][random.random_range(0..6_usize)], random: None }
}
