//! Counters by word, of a table that is fixed when the process is built: a label whose values are bounded.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many words fit.
pub const MOST_WORDS: usize = 64;

/// A counter for each word of a table.
#[derive(Debug)]
pub struct ByWord {
    words: OnceLock<&'static [&'static str]>,
    counts: [AtomicU64; MOST_WORDS],
}

impl Default for ByWord {
    fn default() -> Self {
        Self { words: OnceLock::new(), counts: [const { AtomicU64::new(0) }; MOST_WORDS] }
    }
}

impl ByWord {
    /// Names the counters; only the first call counts.
    pub fn name(&self, words: &'static [&'static str]) {
        self.words.get_or_init(|| words);
    }

    /// Adds one to the counter of a word, by its place in the table.
    pub fn count(&self, word: usize) {
        if let Some(counter) = self.counts.get(word) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All words and their counts.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let words = self.words.get().copied().unwrap_or_default().iter().copied();
        words.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}
