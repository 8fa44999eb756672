//! Balancers that break their contract, written with the SDK. What they do is refused before traffic or contained under it, traffic goes on, and the
//! operator is told which plugin failed, at which stage, and why. What no compiler would emit is in `hostile_components.rs` and `hostile_serving.rs`.

use std::time::Duration;

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{another, balanced, reason_has, serving};
use sluicegate_tests::{HOSTILE_BALANCER, eventually, fetch, replace};

#[test]
fn a_balancer_that_misbehaves_at_once_is_refused_with_its_stage_and_reason_while_the_old_configuration_serves() {
    let limits = ", limits: {memory: 8Mi, deadline: 200ms, configureDeadline: 500ms}";
    let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: ok}", limits));
    let load = Load::on(gateway.node_port());
    for (mode, stage, reason) in [
        ("trap-open", "stage configure", "trapped"),
        ("trap-update", "stage trial", "trapped"),
        ("trap-pick", "stage trial", "trapped"),
        ("out-of-range", "stage trial", "out of range"),
        ("loop-open", "stage configure", "did not return within its deadline of 500ms"),
        ("loop-pick", "stage trial", "did not return within its deadline of 200ms"),
        ("memory-open", "stage configure", "memory limit of 8388608 bytes"),
        ("memory-pick", "stage trial", "memory limit of 8388608 bytes"),
    ] {
        gateway.write("policy.yaml", &balanced(&format!("{{mode: {mode}}}"), limits));
        eventually(mode, || gateway.has_fault(&["plugin mine", stage, reason]) && reason_has(&gateway, &["plugin mine", stage, reason]));
        load.goes_on(3);
    }
    gateway.write("policy.yaml", &balanced("{mode: sabotage}", limits));
    eventually("the schema is checked", || gateway.has_fault(&["plugin mine: config.mode", "sabotage"]));
    load.goes_on(3);
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 1);
    load.end();
}

#[test]
fn a_balancer_that_turns_bad_under_traffic_is_contained_and_rolled_back_to_the_generation_before() {
    for (mode, reason) in
        [("trap-pick", "trapped"), ("out-of-range", "out of range"), ("loop-pick", "deadline"), ("memory-pick", "memory limit")]
    {
        let bad = format!("{{mode: {mode}, spare_trials: true}}");
        let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: ok}", ", limits: {memory: 8Mi, deadline: 100ms}"));
        let address = gateway.node_port();
        let load = Load::on(address);
        gateway.write("policy.yaml", &balanced(&bad, ", limits: {memory: 8Mi, deadline: 100ms}"));
        let mut told = String::new();
        eventually(mode, || {
            told = gateway.plugin("mine")["reason"].as_str().unwrap_or_default().to_owned();
            ["plugin mine", "stage pick", "generation 1 is quarantined", reason].iter().all(|words| told.contains(words))
        });
        load.goes_on(20);
        // It cost five calls, and at most one more of the other worker, each ended at its deadline.
        let failures = told.split_once("quarantined after ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
        assert!(failures.is_some_and(|n| (5..=6).contains(&n)), "{mode}: {told}");
        // No request took longer than one of them. A call that is never ended would not return at all; one on a busy machine may take nine times its
        // deadline (the host counts the time that it computed, not the time that it waited), and then the request waits for its turn like any other.
        let worst = load.end();
        assert!(worst < Duration::from_secs(5), "{mode}: a request took {worst:?}");
        assert_eq!(gateway.plugin("mine")["state"], "failed", "there was no generation before: the native choice serves");
        // The same configuration does not bring the bad version back; a new file does.
        replace(&gateway.path("mine.wasm"), &another(HOSTILE_BALANCER));
        gateway.write("policy.yaml", &balanced("{mode: ok}", ", limits: {memory: 8Mi, deadline: 100ms}"));
        eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2 && gateway.plugin("mine")["state"] == "active");
    }
}

#[test]
fn a_bad_generation_is_rolled_back_to_the_good_one_before_it() {
    let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: ok}", ""));
    let load = Load::on(gateway.node_port());
    let mut bad = HOSTILE_BALANCER.to_vec();
    let marks: Vec<usize> = (0..bad.len() - 12).filter(|at| &bad[*at..at + 12] == b"default-good").collect();
    marks.iter().for_each(|at| bad[*at..at + 12].copy_from_slice(b"default-evil"));
    replace(&gateway.path("mine.wasm"), &bad);
    eventually("rolled back", || reason_has(&gateway, &["plugin mine", "stage pick", "generation 2 is quarantined", "trapped"]));
    assert_eq!(gateway.plugin("mine")["generation"]["number"], 1);
    assert_eq!(gateway.plugin("mine")["state"], "degraded");
    load.goes_on(20);
    load.end();
    let picks = || gateway.plugin("mine")["generation"]["calls"].as_u64();
    let before = picks();
    eventually("generation 1 picks again", || fetch(gateway.node_port()).0 == 200 && picks() > before);
}

#[test]
fn quarantine_ends_when_the_configuration_that_caused_it_changes() {
    let limits = ", limits: {deadline: 100ms}";
    let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: ok}", limits));
    let number = || gateway.plugin("mine")["generation"]["number"].as_u64();
    let load = Load::on(gateway.node_port());
    // The plugin has no generation before it, and then one that fails in the same way.
    for round in 1..=2 {
        gateway.write("policy.yaml", &balanced("{mode: trap-pick, spare_trials: true}", limits));
        eventually("quarantined", || gateway.plugin("mine")["state"] == "failed" && reason_has(&gateway, &["is quarantined"]));
        gateway.write("policy.yaml", &balanced("{mode: ok}", limits));
        eventually("it serves again", || gateway.plugin("mine")["state"] == "active" && number() == Some(1 + round));
    }
    load.goes_on(20);
    load.end();
}

#[test]
fn a_version_that_was_refused_for_a_configuration_is_loaded_when_that_changes() {
    let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: ok}", ""));
    // This plugin's schema has no `mode`.
    replace(&gateway.path("mine.wasm"), &sluicegate_plugins::builtin("maglev").expect("built in").wasm());
    eventually("refused", || gateway.plugin("mine")["state"] == "degraded" && reason_has(&gateway, &["stage configure", "mode"]));
    gateway.write("policy.yaml", &balanced("{tableSize: 101}", ""));
    eventually("it serves", || gateway.plugin("mine")["state"] == "active" && gateway.plugin("mine")["generation"]["number"] == 2);
}

#[test]
fn an_exchange_fails_with_its_balancer_only_where_the_policy_says_so() {
    let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: ok}", ", failurePolicy: Fail"));
    let address = gateway.node_port();
    gateway.write("policy.yaml", &balanced("{mode: trap-pick, spare_trials: true}", ", failurePolicy: Fail"));
    eventually("it traps", || fetch(address) == (503, "the balancer plugin failed\n".to_owned()));
    gateway.write("policy.yaml", &balanced("{mode: trap-pick, spare_trials: true}", ", failurePolicy: Fallback"));
    eventually("the native choice serves", || fetch(address).0 == 200);
}

#[test]
fn a_log_flood_is_cut_and_the_guest_serves_on() {
    let gateway = serving(HOSTILE_BALANCER, &balanced("{mode: log-flood, spare_trials: true}", ", limits: {deadline: 5s}"));
    let load = Load::on(gateway.node_port());
    load.goes_on(20);
    assert_eq!(gateway.plugin("mine")["generation"]["failures"], 0);
    load.end();
}
