//! An operator's orders about the plugins of a running gateway, under traffic.

use std::time::Duration;

use serde_json::Value;
use sluicegate_tests::{Gateway, HOSTILE_DISCOVERY, SERVICE, connect, echo, eventually, replace};

fn objects(kind: &str) -> String {
    let (used, may) = match kind {
        "balancer" => ("loadBalancer", ""),
        _ => ("discovery", ", capabilities: {allowLoopbackEndpoints: true}"),
    };
    format!(
        "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {{name: mine}}\nspec: {{kind: {kind}, source: {{file: mine.wasm}}{may}}}\n---\napiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: p}}\nspec: {{targetRefs: [{{kind: Service, name: nginx-svc}}], {used}: {{plugin: mine}}}}\n"
    )
}

/// Gives an order; returns the status and the text of the answer.
fn order(gateway: &Gateway, action: &str, field: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20))).build().into();
    let mut request = agent.post(format!("http://{}/api/v1/plugins/mine/{action}", gateway.admin()));
    if let Some(field) = field {
        request = request.header(field, "1");
    }
    let mut answer = request.send_empty().expect("answered");
    (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text").trim_end().to_owned())
}

fn ordered(gateway: &Gateway, action: &str) -> (u16, String) {
    order(gateway, action, Some("x-sluicegate-request"))
}

fn history(gateway: &Gateway) -> Vec<(String, Option<u64>)> {
    let events: Value = serde_json::from_str(&gateway.get("/api/v1/plugins/mine/history").expect("answered")).expect("JSON");
    let events = events.as_array().expect("a list").clone();
    events.iter().map(|event| (event["what"].as_str().expect("a word").to_owned(), event["generation"].as_u64())).collect()
}

fn serving(gateway: &Gateway) -> u64 {
    gateway.plugin("mine")["generation"]["number"].as_u64().unwrap_or(0)
}

#[test]
fn a_balancer_is_rolled_back_disabled_and_reloaded_by_order() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    std::fs::write(gateway.path("mine.wasm"), wasm("random")).expect("written");
    gateway.write("policy.yaml", &objects("balancer"));
    echo(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("generation 1", || serving(&gateway) == 1 && gateway.ready_endpoints() == 1);
    for (number, name) in [(2, "round-robin"), (3, "least-request"), (4, "maglev")] {
        replace(&gateway.path("mine.wasm"), &wasm(name));
        eventually(name, || serving(&gateway) == number);
    }
    assert_eq!(gateway.plugin("mine")["kept"], serde_json::json!([3, 2]), "the last three are kept");
    let address = gateway.node_port();
    eventually("served", || connect(address).is_ok());

    assert_eq!(order(&gateway, "rollback", None).0, 403, "a page in a browser could send this");
    assert_eq!(ordered(&gateway, "explode").0, 404);
    let (status, said) = ordered(&gateway, "rollback");
    assert_eq!((status, said.as_str()), (200, "plugin mine: generation 3 serves, until its file changes or it is reloaded"));
    let shown = gateway.plugin("mine");
    assert_eq!((serving(&gateway), shown["state"].as_str()), (3, Some("degraded")));
    assert_eq!(shown["reason"], "rolled back from generation 4 by an operator");
    assert_eq!(connect(address).expect("served").0, "a");
    // Other changes do not bring it back.
    gateway.write("b.yaml", &gateway.pod("b", 3, false));
    eventually("seen", || gateway.json("endpoints").as_array().is_some_and(|all| all.len() == 2));
    assert_eq!(serving(&gateway), 3);
    assert_eq!((ordered(&gateway, "rollback").0, ordered(&gateway, "rollback").0), (200, 409), "2, and none before it");

    assert_eq!(ordered(&gateway, "disable").0, 200);
    assert_eq!(gateway.plugin("mine")["state"], "disabled");
    let picks = || gateway.plugin("mine")["generation"]["calls"].as_u64();
    let before = picks();
    eventually("the workers serve without it", || {
        let before = picks();
        connect(address).expect("served by the native choice").0 == "a" && picks() == before
    });
    replace(&gateway.path("mine.wasm"), &wasm("random"));
    assert_eq!(ordered(&gateway, "reload"), (200, "plugin mine: generation 5 serves".to_owned()));
    eventually("it picks again", || connect(address).expect("served").0 == "a" && picks() != before && picks() > Some(0));
    assert_eq!(gateway.plugin("mine")["state"], "active");
    assert_eq!(ordered(&gateway, "reload"), (200, "plugin mine: generation 6 serves".to_owned()), "also when nothing has changed");
    std::fs::write(gateway.path("mine.wasm"), b"no plugin").expect("written");
    let (status, said) = ordered(&gateway, "reload");
    assert!(status == 409 && said.starts_with("plugin mine, stage compile: "), "{status} {said}");
    let wanted = [("loaded", 1), ("loaded", 2), ("loaded", 3), ("loaded", 4), ("rolled back", 4), ("rolled back", 3), ("disabled", 2)];
    let wanted = wanted.map(|(what, number)| (what.to_owned(), Some(number)));
    let all = history(&gateway);
    assert_eq!(all[..7], wanted);
    assert_eq!(all[7..9], [("loaded".to_owned(), Some(5)), ("loaded".to_owned(), Some(6))]);
    assert_eq!(all.last().map(|(what, number)| (what.as_str(), *number)), Some(("refused", None)));
}

#[test]
fn a_discovery_plugin_that_is_disabled_leaves_its_endpoints() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    gateway.write("policy.yaml", &objects("discovery"));
    eventually("published", || gateway.ready_endpoints() == 1);
    assert_eq!(ordered(&gateway, "disable").0, 200);
    assert_eq!((gateway.plugin("mine")["state"].as_str(), gateway.ready_endpoints()), (Some("disabled"), 1));
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    assert_eq!(ordered(&gateway, "reload").0, 200);
    eventually("it runs again", || gateway.plugin("mine")["state"] == "active" && gateway.ready_endpoints() == 1);
}
