//! Checks balancers on generated pools: no trap, indices in range, the same answers to the same questions, memory that does not grow, calls that end in time. What
//! shows only with certain pools, updates or many calls is in files of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use rand::RngExt as _;
use sluicegate_host::balancer::{Instance, WasmBalancer};
use sluicegate_host::{Loaded, Loader};
use sluicegate_model::plugin::{Balancer as _, PickContext, PluginError};
use sluicegate_model::pool::{Pool, unique};

use super::asked::Asked;
use super::cases::Cases;
use super::{Check, Group, Options, Times, Verdict, cost, fairness, leaks, memory, rare, sizes, statistics, updates, weights};
use crate::generate::{self, Random, Time, stream};
use crate::subject::Subject;

/// How many pools live at a time, as an instance serves many.
const LIVE: usize = 16;
/// How often each pool is changed, and how many picks lie between two changes.
const CHANGES: usize = 3;
const PICKS: usize = 8;
/// The nanoseconds from one pool to the next, for what a plugin lets expire.
const TURN: u64 = 10_000_000;
/// The number of calls in the check of memory.
const CALLS: u64 = 60_000;

pub(super) fn certify(
    loader: &Loader,
    subject: &Subject,
    generation: &Arc<WasmBalancer>,
    bytes: &[u8],
    options: &Options,
    cases: Option<&Cases>,
    checks: &mut Vec<Check>,
) -> Result<(), String> {
    let wanted = |group: Group| options.only.is_empty() || options.only.contains(&group);
    match generation.trial(&subject.config) {
        Ok(()) => checks.push(Check::new("trial", Verdict::Passed, "what the gateway tries before it swaps")),
        Err(error) => {
            checks.push(Check::new("trial", Verdict::Failed, said(&error)));
            return Ok(());
        }
    }
    let seed = options.seed;
    if wanted(Group::Pools) && !pools(subject, generation, options, checks) {
        return Ok(());
    }
    let (demand, tolerance) = fairness::demanded(options, cases);
    let asked = |purpose| Asked::new(subject, generation, seed, purpose);
    if wanted(Group::Sizes) {
        checks.push(sizes::check(&mut asked(10), options, demand, tolerance));
        checks.push(sizes::retries(&mut asked(11), options, demand, tolerance));
    }
    if wanted(Group::Weights) {
        fairness::check(subject, generation, seed, (demand, tolerance), checks);
        checks.push(weights::check(subject, generation, options, demand, tolerance));
    }
    if wanted(Group::Updates) {
        checks.push(updates::check(subject, generation, options, demand, tolerance));
    }
    if wanted(Group::Statistics) {
        checks.push(statistics::check(subject, generation, options));
    }
    if wanted(Group::Cost) {
        let metered = loader.metered().map_err(|e| format!("the counting engine: {e}"))?;
        let counted = metered.load_any(&subject.name, bytes, generation.limits()).map_err(|e| e.to_string())?.0;
        if let Loaded::Balancer(counted) = counted {
            checks.extend(cost::check(subject, &counted, options));
        }
    }
    if wanted(Group::Memory) {
        checks.push(grows(subject, generation.seeded(seed), seed));
        checks.extend(leaks::check(subject, generation, seed, options.picks));
    }
    if wanted(Group::Rare) {
        checks.push(rare::check(&mut asked(12), options.picks, demand));
    }
    if let Some(cases) = cases {
        checks.extend(cases.run(generation, &subject.config, seed));
    }
    Ok(())
}

/// Checks with generated pools. Returns false if one was too much for the plugin.
fn pools(subject: &Subject, generation: &Arc<WasmBalancer>, options: &Options, checks: &mut Vec<Check>) -> bool {
    let seed = options.seed;
    let run = || {
        let time = Time::default();
        Run::of(subject, generation.seeded_with(seed, time.shared(generation.limits())), &time, seed, options.pools)
    };
    let first = run();
    let (picks, pools) = (first.decisions.len(), options.pools);
    if let Some(failed) = &first.failed {
        checks.push(Check::new("pools", Verdict::Failed, format!("after {picks} picks, {failed}")));
        return false;
    }
    let none = if first.declined > 0 { format!("; {} picks of none where there was an endpoint", first.declined) } else { String::new() };
    let seen = format!(
        "{picks} picks from {pools} generated pools of 0 to 10,000 endpoints that changed {CHANGES} times each: no trap, each index in range{none}"
    );
    checks.push(
        Check::new("pools", Verdict::Passed, seen).with(serde_json::json!({"pools": pools, "picks": picks, "declined": first.declined})),
    );
    if first.from_empty > 0 {
        checks.push(Check::new("empty pool", Verdict::Failed, format!("{} picks of an endpoint that is not there", first.from_empty)));
    }
    checks.push(determinism(&first, &run()));
    let deadline = generation.limits().deadline;
    if let Some(times) = Times::of(first.nanos) {
        checks.push(times.check("time", deadline, "a pick"));
    }
    if let Some(times) = Times::of(first.updates) {
        checks.push(times.check("update time", generation.limits().configure_deadline, "CPU time of a pick after a change, with `update`"));
    }
    true
}

fn said(error: &PluginError) -> String {
    format!("stage {}: {}", error.stage, error.reason)
}

/// One walk over all generated pools.
struct Run {
    /// The decisions, by pool and pick, in their order.
    decisions: Vec<(usize, Option<usize>)>,
    /// The times of calls.
    nanos: Vec<u32>,
    /// The times of calls that told of a change.
    updates: Vec<u32>,
    /// How often no endpoint was picked from a pool that has one with a weight.
    declined: u64,
    from_empty: u64,
    failed: Option<String>,
}

impl Run {
    fn of(subject: &Subject, mut instance: Instance, time: &Time, seed: u64, pools: usize) -> Self {
        let mut run = Self { decisions: Vec::new(), nanos: Vec::new(), updates: Vec::new(), declined: 0, from_empty: 0, failed: None };
        let mut random = stream(seed, 1);
        let mut live: Vec<Arc<Pool>> = Vec::with_capacity(LIVE);
        for turn in 0..pools {
            time.set(turn as u64 * TURN);
            let pool = generate::wild(generate::size(turn, &mut random), &mut random);
            if live.len() == LIVE {
                live.swap_remove(random.random_range(0..LIVE));
                instance.retain(&|id| live.iter().any(|pool| pool.id == id));
            }
            live.push(pool);
            for change in 0..=CHANGES {
                // The pool that is new; and between its changes also others, as one instance serves all in turn.
                let at = if change % 2 == 0 { live.len() - 1 } else { random.random_range(0..live.len()) };
                if change > 0 {
                    live[at] = generate::churn(&live[at], &mut random);
                }
                if let Err(failed) = run.picks(&mut instance, &live[at], subject, turn, &mut random) {
                    run.failed = Some(failed);
                    return run;
                }
            }
        }
        run
    }

    fn picks(
        &mut self,
        instance: &mut Instance,
        pool: &Arc<Pool>,
        subject: &Subject,
        turn: usize,
        random: &mut Random,
    ) -> Result<(), String> {
        for nth in 0..PICKS {
            let context = generate::context(random);
            // What else runs on the machine does not count: of both clocks the one counts that went less. To read that of the CPU costs as much as a pick, so it is read
            // outside of the other.
            let (begun_cpu, begun) = (cpu(), Instant::now());
            let picked = instance.pick(pool, &subject.config, context);
            let taken = begun.elapsed().min(cpu().saturating_sub(begun_cpu));
            let times = if nth == 0 { &mut self.updates } else { &mut self.nanos };
            times.push(u32::try_from(taken.as_nanos()).unwrap_or(u32::MAX));
            let picked = picked
                .map_err(|error| format!("pool {turn} of {} endpoints, {}: {}", pool.endpoints.len(), shown(context), said(&error)))?;
            self.declined += u64::from(picked.is_none() && pool.endpoints.iter().any(|e| e.weight > 0));
            self.from_empty += u64::from(picked.is_some() && pool.endpoints.is_empty());
            self.decisions.push((turn, picked));
            if let Some(endpoint) = picked.filter(|_| instance.wants_report()) {
                let (success, latency) = (random.random_bool(0.9), Duration::from_micros(random.random_range(1..1_000_000)));
                let reported = instance.report(pool, endpoint, success, latency);
                reported.map_err(|error| format!("pool {turn}, {}", said(&error)))?;
            }
        }
        Ok(())
    }
}

fn shown(context: PickContext) -> String {
    let hash = context.hash.map_or_else(|| "none".to_owned(), |hash| format!("{hash:#x}"));
    format!("hash {hash}, attempt {}", context.attempt)
}

fn determinism(first: &Run, second: &Run) -> Check {
    let differs = first.decisions.iter().zip(&second.decisions).position(|(a, b)| a != b);
    let seen = match differs {
        None => "a fresh instance, given the same calls and the same random bits, picks the same".to_owned(),
        Some(at) => {
            let ((pool, a), (_, b)) = (first.decisions[at], second.decisions[at]);
            let show = |picked: Option<usize>| picked.map_or_else(|| "none".to_owned(), |i| i.to_string());
            format!(
                "pick {at}, from pool {pool}, was {} and in a fresh instance, given the same calls and random bits, {}",
                show(a),
                show(b)
            )
        }
    };
    Check::passed_if("determinism", differs.is_none() && first.decisions.len() == second.decisions.len(), seen)
}

/// Makes many calls on a few pools that change now and then, and checks memory.
fn grows(subject: &Subject, mut instance: Instance, seed: u64) -> Check {
    let mut random = stream(seed, 2);
    let mut pools: Vec<Arc<Pool>> = [3, 10, 100].map(|size| generate::wild(size, &mut random)).to_vec();
    let sizes = pools.clone();
    let mut half = 0;
    for call in 0..CALLS {
        let at = (call % pools.len() as u64) as usize;
        if call % 500 < pools.len() as u64 {
            // Each is made from the first one, as a pool that grew by and by would be a reason to grow.
            let changed = generate::churn(&sizes[at], &mut random);
            pools[at] = changed;
        }
        if call % 5_000 == 4_999 {
            // Services come and go.
            let renamed = Pool {
                id: unique(),
                version: unique(),
                endpoints: sizes[at].endpoints.clone(),
                draining: Vec::new(),
                panic: false,
                empty: None,
            };
            pools[at] = Arc::new(renamed);
            instance.retain(&|id| pools.iter().any(|pool| pool.id == id));
        }
        let picked = instance.pick(&pools[at], &subject.config, generate::context(&mut random));
        let reported = match picked {
            Ok(Some(endpoint)) if instance.wants_report() => instance.report(&pools[at], endpoint, true, Duration::from_millis(1)),
            picked => picked.map(drop),
        };
        if let Err(error) = reported {
            return Check::new("memory", Verdict::Failed, format!("call {call}: {}", said(&error)));
        }
        if call == CALLS / 2 {
            half = instance.memory();
        }
    }
    memory(half, instance.memory(), CALLS)
}

/// The CPU time of this thread.
pub(super) fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
