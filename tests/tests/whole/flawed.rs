//! `plugin test` on balancers that look right. Each has one flaw that only certain pools, updates or many calls show, and each is found by the check that
//! exists for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use sluicegate_host::Loader;
use sluicegate_lab::certify::{Group, Options, PICKS, Report, Verdict, certify};
use sluicegate_lab::subject::Source;
use sluicegate_tests::FLAWED_BALANCER;

fn report(loader: &Loader, config: &Value, only: &[Group], picks: u64) -> Report {
    let size = config["size"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(100);
    // By default the sizes around each power of two are tried: here it is a few, and the one at which the flaw shows.
    let sizes = vec![1, 2, 3, 10, 63, 1_000, size];
    let source = Source { name: "flawed".to_owned(), bytes: FLAWED_BALANCER.into(), builtin: false };
    let options = Options { pools: 10, picks, only: only.to_vec(), sizes, config: config.clone(), ..Options::default() };
    certify(loader, &source, &options).expect("certified")
}

/// The checks that failed, and what they saw.
fn failed(report: &Report) -> Vec<(&str, &str)> {
    let failed = report.checks.iter().filter(|check| check.verdict == Verdict::Failed);
    failed.map(|check| (check.name.as_str(), check.seen.as_str())).collect()
}

/// Checks each of these on one of two threads, since there are at least two cores.
fn each<T: Sync>(all: &[T], check: impl Fn(&Loader, &T) + Sync) {
    let (next, loader) = (AtomicUsize::new(0), Loader::new().expect("an engine"));
    let panicked = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&loader, one)));
                    panicked.lock().expect("not poisoned").extend(ran.err());
                }
            });
        }
    });
    let panicked = panicked.into_inner().expect("not poisoned");
    assert!(panicked.is_empty(), "{} of {} came out otherwise", panicked.len(), all.len());
}

/// As many picks as a test has time for; what is rare is made more frequent by as much.
const FEW: u64 = 120_000;

#[test]
fn each_flaw_is_found_by_the_check_that_is_there_for_it() {
    use Group::{Cost, Memory, Pools, Rare, Sizes, Statistics, Updates, Weights};
    let flaws: Vec<(Value, Group, &str, &str)> = vec![
        (json!({"flaw": "trap-at-size", "size": 4097}), Sizes, "sizes", "pool of 4097 endpoints"),
        (json!({"flaw": "trap-at-size", "size": 63}), Sizes, "sizes", "pool of 63 endpoints"),
        (json!({"flaw": "none-at-size", "size": 8191}), Sizes, "sizes", "pool of 8191: "),
        (json!({"flaw": "beyond-at-size", "size": 256}), Sizes, "sizes", "out of range"),
        (json!({"flaw": "skip-last-at-size", "size": 8193}), Sizes, "sizes", "endpoint 8192 got 0 of"),
        (json!({"flaw": "skip-last-at-size", "size": 1025}), Sizes, "sizes", "endpoint 1024 got 0 of"),
        (json!({"flaw": "mask"}), Sizes, "sizes", "pool of 3: endpoint 2 got 0 of"),
        (json!({"flaw": "half-of-large", "size": 5000}), Sizes, "sizes", "pool of 5000: "),
        (json!({"flaw": "lead-of-large", "size": 1000, "every": 50}), Sizes, "sizes", "endpoint 0 got"),
        (json!({"flaw": "none-of-one"}), Sizes, "sizes", "pool of 1: "),
        (json!({"flaw": "trap-of-one"}), Sizes, "sizes", "pool of 1 endpoints"),
        (json!({"flaw": "beyond-at-ones"}), Sizes, "sizes", "out of range"),
        (json!({"flaw": "first-at-retry"}), Sizes, "retries", "at attempt 1"),
        (json!({"flaw": "half-at-retry"}), Sizes, "retries", "at attempt 1"),
        (json!({"flaw": "half-at-hashed-retry"}), Sizes, "retries", "by hash at attempt 1"),
        (json!({"flaw": "narrow-weights"}), Weights, "weights", "times 16777216"),
        (json!({"flaw": "narrow-sum"}), Weights, "weights", "times "),
        (json!({"flaw": "inverse-of-large"}), Weights, "weights", "times 16777216"),
        (json!({"flaw": "keeps-same-length"}), Updates, "updates", "after an update that changed only weights"),
        (json!({"flaw": "keeps-weights"}), Updates, "updates", "after an update that changed only weights"),
        (json!({"flaw": "keeps-addresses"}), Updates, "updates", "it keeps addresses that were"),
        (json!({"flaw": "frozen-in-flight"}), Statistics, "statistics", "exchanges under way"),
        (json!({"flaw": "frozen-latency"}), Statistics, "statistics", "change in latency"),
        (json!({"flaw": "frozen-success"}), Statistics, "statistics", "change in successes"),
        (json!({"flaw": "quadratic-update"}), Cost, "update cost", "the square of the pool"),
        (json!({"flaw": "quadratic-replacement"}), Cost, "update cost", "the square of the pool"),
        (json!({"flaw": "rare-quadratic-update", "every": 100}), Cost, "update cost", "the dearest of"),
        (json!({"flaw": "places"}), Cost, "update cost", "stage update: trapped"),
        (json!({"flaw": "leak-pick"}), Memory, "memory by pick", "KiB more"),
        (json!({"flaw": "leak-report"}), Memory, "memory by pick", "KiB more"),
        (json!({"flaw": "leak-address"}), Memory, "memory by address", "KiB more"),
        (json!({"flaw": "leak-pool"}), Memory, "memory by pool", "KiB more"),
        (json!({"flaw": "rare-trap", "every": 30_000}), Rare, "rare", "stage pick: trapped"),
        (json!({"flaw": "rare-none", "every": 30_000}), Rare, "rare", "picks of none"),
        (json!({"flaw": "rare-beyond", "every": 30_000}), Rare, "rare", "out of range"),
        (json!({"flaw": "beyond-at-ones"}), Pools, "pools", "out of range"),
    ];
    each(&flaws, |loader, (config, group, check, words)| {
        // To see each of many endpoints, a check needs many picks for each.
        let picks = match group {
            Sizes if check == &"sizes" => PICKS,
            Memory => FEW * 4,
            _ => FEW,
        };
        let report = report(loader, config, &[*group], picks);
        let failed = failed(&report);
        assert!(failed.iter().any(|(name, seen)| name == check && seen.contains(words)), "{config}: {failed:#?}");
    });
}

/// The flaw is as rare as the default can find, which makes a little more than this many picks of each pool.
#[test]
fn what_goes_wrong_once_in_a_million_picks_is_found() {
    const { assert!(PICKS / 4 >= 1_000_000) };
    let loader = Loader::new().expect("an engine");
    let report = report(&loader, &json!({"flaw": "rare-trap", "every": 1_000_000}), &[Group::Rare], 4_000_000);
    assert!(failed(&report).iter().any(|(name, _)| *name == "rare"), "{:#?}", report.checks);
}

/// These show that the flaws of the others are found, and not something else about them.
#[test]
fn balancers_without_a_flaw_pass() {
    let good = [
        (json!({}), vec![]),
        (json!({"flaw": "none-hashed"}), vec![Group::Sizes, Group::Updates]),
        (json!({"flaw": "none-least"}), vec![Group::Statistics, Group::Updates]),
    ];
    each(&good, |loader, (config, only)| {
        let report = report(loader, config, only, FEW / 10);
        assert_eq!(failed(&report), [], "{config}");
    });
}
