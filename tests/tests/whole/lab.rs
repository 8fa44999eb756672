//! The tools for authors of plugins, on plugins that must not pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_host::Loader;
use sluicegate_lab::certify::{Options, Report, Verdict, certify};
use sluicegate_lab::replay::replay;
use sluicegate_lab::simulate::{Scenario, Settings, simulate};
use sluicegate_lab::subject::Source;
use sluicegate_model::plugin::Limits;
use sluicegate_model::trace::Line;
use sluicegate_tests::{Gateway, HOSTILE_BALANCER, HOSTILE_DISCOVERY, HOSTILE_ROUTER, SERVICE, eventually, fetch, http};

fn report(name: &str, bytes: &'static [u8], config: Value) -> Report {
    let source = Source { name: name.to_owned(), bytes: bytes.into(), builtin: false };
    let limits = Limits {
        memory: 8 << 20,
        deadline: Duration::from_millis(200),
        configure_deadline: Duration::from_millis(500),
        ..Limits::default()
    };
    let options = Options { pools: 60, picks: 6_000, config, limits, ..Options::default() };
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
        // A plugin that behaves while the gateway tries it is found out on other pools.
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
    let unfair = good.checks.iter().find(|check| check.name.starts_with("fairness, weights 0 and 1"));
    assert!(unfair.is_some_and(|check| check.verdict == Verdict::Failed), "a plain round-robin knows no weights: {:#?}", good.checks);
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

#[test]
fn a_balancer_that_fails_in_a_simulation_is_quarantined_and_the_service_goes_on() {
    let source = Source { name: "hostile".to_owned(), bytes: HOSTILE_BALANCER.into(), builtin: false };
    let settings = Settings { duration: Duration::from_secs(2), ..Settings::default() };
    let config = json!({"mode": "trap-pick", "spare_trials": true});
    let report = simulate(&Loader::new().expect("an engine"), &[(source, config)], &[Scenario::Steady], &settings).expect("simulated");
    let outcome = &report.scenarios[0].outcomes[0];
    assert_eq!((outcome.failures, outcome.errors), (5, 0), "{outcome:?}");
    assert!(outcome.fallbacks > 1_000 && outcome.failure.as_ref().is_some_and(|reason| reason.contains("stage pick: trapped")));
}

fn record(gateway: &Gateway, plugin: &str, query: &str, field: &str) -> (u16, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20))).build().into();
    let url = format!("http://{}/api/v1/plugins/{plugin}/record?{query}", gateway.admin());
    let mut answer = agent.post(url).header(field, "1").send_empty().expect("answered");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
}

const ORDER: &str = "x-sluicegate-request";

/// Runs `watch` while a gateway is sent one request after another.
fn under_traffic(watch: impl FnOnce(&Gateway)) {
    let gateway = Gateway::new(&[("svc.yaml", &SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http"))]);
    for (name, last) in [("a", 2), ("b", 3), ("c", 4)] {
        http(gateway.ip(last), name);
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    eventually("served", || gateway.ready_endpoints() == 3 && fetch(gateway.node_port()).0 == 200);
    let (done, address) = (AtomicBool::new(false), gateway.node_port());
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(fetch(address).0, 200);
                served += 1;
            }
            served
        });
        watch(&gateway);
        done.store(true, Ordering::Relaxed);
        assert!(load.join().expect("every request is answered") > 0);
    });
}

#[test]
fn decisions_of_a_running_gateway_are_recorded_and_come_out_the_same() {
    under_traffic(|gateway| {
        let (status, trace) = record(gateway, "least-request", "seconds=1", ORDER);
        assert_eq!(status, 200, "{trace}");
        let lines: Vec<Line> = trace.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        let picks = lines.iter().filter(|line| matches!(line, Line::Pick(_))).count();
        assert!(matches!(&lines[..2], [Line::Begin(_), Line::Pool(pool)] if pool.endpoints.len() == 3), "{:?}", &lines[..2]);
        assert!(picks > 10 && matches!(lines.last(), Some(Line::End(end)) if end.picks == picks as u64 && end.dropped == 0));
        let play = |name| {
            let (loader, source) = (Loader::new().expect("an engine"), Source::find(name).expect("built in"));
            replay(&loader, &source, None, &Limits::default(), trace.as_bytes()).expect("replayed")
        };
        let same = play("least-request");
        assert_eq!((same.picks, same.same, same.guessed), (picks as u64, picks as u64, 0), "{:?}", same.differences.first());
        assert!(play("maglev").different > 0);

        let sampled = record(gateway, "least-request", "seconds=1&every=4&rate=3", ORDER).1;
        let picks = sampled.lines().filter(|line| line.starts_with("{\"pick\"")).count();
        assert!((1..=6).contains(&picks), "three a second:\n{sampled}");
    });
}

#[test]
fn recordings_are_bounded_ordered_and_one_at_a_time() {
    under_traffic(|gateway| {
        let trace = record(gateway, "least-request", "seconds=20&bytes=3000", ORDER).1;
        assert!(trace.len() < 6_000 && trace.trim_end().ends_with("\"why\":\"size\"}}"), "{trace}");
        assert_eq!(record(gateway, "least-request", "seconds=1", "x-other").0, 403, "a page in a browser could send this");
        assert_eq!(record(gateway, "nobody", "seconds=1", ORDER).0, 404);
        assert_eq!(record(gateway, "kubernetes", "seconds=1", ORDER).0, 409);
        assert_eq!(record(gateway, "least-request", "seconds=0", ORDER).0, 400);
        assert_eq!(record(gateway, "least-request", "secunds=1", ORDER).0, 400);
        // A stream ends when its client goes away.
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build().into();
        let url = format!("http://{}/api/v1/plugins/least-request/record?seconds=3600", gateway.admin());
        let running = agent.post(url).header(ORDER, "1").send_empty().expect("begun");
        let (status, said) = record(gateway, "least-request", "seconds=1", ORDER);
        assert_eq!((status, said.trim_end()), (409, "plugin least-request is being recorded; one recording is made at a time"));
        drop((running, agent));
        eventually("another one may begin", || record(gateway, "least-request", "seconds=1&bytes=1024", ORDER).0 == 200);
    });
}
