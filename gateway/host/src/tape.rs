//! The random bits of one pick, played back.

use std::collections::VecDeque;

use rand::Rng;

/// What stands between a guest and its generator.
pub(crate) struct Tape {
    playing: VecDeque<u64>,
}

impl Tape {
    /// Gives these, in their order, and then new ones.
    pub(crate) fn playing(random: Vec<u64>) -> Self {
        Self { playing: random.into() }
    }

    pub(crate) fn random(&mut self, fresh: &mut impl Rng) -> u64 {
        self.playing.pop_front().unwrap_or_else(|| fresh.next_u64())
    }
}
