//! Sums of counters whose owners come and go, such as endpoints and generations of plugins: a Prometheus counter must only grow.

use std::sync::{Arc, Mutex, PoisonError};

/// What counts.
pub trait Counted<const N: usize> {
    /// Its counters now.
    fn counts(&self) -> [u64; N];
}

/// The sum over all owners there have been. Written by control and read by scrapes: nothing of it is on a request's path.
#[derive(Debug)]
pub struct Counters<T, const N: usize>(Mutex<Inner<T, N>>);

#[derive(Debug)]
struct Inner<T, const N: usize> {
    past: [u64; N],
    owners: Vec<Arc<T>>,
    /// So many owners are looked through for those that are gone: twice as many as were left the last time, so that what joins costs the same each,
    /// were there 100,000.
    look_at: usize,
}

/// Fewer owners are not looked through.
const FEW: usize = 16;

impl<T, const N: usize> Default for Counters<T, N> {
    fn default() -> Self {
        Self(Mutex::new(Inner { past: [0; N], owners: Vec::new(), look_at: FEW }))
    }
}

impl<T: Counted<N>, const N: usize> Counters<T, N> {
    /// Counts one more. Those that nobody else holds count no further, and only their sum is kept.
    pub fn join(&self, owner: Arc<T>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { past, owners, look_at } = &mut *inner;
        if owners.len() >= *look_at {
            owners.retain(|owner| {
                let counts = Arc::strong_count(owner) > 1;
                if !counts {
                    add(past, owner.counts());
                }
                counts
            });
            *look_at = (owners.len() * 2).max(FEW);
        }
        owners.push(owner);
    }

    /// The sum.
    pub fn counts(&self) -> [u64; N] {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = inner.past;
        inner.owners.iter().for_each(|owner| add(&mut sum, owner.counts()));
        sum
    }
}

fn add<const N: usize>(sum: &mut [u64; N], more: [u64; N]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::EndpointStats;

    #[test]
    fn a_sum_keeps_what_its_owners_counted_and_not_the_owners() {
        let counters = Counters::<EndpointStats, 1>::default();
        for round in 1..=100 {
            let stats = Arc::new(EndpointStats::default());
            counters.join(stats.clone());
            stats.begin();
            assert_eq!(counters.counts(), [round]);
        }
        assert!(counters.0.lock().expect("not poisoned").owners.len() <= FEW);
        // One that is still held counts on.
        let held = Arc::new(EndpointStats::default());
        counters.join(held.clone());
        counters.join(Arc::default());
        held.begin();
        assert_eq!(counters.counts(), [101]);
    }

    #[test]
    fn a_hundred_thousand_owners_join_in_no_time() {
        let counters = Counters::<EndpointStats, 1>::default();
        let all: Vec<Arc<EndpointStats>> = (0..100_000).map(|_| Arc::default()).collect();
        let begun = std::time::Instant::now();
        all.iter().for_each(|owner| counters.join(owner.clone()));
        // 0.1 s in an unoptimized build; each that looked at all others would make it minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(all);
        (0..200_000).for_each(|_| counters.join(Arc::default()));
        assert!(counters.0.lock().expect("not poisoned").owners.len() <= FEW);
    }
}
