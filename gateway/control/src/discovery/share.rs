//! How much control takes of what a plugin publishes, as each time pools are made anew and workers are told. A change after a quiet while is taken at once.
//! A plugin that publishes without end is heard from time to time, and then only the newest set of endpoints of each target counts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sluicegate_model::discovery::Key;

/// How often a target's endpoints are taken at once, and in a second: as often as control publishes endpoints at all, so that a rolling update, in which they
/// change many times in a row, is served as promptly as one change. What that may cost is limited by the number of endpoints, and by control's own time.
const OF_TARGET: (f64, f64) = (5.0, 50.0);
/// How often something is taken from a plugin at once, and in a second.
const TIMES: (f64, f64) = (32.0, 50.0);
/// How many endpoints are taken from a plugin at once, and in a second.
pub(super) const ENDPOINTS: (f64, f64) = (200_000.0, 100_000.0);

/// The share of a plugin.
pub(super) struct Share {
    times: Bucket,
    endpoints: Bucket,
    /// Targets that were taken lately.
    lately: HashMap<Key, Bucket>,
}

impl Share {
    pub(super) fn new(now: Instant) -> Self {
        Self { times: Bucket::new(TIMES, now), endpoints: Bucket::new(ENDPOINTS, now), lately: HashMap::new() }
    }

    /// When something is taken from the plugin, which may be now.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        self.lately.retain(|_, bucket| !bucket.is_full(now));
        self.times.due(now).max(self.endpoints.due(now))
    }

    /// When something is taken for one of its targets.
    pub(super) fn due_of(&mut self, target: &Key, now: Instant) -> Instant {
        self.lately.get_mut(target).map_or(now, |bucket| bucket.due(now))
    }

    /// Notes what was taken: for these targets, each with so many endpoints.
    pub(super) fn took(&mut self, targets: impl IntoIterator<Item = (Key, usize)>, now: Instant) {
        self.times.tokens -= 1.0;
        for (target, endpoints) in targets {
            #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
            let endpoints = endpoints as f64;
            self.endpoints.tokens -= endpoints;
            self.lately.entry(target).or_insert_with(|| Bucket::new(OF_TARGET, now)).tokens -= 1.0;
        }
    }
}

/// A bucket of tokens that may be overdrawn once.
struct Bucket {
    tokens: f64,
    most: f64,
    a_second: f64,
    at: Instant,
}

impl Bucket {
    fn new((most, a_second): (f64, f64), at: Instant) -> Self {
        Self { tokens: most, most, a_second, at }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.at).as_secs_f64();
        (self.tokens, self.at) = ((self.tokens + elapsed * self.a_second).min(self.most), now);
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.most
    }

    fn due(&mut self, now: Instant) -> Instant {
        self.fill(now);
        // A little more than nothing, so that the wait is not shorter than the clock can tell.
        if self.tokens > 0.0 { now } else { now + Duration::from_secs_f64(0.001 - self.tokens / self.a_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_flood_is_heard_once_a_second_and_a_change_at_once() {
        let (start, mut heard) = (Instant::now(), Vec::new());
        let mut share = Share::new(start);
        for ms in (0..10_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            if share.due(now) <= now && share.due_of(&key("a"), now) <= now {
                share.took([(key("a"), 100_000)], now);
                heard.push(ms);
            }
        }
        assert!(heard.len() <= 13 && heard[0] == 0, "{heard:?}");
        let now = start + Duration::from_secs(20);
        assert!(share.due(now) <= now && share.due_of(&key("a"), now) <= now, "after a quiet while");
    }

    #[test]
    fn many_small_words_are_taken_together() {
        let (start, mut heard) = (Instant::now(), 0);
        let mut share = Share::new(start);
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            if share.due(now) <= now {
                share.took([(key(&ms.to_string()), 1)], now);
                heard += 1;
            }
        }
        assert!((400..=540).contains(&heard), "{heard}");
        assert!(share.lately.len() < 300, "only those of late are remembered");
    }

    #[test]
    fn endpoints_that_change_every_25_ms_are_heard_at_once_each_time() {
        let start = Instant::now();
        let mut share = Share::new(start);
        for number in 0..1_000 {
            let now = start + Duration::from_millis(25 * number);
            assert!(share.due(now) <= now && share.due_of(&key("a"), now) <= now, "change {number} waits");
            share.took([(key("a"), 10)], now);
        }
    }

    #[test]
    fn a_target_waits_for_its_turn_and_holds_up_no_other() {
        let now = Instant::now();
        let mut share = Share::new(now);
        for _ in 0..5 {
            assert_eq!(share.due_of(&key("a"), now), now, "a few changes in a row are no flood");
            share.took([(key("a"), 1)], now);
        }
        assert!(share.due_of(&key("a"), now) > now && share.due_of(&key("b"), now) == now);
        let later = now + Duration::from_millis(21);
        assert_eq!(share.due_of(&key("a"), later), later);
    }
}
