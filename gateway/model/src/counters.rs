//! Sums of counters whose owners come and go, such as endpoints and generations of plugins: a Prometheus counter must only grow.

use std::sync::{Arc, Mutex, PoisonError};

/// Something that has counters.
pub trait Counted<const N: usize> {
    /// The counters as they are now.
    fn counts(&self) -> [u64; N];
}

/// The sums over all owners there have been. Control writes them and scrapes read them; no request comes here.
#[derive(Debug)]
pub struct Counters<T, const N: usize>(Mutex<Inner<T, N>>);

#[derive(Debug)]
struct Inner<T, const N: usize> {
    past: [u64; N],
    owners: Vec<Arc<T>>,
    /// At this number of owners those are looked for that are gone. It is twice the number that was left the last time, so that each owner costs the same,
    /// even if there are 100,000.
    look_at: usize,
}

/// With fewer owners none that are gone are looked for.
const FEW: usize = 16;

impl<T, const N: usize> Default for Counters<T, N> {
    fn default() -> Self {
        Self(Mutex::new(Inner { past: [0; N], owners: Vec::new(), look_at: FEW }))
    }
}

impl<T: Counted<N>, const N: usize> Counters<T, N> {
    /// Counts one more owner. Owners that nobody else holds are dropped, and their counters kept as a sum.
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

    /// The sums.
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
        // An owner that is still held counts on.
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
        // It takes 0.1 s in an unoptimized build. If each owner looked at all others, it would take minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(all);
        (0..200_000).for_each(|_| counters.join(Arc::default()));
        assert!(counters.0.lock().expect("not poisoned").owners.len() <= FEW);
    }
}
