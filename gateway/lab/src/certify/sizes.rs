//! Checks pools of each size at which code goes wrong: small ones, and around each power of two up to 10,000 endpoints. All endpoints are equal, healthy and idle,
//! so that none may be left out and none preferred, whatever the policy is. It holds for retries as for first tries.

use std::sync::Arc;
use std::time::Duration;

use sluicegate_model::plugin::PickContext;
use sluicegate_model::pool::Pool;

use super::asked::{Asked, Counts, Hashed};
use super::balancer::cpu;
use super::fairness::Fairness;
use super::{Check, Options, Verdict};
use crate::generate::plain;

/// The number of picks for each endpoint of small pools, on average.
const EACH_OF_SMALL: u64 = 400;
/// The size of the largest small pool.
const SMALL: usize = 65;
/// The number of picks for each endpoint of other pools. Large pools get only as many as it takes to see all endpoints.
const EACH: u64 = 40;
/// Larger pools get so many only if they are the largest.
const LARGE: usize = 1_100;
/// The size of the largest pool.
const LARGEST: usize = 10_000;
/// An endpoint that gets its share, less the tolerance, is not seen in so many picks for each endpoint once in 10^9 times.
const UNSEEN: u64 = 28;
/// The longest time for one size, with a balancer that looks at each endpoint for each pick.
const PATIENCE: Duration = Duration::from_secs(2);
/// When all sizes so far took this long together, each further one has only the short time. Both are processor time of this thread, so that a busy machine
/// changes nothing.
const ALL_PATIENCE: Duration = Duration::from_secs(20);
const SHORT_PATIENCE: Duration = Duration::from_millis(100);
/// The part of the picks that are asked for.
const OF_ALL: u64 = 12;
/// How many standard deviations are put down to chance.
const CHANCE: f64 = 6.0;

/// Bits with which arithmetic goes wrong.
const EDGES: [u64; 8] = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, u32::MAX as u64, 1 << 32];

/// The sizes: 1 to 17, then each power of two and the numbers before and after it.
pub(super) fn all() -> Vec<usize> {
    let around = (5..14).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]);
    (1..=17).chain(around).chain([100, 1_000, LARGEST - 1, LARGEST]).collect()
}

/// Checks all sizes with first tries.
pub(super) fn check(asked: &mut Asked<'_>, options: &Options, demand: Fairness, tolerance: f64) -> Check {
    // With fewer picks a large pool would show nothing.
    let sizes: Vec<usize> = options.sizes.iter().copied().filter(|size| *size as u64 * 4 <= options.picks).collect();
    let mut judged = Judge::new(options, demand, tolerance);
    for &size in &sizes {
        if let Err(failed) = judged.size(asked, size) {
            return Check::new("sizes", Verdict::Failed, failed);
        }
    }
    judged.verdict("sizes", &format!("{} sizes up to {}", sizes.len(), sizes.iter().max().copied().unwrap_or_default()))
}

/// Checks retries.
pub(super) fn retries(asked: &mut Asked<'_>, options: &Options, demand: Fairness, tolerance: f64) -> Check {
    let mut judged = Judge::new(options, demand, tolerance);
    let attempts = [1, 2, 3, 10, u32::MAX];
    for size in [2, 3, 10, 200] {
        let pool = plain(size, |_| 1);
        for attempt in attempts {
            for hashed in [Hashed::No, Hashed::Yes] {
                if let Err(failed) = judged.even(asked, &pool, hashed, attempt) {
                    return Check::new("retries", Verdict::Failed, failed);
                }
            }
        }
    }
    judged.verdict("retries", "attempts 1, 2, 3, 10 and 4294967295")
}

struct Judge {
    demand: Fairness,
    tolerance: f64,
    /// What is demanded and not kept.
    wrong: Vec<String>,
    picks: u64,
    /// The largest number of picks for one size.
    most: u64,
    begun: Duration,
}

impl Judge {
    fn new(options: &Options, demand: Fairness, tolerance: f64) -> Self {
        Self { demand, tolerance, wrong: Vec::new(), picks: 0, most: options.picks / OF_ALL, begun: cpu() }
    }

    fn verdict(self, name: &str, what: &str) -> Check {
        let Self { demand, wrong, picks, .. } = self;
        let figures = serde_json::json!({"picks": picks, "wrong": wrong});
        let (verdict, seen) = match (wrong.as_slice(), demand) {
            ([], _) => (Verdict::Passed, format!("{what}: each endpoint is picked, and none preferred, in {picks} picks")),
            ([first, more @ ..], demand) => {
                let more = if more.is_empty() { String::new() } else { format!("; and {} more", more.len()) };
                let verdict = if demand == Fairness::Off { Verdict::Noted } else { Verdict::Failed };
                (verdict, format!("{first}{more}"))
            }
        };
        Check::new(name, verdict, seen).with(figures)
    }

    fn size(&mut self, asked: &mut Asked<'_>, size: usize) -> Result<(), String> {
        let pool = plain(size, |_| 1);
        self.edges(asked, &pool)?;
        self.even(asked, &pool, Hashed::No, 0)?;
        self.even(asked, &pool, Hashed::Yes, 0)?;
        asked.retain(&[]);
        Ok(())
    }

    /// Whatever the bits are, the index must be one of the pool.
    fn edges(&mut self, asked: &mut Asked<'_>, pool: &Arc<Pool>) -> Result<(), String> {
        let mut counts = Counts::new(pool.endpoints.len());
        for random in EDGES {
            for hash in EDGES.into_iter().map(Some).chain([None]) {
                for attempt in [0, 1, u32::MAX] {
                    counts.add(asked.exchange(pool, PickContext { hash, attempt, random: Some(random) })?);
                }
            }
        }
        self.declined(&counts, "hashes and random bits of zeros, of ones and of one bit");
        Ok(())
    }

    /// Asks until each endpoint has had its chance, and compares.
    fn even(&mut self, asked: &mut Asked<'_>, pool: &Arc<Pool>, hashed: Hashed, attempt: u32) -> Result<(), String> {
        let size = pool.endpoints.len();
        let n = size as u64;
        let thorough = size < LARGE || (size == LARGEST && hashed == Hashed::No);
        let (least, most) = match hashed {
            _ if size <= SMALL => (EACH_OF_SMALL * n, EACH_OF_SMALL * n),
            _ if thorough => (EACH * n, EACH * n),
            Hashed::No => (n, UNSEEN * n),
            Hashed::Yes => (20_000, 20_000),
        };
        let (least, most) = (least, most.min(self.most));
        let (begun, mut counts) = (cpu(), Counts::new(size));
        let patience = if begun.saturating_sub(self.begun) > ALL_PATIENCE { SHORT_PATIENCE } else { PATIENCE };
        while counts.picks < most {
            asked.exchanges(pool, hashed, attempt, 500.min(most - counts.picks), &mut counts)?;
            let all_seen = !thorough && hashed == Hashed::No && counts.picks >= least && counts.of.iter().all(|count| *count > 0);
            if all_seen || cpu().saturating_sub(begun) > patience {
                break;
            }
        }
        let of = match (hashed, attempt) {
            (Hashed::No, 0) => String::new(),
            (Hashed::Yes, 0) => " by hash".to_owned(),
            (Hashed::No, attempt) => format!(" at attempt {attempt}"),
            (Hashed::Yes, attempt) => format!(" by hash at attempt {attempt}"),
        };
        self.declined(&counts, &format!("equal, healthy and idle endpoints{of}"));
        self.endpoints(&counts, hashed, attempt, &of);
        if hashed == Hashed::No || attempt == 0 {
            self.blocks(&counts, &of);
        }
        self.picks += counts.picks;
        Ok(())
    }

    fn declined(&mut self, counts: &Counts, of: &str) {
        if counts.declined > 0 {
            self.wrong.push(format!("pool of {}: {} of {} picks of none, with {of}", counts.of.len(), counts.declined, counts.picks));
        }
    }

    /// Compares each endpoint by itself.
    fn endpoints(&mut self, counts: &Counts, hashed: Hashed, attempt: u32, of: &str) {
        let n = counts.of.len();
        let expected = counts.picks as f64 / n as f64;
        let bound = |part: f64| (expected * part, CHANCE * (expected * part).sqrt());
        let (high, low) = (bound(1.0 + self.tolerance), bound(1.0 - self.tolerance));
        // The shares that hashes give in large pools depend on the ring's points, and on chance.
        if n > SMALL && hashed == Hashed::Yes {
            return;
        }
        // The policy decides which endpoint follows if a key's own cannot be used. Each endpoint must get some keys, and no flood.
        let follows = hashed == Hashed::Yes && attempt > 0;
        let unseen = |count: u64| count == 0 && counts.picks >= UNSEEN * n as u64;
        let unlucky = |count: u64| unseen(count) || (!follows && (count as f64) < low.0 - low.1);
        let most = if follows { high.0 * 3.0 } else { high.0 };
        let lucky = |count: u64| count as f64 > most + high.1 + 3.0;
        for (what, wrong) in [
            ("less", counts.of.iter().enumerate().filter(|(_, count)| unlucky(**count)).collect::<Vec<_>>()),
            ("more", counts.of.iter().enumerate().filter(|(_, count)| lucky(**count)).collect()),
        ] {
            if let Some((index, count)) = wrong.first() {
                let seen = format!("endpoint {index} got {count} of {} picks{of}, {what} than its share of {expected:.0}", counts.picks);
                let others = if wrong.len() > 1 { format!(", and so with {} others", wrong.len() - 1) } else { String::new() };
                self.wrong.push(format!("pool of {n}: {seen}{others}"));
            }
        }
    }

    /// Compares sixteenths of the pool, in its order and by the last four bits of the index: there small differences of each endpoint add up.
    fn blocks(&mut self, counts: &Counts, of: &str) {
        let n = counts.of.len();
        if n < 64 {
            return;
        }
        for (what, block) in [("sixteenth", (|i, n| i * 16 / n) as fn(usize, usize) -> usize), ("class of 16", |i, _| i % 16)] {
            let (mut sums, mut sizes) = ([0_u64; 16], [0_usize; 16]);
            for (i, count) in counts.of.iter().enumerate() {
                sums[block(i, n)] += count;
                sizes[block(i, n)] += 1;
            }
            for (at, (sum, size)) in sums.into_iter().zip(sizes).enumerate() {
                let expected = counts.picks as f64 * size as f64 / n as f64;
                // A balancer that takes turns may be in the middle of a round: that is one pick of each.
                let allowed = expected * self.tolerance + CHANCE * expected.sqrt() + size as f64;
                if (sum as f64 - expected).abs() > allowed {
                    let seen =
                        format!("{what} {at} of its endpoints got {sum} of {} picks{of}, and its share is {expected:.0}", counts.picks);
                    return self.wrong.push(format!("pool of {n}: {seen}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_power_of_two_and_its_neighbours_are_among_the_sizes() {
        let all = all();
        for power in 0..14 {
            for size in [(1 << power) - 1, 1 << power, (1 << power) + 1] {
                assert!(size == 0 || all.contains(&size), "{size}");
            }
        }
        assert!(all.contains(&LARGEST));
    }
}
