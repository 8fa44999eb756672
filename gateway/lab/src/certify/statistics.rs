//! Checks whether a balancer that goes by endpoints' statistics sees them change. They change with each exchange, without any update; a balancer that reads them once
//! sends all requests to what was idle then. The plugin is its own measure: where it has served before the change, its shares must come near to those of a fresh
//! instance that knows only the present state.

use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::health::Condition;
use sluicegate_model::pool::Pool;
use sluicegate_model::stats::Sight;

use super::asked::{Asked, Counts, Hashed};
use super::{Check, Options, Verdict};
use crate::generate::plain;
use crate::subject::Subject;

/// The number of picks before the change, and of each measurement, at least and at most.
const PICKS: (u64, u64) = (500, 2_000);
/// The number of picks for each endpoint, on average, until a change must have shown.
const SMOOTHING: u64 = 100;
/// How far two shares may be apart and still count as the same: a figure that changes nothing is not read.
const APART: f64 = 0.1;

const GOOD: Sight = Sight { in_flight: 1, latency_us: 1_000, success: 1.0, condition: Condition::Healthy };
const KINDS: [(&str, Sight); 5] = [
    ("exchanges under way", Sight { in_flight: 1_000, ..GOOD }),
    ("latency", Sight { latency_us: 1_000_000, ..GOOD }),
    ("successes", Sight { success: 0.0, ..GOOD }),
    ("health", Sight { condition: Condition::Ejected, ..GOOD }),
    ("warming up", Sight { condition: Condition::Warming, ..GOOD }),
];

pub(super) fn check(subject: &Subject, generation: &WasmBalancer, options: &Options) -> Check {
    let picks = (options.picks / 60).clamp(PICKS.0, PICKS.1);
    let mut read = Vec::new();
    for (name, bad) in KINDS {
        for size in [10, 100] {
            for hashed in [Hashed::No, Hashed::Yes] {
                match follows(|| Asked::new(subject, generation, options.seed, 40), picks, size, hashed, bad) {
                    Err(failed) => return Check::new("statistics", Verdict::Failed, failed),
                    Ok(Followed::Frozen { was, is, must }) => {
                        let seen = format!(
                            "pool of {size}: when half of the endpoints change in {name}, their share was {:.0} %, is {:.0} %, and a fresh instance gives them {:.0} %: it reads statistics as if they never changed",
                            was * 100.0,
                            is * 100.0,
                            must * 100.0
                        );
                        return Check::new("statistics", Verdict::Failed, seen);
                    }
                    Ok(Followed::Yes) if !read.contains(&name) => read.push(name),
                    Ok(_) => {}
                }
            }
        }
    }
    let seen = if read.is_empty() { "none of them changes its shares".to_owned() } else { format!("it follows {}", read.join(", ")) };
    Check::new("statistics", Verdict::Passed, seen).with(serde_json::json!({"follows": read}))
}

enum Followed {
    /// The figure changes nothing.
    Unread,
    Yes,
    Frozen {
        was: f64,
        is: f64,
        must: f64,
    },
}

fn follows<'s>(fresh: impl Fn() -> Asked<'s>, picks: u64, size: usize, hashed: Hashed, bad: Sight) -> Result<Followed, String> {
    // Every other endpoint has it, so that each part of a pool has both kinds.
    let show = |pool: &Pool, of_half: Sight| {
        for (i, endpoint) in pool.endpoints.iter().enumerate() {
            endpoint.stats.show(if i % 2 == 0 { of_half } else { GOOD });
        }
    };
    let share = |asked: &mut Asked<'_>, pool: &std::sync::Arc<Pool>| -> Result<f64, String> {
        let mut counts = Counts::new(size);
        for _ in 0..picks {
            let context = asked.context(hashed, 0);
            let picked = asked.pick(pool, context)?;
            counts.add(picked);
            if let Some(endpoint) = picked {
                asked.report(pool, endpoint)?;
            }
        }
        Ok(counts.share(|i| i % 2 == 0))
    };
    let alone = |of_half: Sight| {
        let pool = plain(size, |_| 1);
        show(&pool, of_half);
        share(&mut fresh(), &pool)
    };
    let (with_good, with_bad) = (alone(GOOD)?, alone(bad)?);
    // The largest standard deviation of the difference of two shares.
    let chance = (0.5 / picks as f64).sqrt();
    if (with_good - with_bad).abs() < APART + 4.0 * chance {
        return Ok(Followed::Unread);
    }
    for (before, after, was, must) in [(GOOD, bad, with_good, with_bad), (bad, GOOD, with_bad, with_good)] {
        let (mut asked, pool) = (fresh(), plain(size, |_| 1));
        show(&pool, before);
        share(&mut asked, &pool)?;
        show(&pool, after);
        // Smoothing takes time, for each endpoint.
        for _ in 0..(SMOOTHING * size as u64).div_ceil(picks) {
            share(&mut asked, &pool)?;
        }
        let is = share(&mut asked, &pool)?;
        if (is - must).abs() > (was - must).abs() / 2.0 + 3.0 * chance {
            return Ok(Followed::Frozen { was, is, must });
        }
    }
    Ok(Followed::Yes)
}
