//! How many retries a service port has had lately, as a share of its exchanges.
//!
//! Retries that are *under way* are a poor measure: where endpoints fail within a millisecond, there are hardly ever two at a time, and each exchange takes
//! as many as its policy allows. So they are counted over time, as in Finagle's RetryBudget and GEP-3388. An exchange that is not retried counts nothing
//! here: the service's counters of responses are read when one is retried.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::settings::Budget;

/// Into how many slices an interval is divided; but no slice is shorter than [`SLICE`].
const SLICES: u32 = 100;
const SLICE: Duration = Duration::from_millis(100);

/// The retries of the last seconds.
#[derive(Debug, Default)]
pub struct RetryWindow(Mutex<VecDeque<Slice>>);

#[derive(Debug)]
struct Slice {
    begun: Instant,
    /// The number of exchanges that there had been at its beginning.
    exchanges: u64,
    /// The number of retries that were allowed in it.
    tries: u64,
}

impl RetryWindow {
    /// Takes a retry, if the budget allows one more. `exchanges`: how many there have ever been.
    pub fn take(&self, budget: &Budget, exchanges: u64, now: Instant) -> bool {
        let mut slices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = (budget.interval / SLICES).max(SLICE);
        while slices.front().is_some_and(|slice| now.saturating_duration_since(slice.begun) >= budget.interval) {
            slices.pop_front();
        }
        if slices.back().is_none_or(|slice| now.saturating_duration_since(slice.begun) >= length) {
            slices.push_back(Slice { begun: now, exchanges, tries: 0 });
        }
        let seen = slices.front().map_or(0, |first| exchanges.saturating_sub(first.exchanges));
        let most = budget.most_lately(seen);
        let allowed = slices.iter().map(|slice| slice.tries).sum::<u64>() < most;
        if allowed && let Some(last) = slices.back_mut() {
            last.tries += 1;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many retries are granted of `per_second` exchanges a second, each of which fails at once and wants `wanted` more tries.
    fn granted(per_second: u64, seconds: u64, wanted: u64) -> u64 {
        let (window, begun, mut granted) = (RetryWindow::default(), Instant::now(), 0);
        for n in 0..per_second * seconds {
            let now = begun + Duration::from_micros(n * 1_000_000 / per_second);
            granted += (0..wanted).filter(|_| window.take(&Budget::default(), n, now)).count() as u64;
        }
        granted
    }

    #[test]
    fn answers_that_fail_at_once_get_a_share_and_a_few_get_theirs() {
        let of_many = granted(1_000, 60, 5);
        // A fifth of the exchanges, and ten a second.
        assert!((11_500..=12_800).contains(&of_many), "{of_many} of 60,000");
        assert_eq!(granted(2, 60, 2), 240, "of a service that is rarely asked, all");
        assert_eq!(granted(0, 0, 0), 0);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let (window, begun, budget) = (RetryWindow::default(), Instant::now(), Budget::default());
        let taken = (0..1_000).filter(|_| window.take(&budget, 0, begun)).count();
        assert_eq!(taken, 100);
        assert!(window.take(&budget, 5, begun + Duration::from_millis(1)), "a fifth of five exchanges is one");
        assert!(!window.take(&budget, 9, begun + Duration::from_millis(2)), "and of nine as well");
        assert!(window.take(&budget, 0, begun + budget.interval), "a window later there is room again");
        assert!(window.0.lock().expect("not poisoned").len() <= 2);
    }

    #[test]
    fn an_interval_may_be_longer_and_is_looked_at_in_a_hundred_parts() {
        let (window, begun) = (RetryWindow::default(), Instant::now());
        let budget = Budget { interval: Duration::from_secs(3_600), rate: (1, Duration::from_secs(60)), percent: 0, ..Budget::default() };
        let taken = (0..3_600).filter(|n| window.take(&budget, 0, begun + Duration::from_secs(*n))).count();
        assert_eq!(taken, 60);
        assert!(window.0.lock().expect("not poisoned").len() <= 101);
    }
}
