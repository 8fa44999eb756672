//! The tools of authors, on plugins that must not pass.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_host::Loader;
use sluicegate_lab::certify::{Options, Report, Verdict, certify};
use sluicegate_lab::subject::Source;
use sluicegate_model::plugin::Limits;
use sluicegate_tests::{HOSTILE_BALANCER, HOSTILE_DISCOVERY, HOSTILE_ROUTER};

fn report(name: &str, bytes: &'static [u8], config: Value) -> Report {
    let source = Source { name: name.to_owned(), bytes: bytes.into(), builtin: false };
    let limits = Limits {
        memory: 8 << 20,
        deadline: Duration::from_millis(200),
        configure_deadline: Duration::from_millis(500),
        ..Limits::default()
    };
    let options = Options { pools: 60, config, limits, ..Options::default() };
    certify(&Loader::new().expect("an engine"), &source, &options).expect("certified")
}

/// The first check that failed, and what it saw.
fn refused(report: &Report) -> (&str, &str) {
    let failed = report.checks.iter().find(|check| check.verdict == Verdict::Failed);
    failed.map(|check| (check.name.as_str(), check.seen.as_str())).unwrap_or_default()
}

#[test]
fn hostile_balancers_are_refused_with_the_reason() {
    for (mode, spare_trials, check, reason) in [
        ("trap-open", false, "trial", "stage configure: trapped"),
        ("trap-update", false, "trial", "stage update: trapped"),
        ("trap-pick", false, "trial", "stage pick: trapped"),
        ("loop-open", false, "trial", "stage configure: did not return within its deadline of 500ms"),
        ("memory-open", false, "trial", "memory limit of 8388608 bytes"),
        // Those that behave while the gateway tries them are found out on other pools.
        ("trap-pick", true, "pools", "stage pick: trapped"),
        ("out-of-range", true, "pools", "out of range"),
        ("loop-pick", true, "pools", "did not return within its deadline of 200ms"),
        ("memory-pick", true, "pools", "memory limit of 8388608 bytes"),
    ] {
        let report = report("hostile", HOSTILE_BALANCER, json!({"mode": mode, "spare_trials": spare_trials}));
        let (name, seen) = refused(&report);
        assert!(!report.passed() && name == check && seen.contains(reason), "{mode}: {name}: {seen}");
    }
    let misspelt = report("hostile", HOSTILE_BALANCER, json!({"mode": "sabotage"}));
    let (name, seen) = refused(&misspelt);
    assert!(name == "load" && seen.contains("config.mode"), "{seen}");
    let good = report("hostile", HOSTILE_BALANCER, json!({}));
    let (name, _) = refused(&good);
    assert!(name.starts_with("fairness, weights 0 and 1"), "a plain round-robin knows no weights: {:#?}", good.checks);
}

#[test]
fn hostile_routers_are_refused_with_the_reason() {
    for (mode, spare_trials, check, reason) in [
        ("trap-configure", false, "trial", "stage configure: trapped"),
        ("trap-route", false, "trial", "trapped"),
        ("trap-route", true, "requests", "stage route: trapped"),
        ("loop-route", true, "requests", "did not return within its deadline of 200ms"),
        ("memory-route", true, "requests", "memory limit of 8388608 bytes"),
        ("out-of-range", true, "requests", "chose rule 1000 of 1: out of range"),
    ] {
        let report = report("hostile", HOSTILE_ROUTER, json!({"mode": mode, "spare_trials": spare_trials}));
        let (name, seen) = refused(&report);
        assert!(!report.passed() && name == check && seen.contains(reason), "{mode}: {name}: {seen}");
    }
    let good = report("hostile", HOSTILE_ROUTER, json!({}));
    assert!(good.passed(), "{:#?}", good.checks);
}

#[test]
fn what_is_no_plugin_is_refused_and_of_discovery_it_is_said_what_is_not_checked() {
    let report_of = |bytes: &'static [u8]| report("mine", bytes, json!({}));
    let none = report_of(b"not wasm at all");
    let (name, seen) = refused(&none);
    assert!(name == "load" && seen.contains("stage compile: not WebAssembly"), "{seen}");
    let discovery = report_of(HOSTILE_DISCOVERY);
    assert!(discovery.passed());
    assert_eq!(discovery.checks.last().map(|check| check.verdict), Some(Verdict::Skipped));
}
