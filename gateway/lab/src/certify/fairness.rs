//! Compares shares with weights. What may be demanded depends on what a policy claims. Random, round-robin and hashes promise shares in proportion to the weights.
//! A least-request balancer promises that of equal, equally idle endpoints none is preferred, and that a heavier one gets no less. So the latter is demanded
//! unless the author says otherwise. The figures are reported in any case.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::plugin::{Balancer as _, PickContext};
use sluicegate_model::pool::Pool;

use super::cases::Cases;
use super::{Check, Options, Verdict};
use crate::generate::{plain, stream};
use crate::subject::Subject;

/// What is demanded of the shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fairness {
    /// Nothing is demanded.
    Off,
    /// Equal endpoints get equal shares, heavier ones no less than lighter ones, and those of weight 0 nothing.
    #[default]
    Equal,
    /// Shares must be in proportion to the weights, too.
    Weights,
}

impl Fairness {
    /// What is demanded if another check looks at proportions: that shares are even and in order.
    pub(super) fn in_order(self) -> Self {
        if self == Self::Weights { Self::Equal } else { self }
    }
}

impl FromStr for Fairness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "equal" => Ok(Self::Equal),
            "weights" => Ok(Self::Weights),
            _ => Err(format!("{text:?} is none of off, equal, weights")),
        }
    }
}

/// How far a share may be off by default: hashing with 160 points an endpoint is off by 8 % on average.
const TOLERANCE: f64 = 0.25;
const PICKS: u64 = 30_000;

/// What is demanded, and the tolerance.
pub(super) fn demanded(options: &Options, cases: Option<&Cases>) -> (Fairness, f64) {
    let demand = options.fairness.or(cases.and_then(|c| c.fairness)).unwrap_or_default();
    (demand, options.tolerance.or(cases.and_then(|c| c.tolerance)).unwrap_or(TOLERANCE))
}

pub(super) fn check(
    subject: &Subject,
    generation: &WasmBalancer,
    seed: u64,
    (demand, tolerance): (Fairness, f64),
    checks: &mut Vec<Check>,
) {
    let weights: [(&str, fn(usize) -> u32); 3] =
        [("equal weights", |_| 1), ("weights 1 to 5", |i| (i % 5 + 1) as u32), ("weights 0 and 1", |i| (i % 2) as u32)];
    for (name, weight) in weights {
        for hashed in [false, true] {
            let name = format!("fairness, {name}{}", if hashed { ", by hash" } else { "" });
            let pool = plain(10, weight);
            let check = match shares(subject, generation, &pool, hashed, seed) {
                Err(reason) => Check::new(&name, Verdict::Failed, reason),
                Ok(counts) => judge(&name, &pool, &counts, demand, tolerance),
            };
            checks.push(check);
        }
    }
}

/// How often each endpoint is picked if each exchange ends well, after a millisecond, and none runs beside it.
fn shares(subject: &Subject, generation: &WasmBalancer, pool: &Arc<Pool>, hashed: bool, seed: u64) -> Result<Vec<u64>, String> {
    let mut instance = generation.seeded(seed);
    let mut random = stream(seed, 3);
    let mut counts = vec![0; pool.endpoints.len()];
    for _ in 0..PICKS {
        let context = PickContext { hash: hashed.then(|| random.next_u64()), attempt: 0, random: None };
        let Some(endpoint) = instance.pick(pool, &subject.config, context).map_err(|e| e.to_string())? else { continue };
        counts[endpoint] += 1;
        let latency = Duration::from_millis(1);
        pool.endpoints[endpoint].stats.observe(true, latency);
        if instance.wants_report() {
            instance.report(pool, endpoint, true, latency).map_err(|e| e.to_string())?;
        }
    }
    Ok(counts)
}

fn judge(name: &str, pool: &Pool, counts: &[u64], demand: Fairness, tolerance: f64) -> Check {
    let weights: Vec<f64> = pool.endpoints.iter().map(|e| f64::from(e.weight)).collect();
    let (total, picked) = (weights.iter().sum::<f64>(), counts.iter().sum::<u64>());
    let Measure { off, chi_squared, degrees } = measure(&weights, counts);
    let idle = idle(&weights, counts);
    let even = is_even(&weights);
    let passed = fits(pool, counts, demand, tolerance);
    let demanded = match demand {
        Fairness::Off => "nothing is demanded".to_owned(),
        Fairness::Equal if !even => format!("heavier ones must not get less, within {:.0} %", tolerance * 100.0),
        _ => format!("{:.0} % may be", tolerance * 100.0),
    };
    let idle = if idle > 0 { format!(", {idle} of {picked} picks went to endpoints of weight 0") } else { String::new() };
    let seen = format!(
        "shares are at most {:.1} % off, chi-squared {chi_squared:.1} of {degrees} degrees of freedom{idle}; {demanded}",
        off * 100.0
    );
    let verdict = match (demand, passed) {
        (Fairness::Off, _) => Verdict::Noted,
        (_, true) => Verdict::Passed,
        (_, false) => Verdict::Failed,
    };
    Check::new(name, verdict, seen).with(serde_json::json!({
        "off": off, "chiSquared": chi_squared, "degreesOfFreedom": degrees, "picks": counts,
        "expected": weights.iter().map(|w| w / total).collect::<Vec<_>>(), "tolerance": tolerance,
    }))
}

/// Whether the shares are as demanded.
pub(super) fn fits(pool: &Pool, counts: &[u64], demand: Fairness, tolerance: f64) -> bool {
    let weights: Vec<f64> = pool.endpoints.iter().map(|e| f64::from(e.weight)).collect();
    let off = measure(&weights, counts).off;
    let served = idle(&weights, counts) == 0 && counts.iter().any(|count| *count > 0);
    match demand {
        Fairness::Off => true,
        Fairness::Equal if is_even(&weights) => off <= tolerance && served,
        Fairness::Equal => served && ascending(&weights, counts, tolerance),
        Fairness::Weights => off <= tolerance && served,
    }
}

/// The number of picks that went to endpoints of weight 0.
fn idle(weights: &[f64], counts: &[u64]) -> u64 {
    counts.iter().zip(weights).filter(|(_, weight)| **weight == 0.0).map(|(count, _)| count).sum()
}

/// Whether all endpoints that have a weight have the same.
fn is_even(weights: &[f64]) -> bool {
    let mut some = weights.iter().filter(|weight| **weight > 0.0);
    let first = some.next();
    some.all(|weight| Some(weight) == first)
}

struct Measure {
    /// The difference between a share and that of its weight, as a part of the latter, where it is largest.
    off: f64,
    /// Pearson's chi-squared.
    chi_squared: f64,
    degrees: usize,
}

fn measure(weights: &[f64], counts: &[u64]) -> Measure {
    let (total, picked) = (weights.iter().sum::<f64>(), counts.iter().sum::<u64>() as f64);
    let weighed = weights.iter().zip(counts).filter(|(weight, _)| **weight > 0.0);
    let parts = weighed.map(|(weight, count)| (picked * weight / total, *count as f64));
    let mut measure = Measure { off: 0.0, chi_squared: 0.0, degrees: 0 };
    for (expected, count) in parts.filter(|(expected, _)| *expected > 0.0) {
        measure.off = measure.off.max((count / expected - 1.0).abs());
        measure.chi_squared += (count - expected).powi(2) / expected;
        measure.degrees += 1;
    }
    measure.degrees = measure.degrees.saturating_sub(1);
    measure
}

/// Whether of each two endpoints the heavier one got no less.
fn ascending(weights: &[f64], counts: &[u64], tolerance: f64) -> bool {
    let pairs = weights.iter().zip(counts);
    pairs.clone().all(|(weight, count)| {
        let lighter = pairs.clone().filter(|(other, _)| *other < weight);
        lighter.into_iter().all(|(_, less)| *count as f64 >= *less as f64 * (1.0 - tolerance))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pearsons_statistic_of_a_known_table() {
        // 60 throws of a die: 5, 8, 9, 8, 10, 20 (expected 10 each): (25+4+1+4+0+100)/10.
        let Measure { off, chi_squared, degrees } = measure(&[1.0; 6], &[5, 8, 9, 8, 10, 20]);
        assert!((chi_squared - 13.4).abs() < 1e-9 && degrees == 5 && (off - 1.0).abs() < 1e-9);
        // An endpoint of weight 0 is not among them.
        assert_eq!(measure(&[0.0, 1.0, 1.0], &[0, 50, 50]).degrees, 1);
    }

    #[test]
    fn what_is_demanded_decides() {
        let verdict =
            |weight: fn(usize) -> u32, counts: &[u64], demand| judge("", &plain(counts.len(), weight), counts, demand, 0.25).verdict;
        let heavier: fn(usize) -> u32 = |i| (i + 1) as u32;
        // With the power of two choices the heaviest gets more than its part.
        assert_eq!(verdict(heavier, &[100, 300, 900], Fairness::Equal), Verdict::Passed);
        assert_eq!(verdict(heavier, &[100, 300, 900], Fairness::Weights), Verdict::Failed);
        assert_eq!(verdict(heavier, &[900, 300, 100], Fairness::Equal), Verdict::Failed);
        assert_eq!(verdict(|_| 1, &[100, 300, 900], Fairness::Equal), Verdict::Failed);
        assert_eq!(verdict(|_| 1, &[100, 300, 900], Fairness::Off), Verdict::Noted);
        assert_eq!(verdict(|i| (i > 0).into(), &[1, 500, 500], Fairness::Equal), Verdict::Failed, "weight 0");
        assert_eq!(verdict(|_| 1, &[0, 0, 0], Fairness::Equal), Verdict::Failed, "it picks none");
    }
}
