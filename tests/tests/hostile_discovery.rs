//! Discovery plugins that break their contract, and ask for what they may not reach: what they published stays, the traffic of others goes on.

use std::time::{Duration, Instant};

use sluicegate_tests::load::Load;
use sluicegate_tests::plugin::{discovered_by_sd, metric, object, reason_has};
use sluicegate_tests::{Gateway, HOSTILE_DISCOVERY, SERVICE, eventually, fetch, http};

#[test]
fn a_discovery_plugin_that_misbehaves_leaves_the_last_endpoints() {
    let policy = |mode: &str| {
        object("discovery", ", limits: {memory: 8Mi, configureDeadline: 200ms}")
            + "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{group: '', kind: Service, name: nginx-svc}]\n  discovery: {plugin: mine, config: {mode: "
            + mode
            + "}}\n"
    };
    // Another Service, of pods, has traffic all the while.
    let other = SERVICE
        .split("---")
        .nth(1)
        .expect("the Service")
        .replace("nginx-svc", "an-svc")
        .replace("protocol: TCP", "protocol: TCP\n    appProtocol: http");
    let gateway = Gateway::new(&[("svc.yaml", SERVICE), ("other.yaml", &other)]);
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    gateway.write("policy.yaml", &policy("ok"));
    let published = || gateway.json("endpoints").as_array().is_some_and(|all| all.iter().any(|e| e["address"] == "127.0.0.1:9"));
    eventually("published", published);
    assert_eq!(gateway.json("services")[0]["name"], "an-svc");
    eventually("the other is served", || fetch(gateway.node_port()).0 == 200);
    let load = Load::on(gateway.node_port());
    let held = || metric(&gateway, "sluicegate_plugin_held_memory_bytes{plugin=\"mine\",kind=\"discovery\"}");
    for (mode, reason) in [("trap", "trapped"), ("loop", "deadline of 200ms"), ("memory", "memory limit of 8388608 bytes")] {
        gateway.write("policy.yaml", &policy(mode));
        eventually(mode, || reason_has(&gateway, &["plugin mine", "stage run", reason]));
        assert!(published(), "{mode}: the last endpoints stay");
    }
    load.goes_on(20);
    // It runs on control's thread: workers never wait for it. The bound is for a busy machine.
    let (p99, _) = load.lap();
    assert!(p99 < Duration::from_millis(300), "the 99th percentile is {p99:?}");
    eventually("its memory came back", || held() <= Some(4e6));
    // The pauses before it is started anew double. An edit ends them: the next one would take seconds.
    gateway.write("policy.yaml", &policy("trap"));
    let failures = || gateway.plugin("mine")["generation"]["failures"].as_u64().expect("a number");
    let before = failures();
    eventually("it has trapped six times more", || failures() >= before + 6);
    gateway.write("policy.yaml", &policy("ok"));
    let begun = Instant::now();
    eventually("recovered", || gateway.plugin("mine")["state"] == "active");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    load.end();
}

#[test]
fn the_admin_api_and_metadata_addresses_must_be_named_themselves() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    let ask = |host: &str, allowed: &str| {
        let policy = object("discovery", &format!(", capabilities: {{allowedHosts: [{allowed}]}}"))
            + &discovered_by_sd("nginx-svc", &format!("mode: post, url: \"http://{host}/api/v1/plugins\""))
                .replace("plugin: sd", "plugin: mine");
        gateway.write("policy.yaml", &policy);
    };
    let admin = gateway.admin();
    let port = admin.port();
    let (unnamed, leads) = ("is not among the plugin's capabilities.allowedHosts", "resolves to an address that must be named itself");
    for (host, allowed, said) in [
        // Nothing is allowed that is not named,
        (admin.to_string(), "", unnamed),
        ("169.254.169.254".to_owned(), "", unnamed),
        ("100.100.100.200".to_owned(), "'*.internal', '10.0.0.1'", unnamed),
        // nor by its address without the port, nor by a name or another address that leads there.
        (admin.to_string(), "'127.0.0.1'", leads),
        (format!("localhost:{port}"), "localhost", leads),
        (format!("0.0.0.0:{port}"), "'0.0.0.0'", leads),
        (format!("[::ffff:127.0.0.1]:{port}"), "'::ffff:127.0.0.1'", leads),
    ] {
        ask(&host, allowed);
        eventually(&format!("{host}, and {allowed} allowed"), || gateway.has_fault(&["plugin mine", &format!("{host} {said}")]));
    }
    // Named with its port, it is reached, and has no endpoints to tell of.
    ask(&admin.to_string(), &format!("\"{admin}\""));
    eventually("reached", || gateway.has_no_fault() && gateway.plugin("mine")["generation"]["calls"].as_u64() > Some(0));
}
