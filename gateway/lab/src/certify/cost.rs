//! Checks what updates and picks cost as pools grow, in instructions. These are the same on each machine, and of many updates the dearest counts. Twice the
//! endpoints may cost twice as much and a little more, for sorting; four times as much means that each is compared with each.

use std::sync::Arc;

use sluicegate_host::balancer::WasmBalancer;
use sluicegate_model::pool::{Endpoint, Pool, unique};

use super::asked::{Asked, Hashed};
use super::{Check, Options, Verdict};
use crate::generate::{address, endpoint, pool};
use crate::subject::Subject;

/// The sizes of pools, each of which is twice the one before. The last is as large as pools get.
const SIZES: [usize; 3] = [2_500, 5_000, 10_000];
/// Smaller sizes, for many updates each.
const SMALLER: [usize; 3] = [512, 1_024, 2_048];
const UPDATES: (u64, u64) = (16, 160);
/// How many times as much twice the endpoints may cost. Twice and a tenth, for the logarithm, is n log n; four times is n squared.
const GROWS: f64 = 2.8;
/// How many times as much a heavy endpoint may cost as a light one.
const HEAVIER: f64 = 8.0;
/// How many instructions a machine carries out in a nanosecond, at least.
const PER_NANOSECOND: f64 = 1.0;

/// What changes from one list to the next.
const CHANGES: [(&str, fn(usize, usize) -> Vec<Endpoint>); 9] = [
    ("the first", |n, _| list(n, 0, |_| 1)),
    ("the same again", |n, _| list(n, 0, |_| 1)),
    ("all of them others", |n, turn| list(n, n * turn, |_| 1)),
    ("half of them gone", |n, turn| list(n, n * turn, |_| 1).into_iter().step_by(2).collect()),
    ("and back", |n, turn| list(n, n * turn, |_| 1)),
    ("weights of 1 to 100", |n, _| list(n, 0, |i| (i % 100 + 1) as u32)),
    ("all of weight 0", |n, _| list(n, 0, |_| 0)),
    ("one heavy", |n, _| list(n, 0, |i| if i == n / 2 { u32::MAX } else { 1 })),
    ("labels and zones", |n, _| {
        let mut list = list(n, 0, |_| 1);
        for (i, made) in list.iter_mut().enumerate() {
            made.zone = Some(format!("zone-{i}"));
            made.labels = vec![("pod".to_owned(), format!("pod-{i}"))];
        }
        list
    }),
];

fn list(n: usize, from: usize, weight: impl Fn(usize) -> u32) -> Vec<Endpoint> {
    (from..from + n).map(|i| endpoint(address(i), weight(i - from))).collect()
}

/// Checks the cost, on an engine that counts.
pub(super) fn check(subject: &Subject, counted: &WasmBalancer, options: &Options) -> Vec<Check> {
    let asked = || Asked::new(subject, counted, options.seed, 50);
    let update = updates(&asked, options).unwrap_or_else(|failed| Check::new("update cost", Verdict::Failed, failed));
    let pick = picks(&asked).unwrap_or_else(|failed| Check::new("pick cost", Verdict::Failed, failed));
    vec![update, pick]
}

/// The instructions of a pick, and of the update before it if the list is new.
fn cost(asked: &mut Asked<'_>, pool: &Arc<Pool>) -> Result<f64, String> {
    let before = asked.fuel();
    let context = asked.context(Hashed::Yes, 0);
    asked.pick(pool, context)?;
    // If there was no instance before, all counts that was spent since it was made.
    let spent = |before: u64| asked.fuel().map_or(0, |after| before.saturating_sub(after));
    Ok(spent(before.unwrap_or(u64::MAX)) as f64)
}

/// Whether each doubling costs too much.
fn quadratic(costs: &[f64]) -> bool {
    costs.windows(2).all(|pair| pair[1] > pair[0] * GROWS)
}

fn shown(sizes: &[usize], costs: &[f64]) -> String {
    sizes.iter().zip(costs).map(|(size, cost)| format!("{cost:.0} with {size} endpoints")).collect::<Vec<_>>().join(", ")
}

fn updates<'s>(fresh: &impl Fn() -> Asked<'s>, options: &Options) -> Result<Check, String> {
    let (deadline, turns) = (options.limits.configure_deadline, (options.picks / 1_000).clamp(UPDATES.0, UPDATES.1));
    let failed = |what: &str, sizes: &[usize], costs: &[f64]| {
        let seen = format!("{what}: {} instructions: it grows with the square of the pool", shown(sizes, costs));
        Ok(Check::new("update cost", Verdict::Failed, seen).with(serde_json::json!({"sizes": sizes, "instructions": costs})))
    };
    // Each change at each size, in one instance for each size.
    let mut by_change = vec![Vec::new(); CHANGES.len()];
    for size in SIZES {
        let (mut asked, id) = (fresh(), unique());
        for (turn, (_, change)) in CHANGES.iter().enumerate() {
            let list = pool(id, change(size, turn));
            by_change[turn].push(cost(&mut asked, &list)?);
        }
    }
    for ((name, _), costs) in CHANGES.iter().zip(&by_change) {
        if quadratic(costs) {
            return failed(&format!("an update, {name}"), &SIZES, costs);
        }
    }
    let of = |name: &str| CHANGES.iter().position(|(other, _)| *other == name).map_or(0.0, |at| by_change[at][2]);
    let (light, heavy) = (of("the same again"), of("one heavy").max(of("weights of 1 to 100")));
    if heavy > light * HEAVIER {
        let seen = format!(
            "an update of 10,000 endpoints costs {light:.0} instructions with equal weights and {heavy:.0} with others: it grows with the weights"
        );
        return Ok(Check::new("update cost", Verdict::Failed, seen));
    }
    // The dearest of many updates counts.
    let mut dearest = Vec::new();
    for size in SMALLER {
        let (mut asked, id) = (fresh(), unique());
        let mut most: f64 = 0.0;
        for turn in 0..turns {
            // One endpoint leaves and one joins.
            let list = pool(id, list(size, usize::try_from(turn).unwrap_or(0), |_| 1));
            let spent = cost(&mut asked, &list)?;
            most = most.max(if turn == 0 { 0.0 } else { spent });
        }
        dearest.push(most);
    }
    if quadratic(&dearest) {
        return failed(&format!("the dearest of {turns} updates"), &SMALLER, &dearest);
    }
    let worst = by_change.iter().map(|costs| costs[2]).fold(0.0, f64::max);
    let most = deadline.as_nanos() as f64 * PER_NANOSECOND;
    let seen = format!("the dearest of 10,000 endpoints is {worst:.0} instructions, and {most:.0} may be, by the deadline of {deadline:?}");
    Ok(Check::passed_if("update cost", worst <= most, seen).with(serde_json::json!({"sizes": SIZES, "instructions": by_change})))
}

fn picks<'s>(fresh: &impl Fn() -> Asked<'s>) -> Result<Check, String> {
    const PICKS: u32 = 32;
    let mut costs = Vec::new();
    for size in SIZES {
        let (mut asked, pool) = (fresh(), pool(unique(), list(size, 0, |_| 1)));
        cost(&mut asked, &pool)?;
        let mut all = 0.0;
        for _ in 0..PICKS {
            all += cost(&mut asked, &pool)?;
        }
        costs.push(all / f64::from(PICKS));
    }
    let seen = format!("{} instructions", shown(&SIZES, &costs));
    let seen = if quadratic(&costs) { format!("{seen}: it grows with the square of the pool") } else { seen };
    Ok(Check::passed_if("pick cost", !quadratic(&costs), seen).with(serde_json::json!({"sizes": SIZES, "instructions": costs})))
}
