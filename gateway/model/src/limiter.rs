//! Rate limits at work: token buckets that all workers share. They are kept over snapshots, so that a change gives nobody a full bucket.
//!
//! A bucket is one number, when it will be full again (the "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371 §A.1):
//! a request moves it on by one compare-and-swap, and nothing has to fill buckets. No locks.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::settings::{Rate, RateView};

/// The number of buckets of a limit that counts clients or values by themselves. Each bucket has 16 bytes.
pub const BUCKETS: usize = 65_536;
/// The number of places where the bucket of a key may be.
const WAYS: usize = 8;

/// The limits of one service port or listener.
#[derive(Debug)]
pub struct Limiter {
    rates: Vec<(Rate, Buckets)>,
    start: Instant,
    hashing: RandomState,
}

#[derive(Debug)]
enum Buckets {
    One(AtomicU64),
    Each(Vec<Bucket>),
}

#[derive(Debug, Default)]
struct Bucket {
    /// The hash of what the bucket counts; 0: nothing. The hash is keyed, so nobody can choose with whom to share a bucket.
    key: AtomicU64,
    full_at: AtomicU64,
}

/// What limits say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request passes.
    pub passes: bool,
    /// The requests of the limit with the least left.
    pub limit: u32,
    /// How many requests are left.
    pub left: u32,
    /// When one request is left again, if this one does not pass; else when all are left again.
    pub after: Duration,
    /// The table is full, and a bucket in use was given to another client; the client that had it begins with a full bucket.
    pub evicted: bool,
}

impl Limiter {
    /// The limits, as they are configured.
    pub fn rates(&self) -> impl Iterator<Item = &Rate> {
        self.rates.iter().map(|(rate, _)| rate)
    }

    /// A limiter of these limits; none if there are no limits.
    pub fn new(rates: &[Rate]) -> Option<Self> {
        let buckets = |rate: &Rate| match rate.has_each() {
            true => Buckets::Each((0..BUCKETS).map(|_| Bucket::default()).collect()),
            false => Buckets::One(AtomicU64::new(0)),
        };
        let rates: Vec<_> = rates.iter().map(|rate| (rate.clone(), buckets(rate))).collect();
        (!rates.is_empty()).then(|| Self { rates, start: Instant::now(), hashing: RandomState::new() })
    }

    /// Whether the limiter has these limits.
    pub fn is_of(&self, rates: &[Rate]) -> bool {
        self.rates.len() == rates.len() && self.rates.iter().zip(rates).all(|((mine, _), other)| mine == other)
    }

    /// Counts a request; none if no limit is for it. A request that one limit refuses is not counted by the others.
    pub fn count(&self, request: &RateView<'_>, now: Instant) -> Option<Verdict> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        let mut least: Option<Verdict> = None;
        for (i, (rate, _)) in self.rates.iter().enumerate() {
            let Some((bucket, evicted)) = self.bucket(i, request, now) else { continue };
            let mut verdict = take(bucket, rate, now);
            verdict.evicted = evicted;
            if !verdict.passes {
                for before in 0..i {
                    if let Some((bucket, _)) = self.bucket(before, request, now) {
                        let interval = interval(&self.rates[before].0);
                        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(at.saturating_sub(interval)));
                    }
                }
                return Some(verdict);
            }
            if least.is_none_or(|l| verdict.left < l.left) {
                least = Some(verdict);
            }
        }
        least
    }

    /// The bucket of limit `i` that counts the request, and whether it was another client's.
    fn bucket(&self, i: usize, request: &RateView<'_>, now: u64) -> Option<(&AtomicU64, bool)> {
        let (rate, buckets) = &self.rates[i];
        let mut hasher = self.hashing.build_hasher();
        let counted = rate.counts(request, |part| {
            hasher.write_usize(part.len());
            hasher.write(part);
        });
        counted.then(|| match buckets {
            Buckets::One(bucket) => (bucket, false),
            Buckets::Each(table) => find(table, hasher.finish().max(1), now),
        })
    }
}

/// Nanoseconds from one token to the next.
fn interval(rate: &Rate) -> u64 {
    (u64::try_from(rate.unit.as_nanos()).unwrap_or(u64::MAX) / u64::from(rate.requests.max(1))).max(1)
}

fn take(bucket: &AtomicU64, rate: &Rate, now: u64) -> Verdict {
    let interval = interval(rate);
    let burst = interval.saturating_mul(u64::from(rate.requests));
    let next = |full_at: u64| full_at.max(now).saturating_add(interval);
    let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
        let next = next(full_at);
        (next - now <= burst).then_some(next)
    });
    let (passes, left, after) = match taken {
        Ok(before) => (true, (burst - (next(before) - now)) / interval, next(before) - now),
        Err(full_at) => (false, 0, next(full_at) - now - burst),
    };
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    Verdict { passes, limit: rate.requests, left, after: Duration::from_nanos(after), evicted: false }
}

/// The bucket of a key: its own, an unused one, or the fullest of those where it may be. If two threads want the same place, one of them looks again. While
/// a place changes hands, a request may be counted for its neighbour: one at most for each change.
fn find(table: &[Bucket], key: u64, now: u64) -> (&AtomicU64, bool) {
    let set = (key >> 32) as usize % (table.len() / WAYS) * WAYS;
    let ways = &table[set..set + WAYS];
    loop {
        if let Some(own) = ways.iter().find(|b| b.key.load(Ordering::Relaxed) == key) {
            return (&own.full_at, false);
        }
        let fullest = ways.iter().min_by_key(|b| b.full_at.load(Ordering::Relaxed)).unwrap_or(&ways[0]);
        let other = fullest.key.load(Ordering::Relaxed);
        if other != key && fullest.key.compare_exchange(other, key, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // A bucket that is full by now is as good as a new one.
            let in_use = other != 0 && fullest.full_at.load(Ordering::Relaxed) > now;
            if in_use {
                fullest.full_at.store(0, Ordering::Relaxed);
            }
            return (&fullest.full_at, in_use);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::HeaderMap;

    use super::*;
    use crate::settings::{Comparison, Condition};

    fn rate(requests: u32, conditions: Vec<Condition>) -> Rate {
        Rate { requests, unit: Duration::from_secs(1), conditions }
    }

    fn ask(limiter: &Limiter, path: &str, client: u32, at: Duration) -> Option<Verdict> {
        let headers = HeaderMap::new();
        let client = IpAddr::from(Ipv4Addr::from(client));
        limiter.count(&RateView { method: "GET", path, headers: &headers, client }, limiter.start + at)
    }

    fn passed(limiter: &Limiter, client: u32, at: Duration, times: usize) -> usize {
        (0..times).filter(|_| ask(limiter, "/", client, at).unwrap().passes).count()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn as_many_as_the_limit_at_once_and_as_many_a_unit() {
        let limiter = Limiter::new(&[rate(10, vec![])]).unwrap();
        assert_eq!(passed(&limiter, 1, SECOND, 15), 10);
        let refused = ask(&limiter, "/", 1, SECOND).unwrap();
        assert_eq!((refused.passes, refused.left, refused.after), (false, 0, Duration::from_millis(100)));
        assert_eq!(passed(&limiter, 1, SECOND + Duration::from_millis(300), 15), 3);
        assert_eq!(passed(&limiter, 1, SECOND * 60, 15), 10, "no more than the limit is saved up");
        let limiter = Limiter::new(&[rate(10, vec![])]).unwrap();
        let first = ask(&limiter, "/", 1, SECOND).unwrap();
        assert_eq!((first.limit, first.left, first.after), (10, 9, Duration::from_millis(100)));
    }

    #[test]
    fn clients_are_counted_by_themselves() {
        let limiter = Limiter::new(&[rate(2, vec![Condition::EachSource("0.0.0.0/0".parse().unwrap())])]).unwrap();
        assert_eq!((1..=100).map(|client| passed(&limiter, client, SECOND, 5)).sum::<usize>(), 200);
    }

    #[test]
    fn a_refused_request_costs_the_other_limits_nothing() {
        let path = Condition::Path { with: Comparison::Exact("/a".into()), invert: false };
        let limiter = Limiter::new(&[rate(5, vec![]), rate(2, vec![path])]).unwrap();
        let passed = |path| (0..10).filter(|_| ask(&limiter, path, 1, SECOND).unwrap().passes).count();
        assert_eq!(passed("/a"), 2);
        assert_eq!(passed("/b"), 3);
    }

    #[test]
    fn the_limit_holds_over_threads() {
        let limiter = Limiter::new(&[rate(1000, vec![Condition::EachSource("0.0.0.0/0".parse().unwrap())])]).unwrap();
        let all: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| passed(&limiter, 7, SECOND, 1000))).collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(all, 1000);
    }

    #[test]
    fn a_full_table_gives_the_fullest_bucket_away() {
        let table: Vec<Bucket> = (0..WAYS).map(|_| Bucket::default()).collect();
        let rate = rate(10, vec![]);
        for key in 1..=WAYS as u64 {
            let (bucket, evicted) = find(&table, key, 0);
            assert!(!evicted);
            (0..=key).for_each(|_| assert!(take(bucket, &rate, 0).passes));
        }
        let (bucket, evicted) = find(&table, 99, 0);
        assert!(evicted && take(bucket, &rate, 0).left == 9, "a new client begins with a full bucket");
        assert!(table.iter().all(|b| b.key.load(Ordering::Relaxed) != 1), "the client that had asked least lost its bucket");
        let later = 3_600_000_000_000;
        assert!(!find(&table, 100, later).1, "buckets that have filled are nobody's loss");
    }
}
