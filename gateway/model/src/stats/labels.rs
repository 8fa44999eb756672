//! Counters by the value of a label. The values are those of a table that is fixed when the program is built, so that they are bounded.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of values that a table may have.
pub const MOST_LABELS: usize = 64;

/// A counter for each value of a label.
#[derive(Debug)]
pub struct ByLabel {
    labels: OnceLock<&'static [&'static str]>,
    counts: [AtomicU64; MOST_LABELS],
}

impl Default for ByLabel {
    fn default() -> Self {
        Self { labels: OnceLock::new(), counts: [const { AtomicU64::new(0) }; MOST_LABELS] }
    }
}

impl ByLabel {
    /// Sets the values of the label. Only the first call counts.
    pub fn name(&self, labels: &'static [&'static str]) {
        self.labels.get_or_init(|| labels);
    }

    /// Adds one to the counter of a value, which is named by its place in the table.
    pub fn count(&self, label: usize) {
        if let Some(counter) = self.counts.get(label) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All values with their counts.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let labels = self.labels.get().copied().unwrap_or_default().iter().copied();
        labels.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}
