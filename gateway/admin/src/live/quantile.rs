//! Times of the last seconds as a distribution: the counts of a histogram's buckets, of which the older weigh less.

use sluicegate_model::stats::{BOUNDS_US, Histogram};

/// The buckets of a [`Histogram`].
const BUCKETS: usize = BOUNDS_US.len() + 1;
/// Below this weight there is nothing to tell a quantile from.
const LEAST: f32 = 0.05;

/// What a histogram has counted of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Lately {
    counted: [u64; BUCKETS],
    weights: [f32; BUCKETS],
}

impl Lately {
    /// Takes in what was counted since the last time. `fade`: how much of what was known still counts.
    pub(super) fn note(&mut self, histogram: &Histogram, fade: f32) {
        let buckets = histogram.buckets();
        for ((counted, weight), (_, now)) in self.counted.iter_mut().zip(&mut self.weights).zip(buckets) {
            *weight = *weight * fade + now.saturating_sub(*counted) as f32;
            *counted = now;
        }
    }

    /// Adds what another one knows.
    pub(super) fn add(&mut self, other: &Self) {
        self.weights.iter_mut().zip(other.weights).for_each(|(weight, more)| *weight += more);
    }

    /// The same without what is known of times: from here on they count.
    pub(super) fn forgetting(&self) -> Self {
        Self { counted: self.counted, weights: [0.0; BUCKETS] }
    }

    /// Whether all that was counted has faded.
    pub(super) fn is_still(&self) -> bool {
        self.weights.iter().sum::<f32>() < LEAST
    }

    /// A quantile in milliseconds, evenly spread within its bucket; none: nothing was counted of late.
    pub(super) fn quantile(&self, share: f32) -> Option<f32> {
        let all: f32 = self.weights.iter().sum();
        if all < LEAST {
            return None;
        }
        let mut left = all * share;
        let mut below = 0.0;
        for (weight, bound) in self.weights.iter().zip(BOUNDS_US) {
            let bound = bound as f32 / 1e3;
            if *weight > 0.0 && *weight >= left {
                return Some(below + (bound - below) * left / weight);
            }
            left -= weight;
            below = bound;
        }
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_last_seconds() {
        let (histogram, mut lately) = (Histogram::default(), Lately::default());
        assert_eq!(lately.quantile(0.5), None);
        for _ in 0..98 {
            histogram.observe(Duration::from_micros(700));
        }
        histogram.observe(Duration::from_millis(40));
        histogram.observe(Duration::from_secs(100));
        lately.note(&histogram, 0.5);
        let (half, most) = (lately.quantile(0.5).unwrap(), lately.quantile(0.99).unwrap());
        assert!((0.5..=1.0).contains(&half) && (25.0..=50.0).contains(&most), "{half} {most}");
        assert_eq!(lately.quantile(1.0), Some(60_000.0), "above the last bound there is nothing to tell it from");
        let mut both = Lately::default();
        both.add(&lately);
        assert_eq!(both.quantile(0.5), lately.quantile(0.5));
        for _ in 0..20 {
            lately.note(&histogram, 0.5);
        }
        assert!(lately.is_still() && lately.quantile(0.5).is_none(), "it has faded");
    }
}
