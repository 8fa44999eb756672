//! How a new generation of a balancer takes over, where its `Plugin` object does not want that at once. As a *shadow* of the live generation it is asked the
//! same, and its answers are not used; as a *canary* it serves a share of the exchanges. Here is what is counted meanwhile, and what follows from it: workers
//! count, control judges.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::counters::Counted;
use crate::stats::{add, count};

/// What a `Plugin` object wants of a new generation: first the shadow, then the canary, then it is live.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rollout {
    /// How the generation is asked in the shadow of the live one; none: it is not.
    pub shadow: Option<Shadow>,
    /// How the generation serves a share of the exchanges; none: it does not.
    pub canary: Option<Canary>,
}

/// A generation is asked what the live one is asked, and its answers are only compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shadow {
    /// How long the generation is asked.
    pub duration: Duration,
    /// The largest share of picks, in percent, in which it may differ from the live generation; none: any share.
    pub max_disagreement: Option<f64>,
}

/// A generation serves a share of the exchanges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canary {
    /// The generation's share of the exchanges, in percent: 1 to 99.
    pub weight: u32,
    /// How long it serves that share. It takes longer if there are too few exchanges meanwhile.
    pub duration: Duration,
    /// How much more of its exchanges may fail than of the live generation's, in percent of all.
    pub max_error_rate_increase: f64,
    /// How much longer its exchanges may take, in percent of the live generation's mean.
    pub max_latency_increase: f64,
    /// The number of exchanges from which on it is judged.
    pub min_requests: u64,
}

/// The number of compared picks from which on a shadow is judged by them.
const MIN_COMPARED: u64 = 100;
/// A difference of two means below this is noise, whatever the percentage.
const NOISE: Duration = Duration::from_millis(1);

/// One of the two generations of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The generation that served before.
    Live,
    /// The generation on trial.
    Candidate,
}

/// How a generation is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// The generation is asked, and its answers are not used.
    Shadow(Shadow),
    /// The generation serves a share of the exchanges.
    Canary(Canary),
}

impl Phase {
    /// The name of the phase: `shadow` or `canary`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shadow(_) => "shadow",
            Self::Canary(_) => "canary",
        }
    }
}

/// One phase of one candidate, shared by all workers.
#[derive(Debug)]
pub struct Trial {
    /// How the candidate is tried.
    pub phase: Phase,
    /// For the live generation and the candidate: exchanges, errors, and the microseconds of the exchanges without error.
    sides: [[AtomicU64; 3]; 2],
    /// The number of picks that were compared, and of those that differed; then the nanoseconds of the live generation's picks, and of the candidate's.
    shadow: [AtomicU64; 4],
}

/// What a trial says so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is too early to say.
    Wait,
    /// The candidate is as good as the live generation.
    Pass,
    /// The candidate is worse, for this reason.
    Fail(String),
}

/// What one generation has served during a canary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Served {
    /// The number of exchanges.
    pub exchanges: u64,
    /// The number of exchanges that failed.
    pub errors: u64,
    /// The time that the other exchanges took together, in microseconds.
    pub us: u64,
}

impl Served {
    fn error_rate(&self) -> f64 {
        100.0 * self.errors as f64 / self.exchanges.max(1) as f64
    }

    /// The mean. It is not a percentile, as the buckets of a histogram are too wide to compare two quantiles, and what takes longest counts as an error.
    fn mean(&self) -> Duration {
        Duration::from_micros(self.us / (self.exchanges - self.errors).max(1))
    }
}

impl Trial {
    /// Begins a trial.
    pub fn new(phase: Phase) -> Self {
        Self { phase, sides: Default::default(), shadow: Default::default() }
    }

    /// Whether the candidate serves an exchange. If the exchange has a hash it decides, so that a key stays with one generation. Else `turn` decides, which the
    /// worker counts up: of each hundred exchanges the candidate gets exactly its share, spread evenly.
    pub fn takes(&self, hash: Option<u64>, turn: u64) -> bool {
        let Phase::Canary(canary) = &self.phase else { return false };
        let weight = u64::from(canary.weight);
        match hash {
            // Balancers use the upper bits of the hash. The lower half is mixed, so that a share of the keys is not a share of the endpoints.
            Some(hash) => (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100 < weight,
            // Bresenham: the sum of weights passes a multiple of 100.
            None => (turn % 100) * weight % 100 + weight >= 100,
        }
    }

    /// Notes the outcome of an exchange.
    pub fn note(&self, side: Side, success: bool, latency: Duration) {
        let [exchanges, errors, us] = &self.sides[side as usize];
        count(exchanges);
        if success {
            add(us, u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        } else {
            count(errors);
        }
    }

    /// Notes a pick of both generations: whether it was the same, and how long each took.
    pub fn compare(&self, same: bool, live: Duration, candidate: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let [compared, differed, of_live, of_candidate] = &self.shadow;
        count(compared);
        add(differed, u64::from(!same));
        add(of_live, nanos(live));
        add(of_candidate, nanos(candidate));
    }

    /// What a generation has served during a canary.
    pub fn served(&self, side: Side) -> Served {
        let [exchanges, errors, us] = &self.sides[side as usize];
        let read = |of: &AtomicU64| of.load(Ordering::Relaxed);
        // Errors are read first, as an exchange is counted before its error.
        let (errors, us) = (read(errors), read(us));
        Served { exchanges: read(exchanges).max(errors), errors, us }
    }

    /// The number of picks that were compared, and of those that differed.
    pub fn compared(&self) -> (u64, u64) {
        let differed = self.shadow[1].load(Ordering::Relaxed);
        (self.shadow[0].load(Ordering::Relaxed).max(differed), differed)
    }

    /// The verdict after so much time.
    pub fn verdict(&self, elapsed: Duration) -> Verdict {
        match &self.phase {
            Phase::Shadow(shadow) => self.judge_shadow(shadow, elapsed),
            Phase::Canary(canary) => self.judge_canary(canary, elapsed),
        }
    }

    fn judge_shadow(&self, shadow: &Shadow, elapsed: Duration) -> Verdict {
        let (compared, differed) = self.compared();
        let share = 100.0 * differed as f64 / compared.max(1) as f64;
        if compared >= MIN_COMPARED
            && let Some(most) = shadow.max_disagreement.filter(|most| share > *most)
        {
            return Verdict::Fail(format!("{share:.1} % of its picks differ from those of the generation that serves, and {most} % may"));
        }
        // A shadow that was asked nothing has shown nothing.
        if elapsed >= shadow.duration && compared > 0 { Verdict::Pass } else { Verdict::Wait }
    }

    fn judge_canary(&self, canary: &Canary, elapsed: Duration) -> Verdict {
        let (live, candidate) = (self.served(Side::Live), self.served(Side::Candidate));
        if candidate.exchanges < canary.min_requests {
            return Verdict::Wait;
        }
        if candidate.error_rate() > live.error_rate() + canary.max_error_rate_increase {
            return Verdict::Fail(format!(
                "{:.2} % of its exchanges failed, and {:.2} % of those of the generation that serves; {} more may",
                candidate.error_rate(),
                live.error_rate(),
                canary.max_error_rate_increase
            ));
        }
        let most = live.mean().mul_f64(1.0 + canary.max_latency_increase / 100.0).max(live.mean() + NOISE);
        if live.exchanges > live.errors && candidate.mean() > most {
            return Verdict::Fail(format!(
                "its exchanges took {:?} on average, and those of the generation that serves {:?}; {} % more are allowed",
                candidate.mean(),
                live.mean(),
                canary.max_latency_increase
            ));
        }
        if elapsed >= canary.duration { Verdict::Pass } else { Verdict::Wait }
    }
}

/// The counters are exchanges, errors and microseconds of the live generation, the same of the candidate; then picks that were compared, picks that
/// differed, and the nanoseconds of both.
impl Counted<10> for Trial {
    fn counts(&self) -> [u64; 10] {
        let mut counts = [0; 10];
        let all = self.sides.iter().flatten().chain(&self.shadow);
        counts.iter_mut().zip(all).for_each(|(count, counter)| *count = counter.load(Ordering::Relaxed));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary() -> Canary {
        let duration = Duration::from_secs(60);
        Canary { weight: 10, duration, max_error_rate_increase: 1.0, max_latency_increase: 20.0, min_requests: 50 }
    }

    fn trial(live: (u64, u64, u64), candidate: (u64, u64, u64)) -> Trial {
        let trial = Trial::new(Phase::Canary(canary()));
        for (side, (exchanges, errors, ms)) in [(Side::Live, live), (Side::Candidate, candidate)] {
            (0..exchanges).for_each(|i| trial.note(side, i >= errors, Duration::from_millis(ms)));
        }
        trial
    }

    #[test]
    fn a_canary_gets_its_share_exactly_and_spread_evenly() {
        for weight in [1, 10, 33, 50, 99] {
            let trial = Trial::new(Phase::Canary(Canary { weight, ..canary() }));
            let taken: Vec<u64> = (0..100).filter(|turn| trial.takes(None, *turn)).collect();
            assert_eq!(taken.len(), weight as usize);
            let gaps: Vec<u64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
            if let (Some(least), Some(most)) = (gaps.iter().min(), gaps.iter().max()) {
                assert!(most - least <= 1, "{weight}: {gaps:?}");
            }
        }
    }

    #[test]
    fn a_key_stays_with_one_generation() {
        let trial = Trial::new(Phase::Canary(canary()));
        let keys: Vec<u64> = (0..20_000_u64).map(|i| crate::plugin::hash_bytes(&i.to_le_bytes())).collect();
        let taken = keys.iter().filter(|key| trial.takes(Some(**key), 0)).count();
        assert!((1_800..2_200).contains(&taken), "{taken}");
        assert!(keys.iter().all(|key| trial.takes(Some(*key), 0) == trial.takes(Some(*key), 7)));
        assert!(!Trial::new(Phase::Shadow(Shadow { duration: Duration::ZERO, max_disagreement: None })).takes(None, 0));
    }

    #[test]
    fn a_canary_is_judged_by_errors_and_latency_once_there_are_enough_exchanges() {
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(trial((900, 0, 10), (49, 49, 10)).verdict(late), Verdict::Wait, "too few");
        assert_eq!(trial((900, 9, 10), (100, 2, 10)).verdict(early), Verdict::Wait);
        assert_eq!(trial((900, 9, 10), (100, 2, 10)).verdict(late), Verdict::Pass);
        let Verdict::Fail(why) = trial((900, 0, 10), (100, 2, 10)).verdict(early) else { panic!("2 % fail") };
        assert_eq!(why, "2.00 % of its exchanges failed, and 0.00 % of those of the generation that serves; 1 more may");
        let Verdict::Fail(why) = trial((900, 0, 10), (100, 0, 13)).verdict(early) else { panic!("30 % longer") };
        assert_eq!(why, "its exchanges took 13ms on average, and those of the generation that serves 10ms; 20 % more are allowed");
        assert_eq!(trial((900, 0, 1), (100, 0, 2)).verdict(late), Verdict::Pass, "a millisecond is noise");
        assert_eq!(trial((0, 0, 0), (100, 0, 500)).verdict(late), Verdict::Pass, "nothing to compare with");
    }

    #[test]
    fn a_shadow_passes_after_its_time_if_it_was_asked_and_agrees_enough() {
        let shadow = Shadow { duration: Duration::from_secs(60), max_disagreement: Some(10.0) };
        let trial = Trial::new(Phase::Shadow(shadow));
        assert_eq!(trial.verdict(Duration::from_secs(61)), Verdict::Wait, "it was asked nothing");
        (0..99).for_each(|_| trial.compare(false, Duration::ZERO, Duration::ZERO));
        assert_eq!(trial.verdict(Duration::from_secs(1)), Verdict::Wait, "too few to judge by");
        trial.compare(true, Duration::ZERO, Duration::ZERO);
        assert!(matches!(trial.verdict(Duration::from_secs(1)), Verdict::Fail(why) if why.starts_with("99.0 %")));
        let trial = Trial::new(Phase::Shadow(Shadow { max_disagreement: None, ..shadow }));
        trial.compare(false, Duration::from_nanos(5), Duration::from_nanos(7));
        assert_eq!(trial.verdict(Duration::from_secs(61)), Verdict::Pass);
        assert_eq!(trial.counts(), [0, 0, 0, 0, 0, 0, 1, 1, 5, 7]);
    }
}
