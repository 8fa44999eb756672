//! What each node runs of a plugin, as its status says it.

use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{Gateway, OLD_DISCOVERY, eventually, replace};

use crate::chart::rights::assert_sufficient;

use super::world::world;

fn status(server: &ApiServer, pointer: &str) -> Value {
    server.get("Plugin", "shop", "pods").and_then(|plugin| plugin.pointer(&format!("/status{pointer}")).cloned()).unwrap_or_default()
}

fn condition(server: &ApiServer) -> Value {
    let all = status(server, "/conditions");
    all.as_array().into_iter().flatten().find(|condition| condition["type"] == "Consistent").cloned().unwrap_or_default()
}

fn named(name: &'static str) -> fn(&mut sluicegate::Settled, [u8; 2]) {
    match name {
        "one" => |settled, _| settled.here.node = Some("one".to_owned()),
        _ => |settled, _| settled.here.node = Some("two".to_owned()),
    }
}

#[test]
fn a_plugins_status_counts_the_nodes_that_run_a_generation() {
    let (server, gateway) = world();
    let mut one = gateway.adjusted(named("one"));
    let mut two = Gateway::of_cluster(server.kubeconfig(), &[]).adjusted(named("two"));
    let file = one.path("pods.wasm");
    std::fs::write(&file, OLD_DISCOVERY).expect("written");
    server.put(json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "Plugin", "metadata": {"name": "pods", "namespace": "shop"},
        "spec": {"kind": "discovery", "source": {"file": file}}}));
    one.start();
    two.start();
    eventually("both are counted", || status(&server, "/nodes/reporting") == 2);
    let digest = status(&server, "/serving/sha256");
    assert!(digest.is_string(), "{digest}");
    eventually("both run the same", || status(&server, "/nodes/generations/0/nodes") == 2);
    assert_eq!(status(&server, "/nodes/generations/0/sha256"), digest);
    assert_eq!((&condition(&server)["status"], &condition(&server)["reason"]), (&json!("True"), &json!("SameGeneration")));
    // A node whose file is another one, and no plugin: what served goes on, and it is told which node it is.
    replace(&file, b"no module");
    eventually("it is refused", || condition(&server)["reason"] == "RefusedOnNodes");
    assert!(condition(&server)["message"].as_str().is_some_and(|message| message.contains(" of 2 nodes; on ")), "{}", condition(&server));
    assert_eq!(status(&server, "/nodes/generations/0/sha256"), digest);
    eventually("there is an Event", || server.all("Event").iter().any(|event| event["reason"] == "RefusedOnNodes"));
    // A node that is stopped is counted no more.
    two.stop();
    eventually("one is left", || status(&server, "/nodes/reporting") == 1);
    let leases = server.all("Lease");
    let reports = leases.iter().filter(|lease| lease["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("sluicegate-node-")));
    assert_eq!(reports.count(), 1);
    assert_sufficient(&server);
}
