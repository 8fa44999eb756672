#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sluicegate_model::plugin::BalancerGeneration as _;
use sluicegate_model::record::{Event, Recorder, Wanted};
use sluicegate_model::stats::Sight;
use sluicegate_model::trace::{Begin, EndLine, Hex, VERSION, sight_line};

use super::*;

use crate::generate::{Random, context, pool, stream};
use rand::RngExt as _;

/// A trace of the picks of a built-in balancer in a gateway that is recorded.
fn record(name: &str, picks: usize) -> String {
    let recorder = Arc::new(Recorder::default());
    let loader = Loader::new().unwrap().recorded_by(recorder.clone());
    let subject = Source::find(name).unwrap().load(&loader, &Limits::default(), &serde_json::json!({})).unwrap();
    let Loaded::Balancer(generation) = subject.loaded else { panic!() };
    let wanted = Wanted { plugin: name.to_owned(), every: 1, rate: 1_000, time: Duration::from_secs(60) };
    let recording = recorder.begin(wanted).unwrap();
    recording.grant(1_000_000);
    let mut random = stream(3, 3);
    let mut lines = vec![Line::Begin(Begin { version: VERSION.to_owned(), plugin: name.to_owned(), every: 1, rate: 1_000 })];
    let mut workers: Vec<_> = (0..2).map(|_| generation.instantiate().unwrap()).collect();
    let mut served = busy(5, &mut random);
    lines.push(Line::Pool(PoolLine::of(&served, "{}")));
    for turn in 0..picks {
        if turn == picks / 2 {
            served = pool(served.id, [&served.endpoints[1..], &busy(8, &mut random).endpoints[5..]].concat());
            lines.push(Line::Pool(PoolLine::of(&served, "{}")));
        }
        served.endpoints.iter().for_each(|e| e.stats.show(sight(&mut random)));
        let worker = &mut workers[turn % 2];
        let picked = worker.pick(&served, &subject.config, context(&mut random)).unwrap().unwrap();
        if worker.wants_report() {
            worker.report(&served, picked, true, Duration::from_millis(3)).unwrap();
        }
        while let Some(event) = recording.next() {
            lines.push(match event {
                Event::Report(line) => Line::Report(line),
                Event::Pick(made) => Line::Pick(PickLine {
                    instance: made.instance,
                    generation: made.generation,
                    pool: (made.pool.id, made.pool.version),
                    hash: made.context.hash.map(Hex),
                    attempt: made.context.attempt,
                    random: made.random.into_iter().map(Hex).collect(),
                    seen: made.seen.into_iter().map(|(index, sight)| sight_line(index, sight)).collect(),
                    cut: made.cut,
                    picked: made.picked.unwrap(),
                    failed: None,
                    nanoseconds: made.nanoseconds,
                }),
            });
        }
    }
    lines.push(Line::End(EndLine { picks: picks as u64, dropped: recording.dropped(), why: "time".to_owned() }));
    lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

fn sight(random: &mut Random) -> Sight {
    Sight { in_flight: random.random_range(0..20), latency_us: random.random_range(1..50_000), ..Sight::default() }
}

fn busy(size: usize, random: &mut Random) -> Arc<Pool> {
    let endpoints = (0..size).map(|i| generate::endpoint(generate::address(i), 1 + i as u32 % 3)).collect::<Vec<_>>();
    endpoints.iter().for_each(|e| e.stats.show(sight(random)));
    pool(unique(), endpoints)
}

fn play(name: &str, trace: &str) -> Result<Report, String> {
    replay(&Loader::new().unwrap(), &Source::find(name).unwrap(), None, &Limits::default(), trace.as_bytes())
}

#[test]
fn the_same_version_decides_the_same() {
    // Balancers with statistics, with hashes, with random bits of their own, with reports.
    for name in ["least-request", "maglev", "random", "peak-ewma", "bounded-load"] {
        let report = play(name, &record(name, 400)).unwrap();
        assert_eq!((report.picks, report.same, report.guessed), (400, 400, 0), "{name}: {:?}", report.differences.first());
        assert!(report.is_whole() && report.notes().is_empty());
    }
}

#[test]
fn another_policy_is_asked_what_it_would_have_done() {
    let trace = record("maglev", 400);
    let report = play("least-request", &trace).unwrap();
    assert!(report.different > 100 && report.same > 20, "{} of {}", report.same, report.picks);
    // All statistics of a small pool are in the trace.
    assert_eq!((report.guessed, report.failed), (0, 0));
    assert_eq!(report.differences.len() as u64, report.different);
    let pool = report.pools.values().next().unwrap();
    assert_eq!(pool.shares.values().map(|share| share.now).sum::<u64>(), 400);
    assert!(report.rows()[1][3].contains("->"), "{:?}", report.rows());
}

#[test]
fn what_is_wrong_with_a_trace_is_said_with_its_line() {
    let trace = record("random", 4);
    let line = |n: usize| trace.lines().nth(n).unwrap();
    let wrong = |text: &str| play("random", text).unwrap_err();
    assert!(wrong("").contains("nothing in it"));
    assert!(wrong(&trace.replace("trace/v1", "trace/v9")).contains("line 1: it is a trace of \"sluicegate.dev/trace/v9\""));
    assert!(wrong(&format!("{}\n", line(1))).contains("line 1: a trace begins with `begin`"));
    assert!(wrong(&format!("{}\n{}\n", line(0), line(2))).contains("line 2: nothing was told of pool"));
    assert!(wrong(&format!("{}\nnonsense\n", line(0))).contains("line 2: expected"));
    assert!(wrong(&trace.replace("\"picked\":", "\"picked\":9")).contains("of a pool of 5"));
    // A trace that is cut off in the middle of a line is played up to there.
    let report = play("random", &trace[..trace.len() - 20]).unwrap();
    assert!(report.picks == 4 && report.end.is_none() && !report.is_whole());
    assert!(play("rules", &trace).unwrap_err().contains("traces are of balancers"));
}
