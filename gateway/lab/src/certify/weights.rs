//! Checks weights as large as they may be, and pools as large: what is right with weights of 1 to 5 and ten endpoints must be right with any. "All weights may be
//! multiplied alike" (the contract, `endpoint.weight`), so the plugin is its own measure.

use std::sync::Arc;

use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::pool::Pool;

use super::asked::{Asked, Counts, Hashed};
use super::fairness::{Fairness, fits};
use super::{Check, Options, Verdict};
use crate::generate::plain;
use crate::subject::Subject;

/// Factors. With them sums pass 16, 24 and 32 bits, and the lowest 16 bits say nothing.
const FACTORS: [u32; 5] = [1_000, 65_537, 1 << 24, 13_000_019, u32::MAX / 5];
/// The number of classes; endpoints of the same weight are one. Six standard deviations of the difference of two shares are put down to chance.
const CLASSES: usize = 5;
/// The number of picks of each measurement, at least and at most.
const PICKS: (u64, u64) = (2_000, 10_000);

pub(super) fn check(subject: &Subject, generation: &WasmBalancer, options: &Options, demand: Fairness, tolerance: f64) -> Check {
    let mut asked = Asked::new(subject, generation, options.seed, 60);
    match wrong(&mut asked, (options.picks / 50).clamp(PICKS.0, PICKS.1), demand, tolerance) {
        Err(failed) => Check::new("weights", Verdict::Failed, failed),
        Ok(Some(seen)) => Check::new("weights", if demand == Fairness::Off { Verdict::Noted } else { Verdict::Failed }, seen),
        Ok(None) => {
            Check::new("weights", Verdict::Passed, "weights up to 4294967295, and those of 1,000 endpoints, count as small ones do")
        }
    }
}

fn wrong(asked: &mut Asked<'_>, picks: u64, demand: Fairness, tolerance: f64) -> Result<Option<String>, String> {
    for hashed in [Hashed::No, Hashed::Yes] {
        let by = if hashed == Hashed::Yes { " by hash" } else { "" };
        let mut share = |pool: &Arc<Pool>| {
            let mut counts = Counts::new(pool.endpoints.len());
            asked.exchanges(pool, hashed, 0, picks, &mut counts)?;
            asked.retain(&[]);
            Ok::<_, String>(counts)
        };
        let class = |counts: &Counts, class: usize| counts.share(|i| i % CLASSES == class);
        let unscaled = |size| plain(size, |i| (i % CLASSES + 1) as u32);
        let (ten, thousand) = (share(&unscaled(10))?, share(&unscaled(1_000))?);
        let shares: Vec<f64> = (0..CLASSES).map(|at| class(&thousand, at)).collect();
        let chance = |share: f64| 6.0 * (2.0 * share.max(0.001) / picks as f64).sqrt();
        if demand != Fairness::Off && shares.windows(2).any(|pair| pair[1] < pair[0] * (1.0 - tolerance) - chance(pair[0])) {
            return Ok(Some(format!(
                "1000 endpoints of weights 1 to 5{by}: those of the same weight get {shares:.3?} of the picks, and heavier ones must not get less"
            )));
        }
        for (size, factor) in FACTORS.map(|factor| (10, factor)).into_iter().chain([(1_000, u32::MAX / 5)]) {
            let small = if size == 10 { &ten } else { &thousand };
            let counts = share(&plain(size, |i| (i % CLASSES + 1) as u32 * factor))?;
            for at in 0..CLASSES {
                let (of_small, of_scaled) = (class(small, at), class(&counts, at));
                if (of_small - of_scaled).abs() > of_small * tolerance + chance(of_small) {
                    return Ok(Some(format!(
                        "{size} endpoints of weights 1 to 5 times {factor}: those of weight {} get {:.1} %{by}, and {:.1} % with weights 1 to 5",
                        at + 1,
                        of_scaled * 100.0,
                        of_small * 100.0
                    )));
                }
            }
        }
        let lists: [(&str, fn(usize) -> u32); 4] = [
            ("all of the largest weight", |_| u32::MAX),
            ("all of weight 2147483648", |_| 1 << 31),
            ("one of the largest weight, the others of 1", |i| if i == 7 { u32::MAX } else { 1 }),
            ("one of weight 0, the others of the largest", |i| if i == 3 { 0 } else { u32::MAX }),
        ];
        for (name, weight) in lists {
            let pool = plain(10, weight);
            let counts = share(&pool)?;
            // The shares are one in ten; six standard deviations are chance.
            if !fits(&pool, &counts.of, demand.in_order(), tolerance + 6.0 / (picks as f64 / 10.0).sqrt()) {
                return Ok(Some(format!("ten endpoints, {name}: they get {:?} of {picks} picks{by}", counts.of)));
            }
        }
    }
    Ok(None)
}
