//! What goes wrong once in a million picks: a trap, an index out of range, or none where every endpoint is healthy, idle and has a weight. Pools of one
//! endpoint have a share of their own, since little code is written for them.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use sluicegate_model::pool::Pool;

use super::asked::{Asked, Counts, Hashed};
use super::balancer::cpu;
use super::fairness::Fairness;
use super::{Check, Verdict};
use crate::generate::{self, plain};

/// The longest CPU time for which a slow balancer is asked, however many picks there may be.
const PATIENCE: Duration = Duration::from_secs(25);
/// The number of endpoints of the pool that gets the most picks.
const ENDPOINTS: usize = 10;

pub(super) fn check(asked: &mut Asked<'_>, picks: u64, demand: Fairness) -> Check {
    let begun = cpu();
    let (ten, one) = (plain(ENDPOINTS, |_| 1), plain(1, |_| 1));
    let mut told = Vec::new();
    let mut all = 0;
    // All picks of a pool come in a row, as code that counts picks counts those of one pool.
    for (pool, part) in [(&one, picks / 4), (&ten, picks * 7 / 10)] {
        match walk(asked, pool, part, begun) {
            Ok(counts) => {
                all += counts.picks;
                told.extend((counts.declined > 0).then(|| declined(&counts)));
            }
            Err(failed) => return Check::new("rare", Verdict::Failed, failed),
        }
    }
    // Now and then there is an update.
    let mut counts = Counts::new(ENDPOINTS);
    let mut pool = ten;
    for _ in 0..picks / 20 / 100 {
        pool = generate::pool(pool.id, pool.endpoints.to_vec());
        for _ in 0..100 {
            let context = asked.context(Hashed::Yes, 0);
            match asked.exchange(&pool, context) {
                Ok(picked) => counts.add(picked),
                Err(failed) => return Check::new("rare", Verdict::Failed, failed),
            }
        }
        if cpu().saturating_sub(begun) > PATIENCE {
            break;
        }
    }
    all += counts.picks;
    told.extend((counts.declined > 0).then(|| declined(&counts)));
    let figures = serde_json::json!({"picks": all});
    let short = if all < picks * 9 / 10 { format!(", which is all there was time for in {PATIENCE:?}") } else { String::new() };
    match told.first() {
        None => Check::new("rare", Verdict::Passed, format!("{all} picks{short}: no trap, each index in range, none of them of none")),
        Some(first) => Check::new("rare", if demand == Fairness::Off { Verdict::Noted } else { Verdict::Failed }, first),
    }
    .with(figures)
}

fn declined(counts: &Counts) -> String {
    let (n, declined, picks) = (counts.of.len(), counts.declined, counts.picks);
    format!("pool of {n}: {declined} of {picks} picks of none, and each endpoint is healthy, idle and has a weight")
}

fn walk(asked: &mut Asked<'_>, pool: &Arc<Pool>, picks: u64, begun: Duration) -> Result<Counts, String> {
    let mut counts = Counts::new(pool.endpoints.len());
    while counts.picks < picks {
        for _ in 0..1_000 {
            let hashed = if asked.random.next_u64().is_multiple_of(2) { Hashed::Yes } else { Hashed::No };
            let attempt = if counts.picks.is_multiple_of(64) { 1 } else { 0 };
            let context = asked.context(hashed, attempt);
            let picked = asked.exchange(pool, context);
            counts.add(picked.map_err(|failed| format!("after {} picks: {failed}", counts.picks))?);
        }
        if cpu().saturating_sub(begun) > PATIENCE {
            break;
        }
    }
    Ok(counts)
}
