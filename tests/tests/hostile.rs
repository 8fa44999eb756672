//! Plugins that break their contract: what they do is refused before traffic or contained under it, traffic goes on, and the operator is
//! told which plugin, which stage, which reason.

use std::path::Path;
use std::time::{Duration, Instant};

use sluicegate_tests::load::Load;
use sluicegate_tests::{Gateway, HOSTILE_BALANCER, HOSTILE_DISCOVERY, HOSTILE_ROUTER, SERVICE, eventually, fetch, http, replace};

fn http_service() -> String {
    SERVICE.replace("protocol: TCP", "protocol: TCP\n    appProtocol: http")
}

fn plugin(kind: &str, more: &str) -> String {
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: mine}}\nspec: {{kind: {kind}, source: {{file: mine.wasm}}{more}}}\n---\n"
    )
}

fn balanced(mode: &str, more: &str) -> String {
    plugin("balancer", more)
        + "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  loadBalancer: {plugin: mine, config: "
        + mode
        + "}\n"
}

fn routed(mode: &str) -> String {
    plugin("router", ", limits: {memory: 8Mi, deadline: 200ms}")
        + "apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  router: {plugin: mine, config: "
        + mode
        + "}\n"
}

/// A gateway with two HTTP pods and a plugin `mine` configured as `policy` says.
fn gateway(wasm: &[u8], policy: &str) -> Gateway {
    let gateway = Gateway::new(&[("svc.yaml", &http_service())]);
    for (name, last) in [("a", 2), ("b", 3)] {
        http(gateway.ip(last), name);
        gateway.write(&format!("{name}.yaml"), &gateway.pod(name, last, true));
    }
    std::fs::write(gateway.path("mine.wasm"), wasm).expect("written");
    gateway.write("policy.yaml", policy);
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1);
    eventually("served", || fetch(gateway.node_port()).0 == 200);
    gateway
}

/// The same code with one more custom section: another version.
fn another(wasm: &[u8]) -> Vec<u8> {
    [wasm, &[0, 2, 1, b'x']].concat()
}

fn reason_has(gateway: &Gateway, words: &[&str]) -> bool {
    gateway.plugin("mine")["reason"].as_str().is_some_and(|reason| words.iter().all(|word| reason.contains(word)))
}

#[test]
fn a_balancer_that_misbehaves_at_once_is_refused_with_its_stage_and_reason_while_the_old_configuration_serves() {
    let limits = ", limits: {memory: 8Mi, deadline: 200ms, configureDeadline: 500ms}";
    let gateway = gateway(HOSTILE_BALANCER, &balanced("{mode: ok}", limits));
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
        let gateway = gateway(HOSTILE_BALANCER, &balanced("{mode: ok}", ", limits: {memory: 8Mi, deadline: 100ms}"));
        let address = gateway.node_port();
        let load = Load::on(address);
        gateway.write("policy.yaml", &balanced(&bad, ", limits: {memory: 8Mi, deadline: 100ms}"));
        let mut told = String::new();
        eventually(mode, || {
            told = gateway.plugin("mine")["reason"].as_str().unwrap_or_default().to_owned();
            ["plugin mine", "stage pick", "generation 1 is quarantined", reason].iter().all(|words| told.contains(words))
        });
        load.goes_on(20);
        // What it cost: five calls, and one more of the other worker at most, each cut at its deadline.
        let failures = told.split_once("quarantined after ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
        assert!(failures.is_some_and(|n| (5..=6).contains(&n)), "{mode}: {told}");
        // And no request more than one of them. A call that is never cut would not end at all; one on a busy machine may have its deadline nine times
        // over (the host counts what it computed, not what it waited), and then the request waits for its turn like everybody.
        let worst = load.end();
        assert!(worst < Duration::from_secs(5), "{mode}: a request took {worst:?}");
        assert_eq!(gateway.plugin("mine")["state"], "failed", "there was no generation before: the native choice serves");
        // The same configuration again does not bring the bad version back; a new file does.
        replace(&gateway.path("mine.wasm"), &another(HOSTILE_BALANCER));
        gateway.write("policy.yaml", &balanced("{mode: ok}", ", limits: {memory: 8Mi, deadline: 100ms}"));
        eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2 && gateway.plugin("mine")["state"] == "active");
    }
}

#[test]
fn a_bad_generation_is_rolled_back_to_the_good_one_before_it() {
    let gateway = gateway(HOSTILE_BALANCER, &balanced("{mode: ok}", ""));
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
fn an_exchange_fails_with_its_balancer_only_where_the_policy_says_so() {
    let gateway = gateway(HOSTILE_BALANCER, &balanced("{mode: ok}", ", failurePolicy: Fail"));
    let address = gateway.node_port();
    gateway.write("policy.yaml", &balanced("{mode: trap-pick, spare_trials: true}", ", failurePolicy: Fail"));
    eventually("it traps", || fetch(address) == (503, "the balancer plugin failed\n".to_owned()));
    gateway.write("policy.yaml", &balanced("{mode: trap-pick, spare_trials: true}", ", failurePolicy: Fallback"));
    eventually("the native choice serves", || fetch(address).0 == 200);
}

#[test]
fn a_log_flood_is_cut_and_the_guest_serves_on() {
    let gateway = gateway(HOSTILE_BALANCER, &balanced("{mode: log-flood, spare_trials: true}", ", limits: {deadline: 5s}"));
    let load = Load::on(gateway.node_port());
    load.goes_on(20);
    assert_eq!(gateway.plugin("mine")["generation"]["failures"], 0);
    load.end();
}

#[test]
fn a_router_that_misbehaves_is_refused_or_contained() {
    let gateway = gateway(HOSTILE_ROUTER, &routed("{mode: ok}"));
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
        gateway.write("policy.yaml", &routed(&format!("{{mode: {mode}}}")));
        eventually(mode, || gateway.has_fault(&["plugin mine", stage, reason]) && reason_has(&gateway, &["plugin mine", stage, reason]));
        load.goes_on(3);
    }
    load.end();
    // Under traffic, without a generation before it: 503, and the reason.
    gateway.write("policy.yaml", &routed("{mode: trap-route, spare_trials: true}"));
    eventually("contained", || fetch(address) == (503, "the router plugin failed\n".to_owned()));
    eventually("quarantined", || {
        fetch(address).0 == 503 && reason_has(&gateway, &["plugin mine", "stage route", "quarantined", "trapped"])
    });
}

#[test]
fn a_discovery_plugin_that_misbehaves_leaves_the_last_endpoints() {
    let policy = |mode: &str| {
        plugin("discovery", ", limits: {memory: 8Mi, configureDeadline: 200ms}")
            + "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  discovery: {plugin: mine, config: {mode: "
            + mode
            + "}}\n"
    };
    let gateway = Gateway::new(&[("svc.yaml", &http_service())]);
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    gateway.write("policy.yaml", &policy("ok"));
    let published = || gateway.json("endpoints").as_array().is_some_and(|e| e.len() == 1 && e[0]["address"] == "127.0.0.1:9");
    eventually("published", published);
    for (mode, reason) in [("trap", "trapped"), ("loop", "deadline of 200ms"), ("memory", "memory limit of 8388608 bytes")] {
        gateway.write("policy.yaml", &policy(mode));
        eventually(mode, || reason_has(&gateway, &["plugin mine", "stage run", reason]));
        assert!(published(), "{mode}: the last endpoints stay");
    }
    // The pauses before it is started anew double. An edit ends them: the next one would take seconds.
    gateway.write("policy.yaml", &policy("trap"));
    let failures = || gateway.plugin("mine")["generation"]["failures"].as_u64().expect("a number");
    let before = failures();
    eventually("it has trapped six times more", || failures() >= before + 6);
    gateway.write("policy.yaml", &policy("ok"));
    let begun = Instant::now();
    eventually("recovered", || gateway.plugin("mine")["state"] == "active");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_plugin_behind_a_configmap_volume_is_swapped_by_its_symlink() {
    let gateway = Gateway::new(&[("svc.yaml", &http_service())]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    // As the kubelet does it: ..data → ..1, mine.wasm → ..data/mine.wasm, then a rename of a new ..data over the old one.
    let volume = tempfile::tempdir().expect("a folder");
    let fill = |name: &str, plugin: &str| {
        std::fs::create_dir(volume.path().join(name)).expect("made");
        let wasm = sluicegate_plugins::builtin(plugin).expect("built in").wasm;
        std::fs::write(volume.path().join(name).join("mine.wasm"), wasm).expect("written");
        std::os::unix::fs::symlink(name, volume.path().join("..data_tmp")).expect("linked");
        std::fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).expect("renamed");
    };
    fill("..1", "random");
    std::os::unix::fs::symlink(Path::new("..data/mine.wasm"), volume.path().join("mine.wasm")).expect("linked");
    let file = volume.path().join("mine.wasm");
    gateway.write("policy.yaml", &balanced("{}", "").replace("mine.wasm", file.to_str().expect("UTF-8")));
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1);
    eventually("served", || fetch(gateway.node_port()).0 == 200);
    let load = Load::on(gateway.node_port());
    fill("..2", "round-robin");
    let begun = Instant::now();
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    load.goes_on(5);
    load.end();
}
