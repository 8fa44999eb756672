//! Routers that break their contract are refused before traffic or contained under it, and the operator is told.

use std::time::Duration;

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{another, metric, reason_has, routed, serving};
use sluicegate_tests::wat::{Text, router};
use sluicegate_tests::{HOSTILE_ROUTER, eventually, fetch, replace};

const LIMITS: &str = ", limits: {memory: 8Mi, deadline: 200ms}";

#[test]
fn a_router_that_misbehaves_is_refused_or_contained() {
    let gateway = serving(HOSTILE_ROUTER, &routed("{mode: ok}", LIMITS));
    let address = gateway.node_port();
    eventually("routed", || fetch(address).1 == "ok");
    let load = Load::on(address);
    for (mode, stage, reason) in [
        ("trap-configure", "stage configure", "trapped"),
        ("trap-route", "stage trial", "trapped"),
        ("loop-route", "stage trial", "deadline of 200ms"),
        ("memory-route", "stage trial", "memory limit"),
        ("out-of-range", "stage trial", "out of range"),
    ] {
        gateway.write("policy.yaml", &routed(&format!("{{mode: {mode}}}"), LIMITS));
        eventually(mode, || gateway.has_fault(&["plugin mine", stage, reason]) && reason_has(&gateway, &["plugin mine", stage, reason]));
        load.goes_on(3);
    }
    load.end();
    // It fails under traffic without a generation before it: the answer is 503, and the reason is told.
    gateway.write("policy.yaml", &routed("{mode: trap-route, spare_trials: true}", LIMITS));
    eventually("contained", || fetch(address) == (503, "the router plugin failed\n".to_owned()));
    eventually("quarantined", || {
        fetch(address).0 == 503 && reason_has(&gateway, &["plugin mine", "stage route", "quarantined", "trapped"])
    });
}

#[test]
fn a_router_that_turns_bad_under_traffic_is_rolled_back_and_traffic_goes_on() {
    // The bound is the one of `hostile_serving.rs`: four deadlines of 50 ms, and 300 ms.
    const P99: Duration = Duration::from_millis(500);
    let limits = ", limits: {memory: 8Mi, deadline: 50ms, configureDeadline: 200ms}";
    let good = || router().with("route", "i32.const 576 i32.const 1 i32.store8 i32.const 580 i32.const 200 i32.store16 i32.const 576");
    let grow = "(loop (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then (br 1)))) unreachable";
    let table = "(loop (if (i32.ne (table.grow $bomb (ref.null func) (i32.const 1000)) (i32.const -1)) (then (br 1)))) unreachable";
    let answer = |data: &str| format!("(data (i32.const 1536) \"{data}\")");
    let deeds: [(&str, Text, &str); 8] = [
        ("a trap", good().in_service("route", "unreachable"), "trapped"),
        ("a loop", good().in_service("route", "(loop br 0)"), "deadline of 50ms"),
        ("recursion", good().in_service("route", "call $deep").also("(func $deep call $deep)"), "call stack exhausted"),
        ("a memory bomb", good().in_service("route", grow), "memory limit"),
        ("a table bomb", good().in_service("route", table).also("(table $bomb 1 funcref)"), "table elements"),
        (
            "a rule out of range",
            good().in_service("route", "(return (i32.const 1536))").also(&answer(r"\00\00\00\00\ff\00\00\00")),
            "out of range",
        ),
        ("a decision that is none", good().in_service("route", "(return (i32.const 1536))").also(&answer(r"\09")), "discriminant"),
        ("an answer out of bounds", good().in_service("route", "(return (i32.const -4))"), "bounds"),
    ];
    let mut version = good().module();
    let gateway = serving(&version, &routed("{}", limits));
    let load = Load::on(gateway.node_port());
    let held = || metric(&gateway, "sluicegate_plugin_held_memory_bytes{plugin=\"mine\",kind=\"router\"}");
    for (name, text, word) in deeds {
        load.lap();
        replace(&gateway.path("mine.wasm"), &text.module());
        eventually(name, || reason_has(&gateway, &["stage route", "is quarantined", word]));
        load.goes_on(150);
        let (p99, _) = load.lap();
        assert!(p99 <= P99, "{name}: the 99th percentile is {p99:?}");
        eventually("its memory came back", || held() <= Some(f64::from(1 << 20)));
        version = another(&version);
        replace(&gateway.path("mine.wasm"), &version);
        eventually("a version that behaves", || gateway.plugin("mine")["state"] == "active");
    }
    load.end();
}
