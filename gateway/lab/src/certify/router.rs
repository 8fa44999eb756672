//! Routers on generated requests: no trap, rules and backends in range, the same answers to the same questions, memory that stays, calls that end
//! in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use sluicegate_host::router::{Instance, WasmRouter};
use sluicegate_model::config_text::ConfigText;
use sluicegate_model::plugin::{Router as _, RouterGeneration as _};
use sluicegate_model::route::{Decision, ListenerInfo, RouteTable, Transport};

use super::{Check, Options, Times, Verdict, memory};
use crate::generate::stream;
use crate::requests::Words;
use crate::subject::Subject;

/// The number of requests for each pool that a balancer would get.
const REQUESTS: usize = 20;

/// A listener that does not exist.
pub(crate) fn listener() -> ListenerInfo {
    ListenerInfo { name: "lab".to_owned(), port: 80, transport: Transport::Http, hostname: None, namespace: "default".to_owned() }
}

pub(super) fn certify(subject: &Subject, generation: &Arc<WasmRouter>, options: &Options, checks: &mut Vec<Check>) {
    let table = match generation.configure(&ConfigText::from(&*subject.config), &listener()) {
        Ok(table) => Arc::new(table),
        Err(error) => return checks.push(Check::new("trial", Verdict::Failed, format!("stage {}: {}", error.stage, error.reason))),
    };
    let seen = format!("what the gateway tries before it swaps; {} rules", table.rules.len());
    checks.push(Check::new("trial", Verdict::Passed, seen));
    let requests = options.pools * REQUESTS;
    let first = Run::of(generation.seeded(options.seed), &table, options.seed, requests);
    if let Some(failed) = first.failed {
        checks.push(Check::new("requests", Verdict::Failed, failed));
        return;
    }
    let met: BTreeMap<&str, usize> = first.decisions.iter().fold(BTreeMap::new(), |mut met, decision| {
        *met.entry(decision.split(' ').next().unwrap_or_default()).or_default() += 1;
        met
    });
    let rules =
        first.decisions.iter().filter_map(|d| d.strip_prefix("rule ")?.split(' ').next()).collect::<std::collections::BTreeSet<_>>().len();
    let seen =
        format!("{requests} generated requests: no trap, rules and backends in range; {rules} of {} rules were met", table.rules.len());
    checks.push(
        Check::new("requests", Verdict::Passed, seen).with(serde_json::json!({"requests": requests, "decisions": met, "rulesMet": rules})),
    );
    let second = Run::of(generation.seeded(options.seed), &table, options.seed, requests);
    let differs = first.decisions.iter().zip(&second.decisions).position(|(a, b)| a != b);
    let seen = match differs {
        None => "a fresh instance, given the same requests and the same random bits, decides the same".to_owned(),
        Some(at) => format!("request {at} was {} and in a fresh instance {}", first.decisions[at], second.decisions[at]),
    };
    checks.push(Check::passed_if("determinism", differs.is_none() && second.failed.is_none(), seen));
    if let Some(times) = Times::of(first.nanos) {
        checks.push(times.check("time", generation.limits().deadline, "a route"));
    }
    checks.push(memory(first.half, first.end, requests as u64));
}

struct Run {
    decisions: Vec<String>,
    nanos: Vec<u32>,
    failed: Option<String>,
    /// The memory after half of the requests, and after all.
    half: usize,
    end: usize,
}

impl Run {
    fn of(mut instance: Instance, table: &Arc<RouteTable>, seed: u64, requests: usize) -> Self {
        let words = Words::of(&serde_json::from_str(&table.config).unwrap_or_default());
        let mut random = stream(seed, 5);
        let mut run = Self { decisions: Vec::with_capacity(requests), nanos: Vec::with_capacity(requests), failed: None, half: 0, end: 0 };
        for turn in 0..requests {
            let made = if turn % 2 == 0 { words.plain(&table.interests, &mut random) } else { words.wild(&table.interests, &mut random) };
            let begun = Instant::now();
            let routed = instance.route(table, &made.view());
            run.nanos.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
            match routed {
                Ok(decision) => run.decisions.push(shown(&decision)),
                Err(error) => {
                    run.failed = Some(format!("request {turn}, stage {}: {}", error.stage, error.reason));
                    return run;
                }
            }
            if turn == requests / 2 {
                run.half = instance.memory();
            }
        }
        run.end = instance.memory();
        run
    }
}

fn shown(decision: &Decision) -> String {
    match decision {
        Decision::Matched(choice) => format!("rule {} backend {:?} prefix {}", choice.rule, choice.backend, choice.matched_prefix),
        Decision::Answer(answer) => format!("answer {} {:?} {}", answer.status.as_u16(), answer.headers, answer.body),
        Decision::NoMatch => "none".to_owned(),
    }
}
