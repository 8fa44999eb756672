//! The contract between the gateway and its plugins: versions, and what plugins may ask of the host.

use sluicegate_tests::plugin::{another, balanced, gateway, metric, object};
use sluicegate_tests::{OLD_BALANCER, OLD_DISCOVERY, OLD_ROUTER, PROBE, eventually, fetch, replace};

#[test]
fn a_balancer_of_the_older_contract_serves_and_is_swapped_for_a_newer_one() {
    let gateway = gateway(OLD_BALANCER, &balanced("{}", ""));
    let address = gateway.node_port();
    eventually("both serve", || {
        let mut names: Vec<_> = (0..8).map(|_| fetch(address)).map(|(status, body)| (status, body[..1].to_owned())).collect();
        names.sort();
        names.dedup();
        names == [(200, "a".to_owned()), (200, "b".to_owned())] && gateway.plugin("mine")["generation"]["calls"].as_u64() > Some(7)
    });
    assert_eq!((&gateway.plugin("mine")["state"], &gateway.plugin("mine")["generation"]["failures"]), (&"active".into(), &0.into()));
    replace(&gateway.path("mine.wasm"), &sluicegate_plugins::builtin("round-robin").expect("built in").wasm());
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    assert_eq!(fetch(address).0, 200);
}

#[test]
fn a_router_of_the_older_contract_routes() {
    let router = "apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  router: {plugin: mine}\n";
    let gateway = gateway(OLD_ROUTER, &(object("router", "") + router));
    eventually("it answers", || fetch(gateway.node_port()) == (200, "default /x 3 true".to_owned()));
}

#[test]
fn a_discovery_plugin_of_the_older_contract_finds_endpoints() {
    let policy = "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  discovery: {plugin: mine}\n";
    let gateway = gateway(OLD_DISCOVERY, &(object("discovery", ", capabilities: {allowLoopbackEndpoints: true}") + policy));
    eventually("published", || {
        let endpoints = gateway.json("endpoints");
        endpoints.as_array().is_some_and(|found| found.len() == 1 && found[0]["address"] == "127.0.0.1:9")
    });
}

#[test]
fn a_plugin_of_a_contract_to_come_is_refused_with_both_versions() {
    let marks = b"balancing@0.2.0";
    let mut wasm = sluicegate_plugins::builtin("random").expect("built in").wasm();
    let found: Vec<usize> = (0..wasm.len() - marks.len()).filter(|at| &wasm[*at..at + marks.len()] == marks).collect();
    assert!(!found.is_empty());
    let gateway = gateway(OLD_BALANCER, &balanced("{}", ""));
    // The whole package is patched, so that it looks like one that was built for this version.
    let all: Vec<usize> = (0..wasm.len() - 6).filter(|at| &wasm[*at..at + 6] == b"@0.2.0").collect();
    all.iter().for_each(|at| wasm[at + 3] = b'9');
    replace(&gateway.path("mine.wasm"), &wasm);
    eventually("refused", || {
        let reason = gateway.plugin("mine")["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("stage world") && reason.contains("0.9.0") && reason.contains("this gateway knows 0.1 and 0.2")
    });
    assert_eq!(fetch(gateway.node_port()).0, 200);
}

#[test]
fn metrics_and_shared_state_reach_all_workers_and_outlive_a_swap() {
    let gateway = gateway(PROBE, &balanced("{}", ""));
    let address = gateway.node_port();
    for _ in 0..40 {
        assert_eq!(fetch(address).0, 200);
    }
    // Each pick adds one to the shared number and sets a gauge to it; two workers serve.
    let picks = || metric(&gateway, "sluicegate_custom_picks_total{plugin=\"mine\",side=\"all\"}");
    eventually("all are counted", || picks() == Some(40.0));
    assert_eq!(metric(&gateway, "sluicegate_custom_shared_picks{plugin=\"mine\"}"), Some(40.0));
    assert_eq!(metric(&gateway, "sluicegate_custom_hashes_count{plugin=\"mine\"}"), Some(40.0));
    assert_eq!(metric(&gateway, "sluicegate_custom_annotations{plugin=\"mine\"}"), Some(2.0), "of each pod one");
    assert_eq!(metric(&gateway, "sluicegate_plugin_shared_entries{plugin=\"mine\",kind=\"balancer\"}"), Some(1.0));
    replace(&gateway.path("mine.wasm"), &another(PROBE));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    assert_eq!(fetch(address).0, 200);
    eventually("it goes on", || picks() == Some(41.0));
    assert_eq!(metric(&gateway, "sluicegate_custom_shared_picks{plugin=\"mine\"}"), Some(41.0));
}

#[test]
fn bombs_of_metrics_and_shared_state_are_contained() {
    let limits = ", limits: {deadline: 10s, sharedEntries: 100, sharedMemory: 64Ki}";
    let gateway = gateway(PROBE, &balanced("{mode: bombs}", limits));
    let address = gateway.node_port();
    for _ in 0..3 {
        assert_eq!(fetch(address).0, 200);
    }
    eventually("picked", || metric(&gateway, "sluicegate_custom_bombs{plugin=\"mine\"}") > Some(0.0));
    let text = gateway.get("/metrics").expect("metrics");
    let rows = text.lines().filter(|line| line.starts_with("sluicegate_custom_")).count();
    assert!((900..1_100).contains(&rows), "{rows} rows");
    assert!(text.len() < 2 << 20, "{} bytes", text.len());
    assert!(metric(&gateway, "sluicegate_plugin_metric_refusals_total{plugin=\"mine\",kind=\"balancer\"}") > Some(1_000.0));
    assert!(metric(&gateway, "sluicegate_plugin_shared_refusals_total{plugin=\"mine\",kind=\"balancer\"}") > Some(100.0));
    let entries = metric(&gateway, "sluicegate_plugin_shared_entries{plugin=\"mine\",kind=\"balancer\"}");
    let bytes = metric(&gateway, "sluicegate_plugin_shared_bytes{plugin=\"mine\",kind=\"balancer\"}");
    assert!(entries <= Some(100.0) && bytes <= Some(65_536.0), "{entries:?} {bytes:?}");
    assert_eq!(gateway.plugin("mine")["generation"]["failures"], 0);
}
