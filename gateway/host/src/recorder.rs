//! What one pick drew and read. It is written down for recordings, and played back by tools.

use std::collections::VecDeque;

use rand::Rng;
use sluicegate_model::record::MOST_KEPT;
use sluicegate_model::stats::Sight;

/// The recorder of one pick. The guest is told exactly what is written here: of each endpoint what was seen first.
#[derive(Debug, Default)]
pub struct SampleRecorder {
    playing: VecDeque<u64>,
    /// The random bits, in their order.
    pub random: Vec<u64>,
    /// The statistics with the endpoints' indices, in the order in which they were read.
    pub seen: Vec<(u32, Sight)>,
    /// Whether there was more than is kept.
    pub cut: bool,
}

impl SampleRecorder {
    /// Plays back these random bits, in their order, and then draws new ones.
    pub(crate) fn playing(random: Vec<u64>) -> Self {
        Self { playing: random.into(), ..Self::default() }
    }

    pub(crate) fn random(&mut self, fresh: &mut impl Rng) -> u64 {
        let random = self.playing.pop_front().unwrap_or_else(|| fresh.next_u64());
        if self.random.len() < MOST_KEPT {
            self.random.push(random);
        } else {
            self.cut = true;
        }
        random
    }

    /// What the guest sees of an endpoint.
    pub(crate) fn sight(&mut self, endpoint: u32, now: impl FnOnce() -> Sight) -> Sight {
        if let Some((_, known)) = self.seen.iter().find(|(index, _)| *index == endpoint) {
            return *known;
        }
        let sight = now();
        if self.seen.len() < MOST_KEPT {
            self.seen.push((endpoint, sight));
        } else {
            self.cut = true;
        }
        sight
    }
}
