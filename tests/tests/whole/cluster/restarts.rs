//! Starts with and without an API server.

use serde_json::json;
use sluicegate_tests::load::Load;
use sluicegate_tests::{Gateway, eventually, http};

use super::world::{NODE_PORT, at, hurry, ready, seen, service, stands, world};

#[test]
fn a_start_without_the_server_waits_and_says_so() {
    let (mut server, mut gateway) = world();
    hurry(&mut gateway);
    http(gateway.ip(2), "a");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    server.stop();
    gateway.launch();
    eventually("it says what it waits for", || {
        let (status, text) = gateway.readiness();
        status == 503 && text.contains("not followed: Service of https://127.0.0.1") && text.contains("waiting: ")
    });
    server.start_again();
    eventually("it is served", || gateway.readiness().0 == 200 && gateway.ready_endpoints() == 1);
    let load = Load::on(at(&gateway));
    load.goes_on(10);
    load.end();
}

#[test]
fn a_start_without_the_server_serves_what_was_saved_and_then_what_the_server_says() {
    let (mut server, mut gateway) = world();
    hurry(&mut gateway);
    http(gateway.ip(2), "a");
    http(gateway.ip(3), "b");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    server.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "old", "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}));
    gateway.start();
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let copies = gateway.state_dir().join("cluster");
    let saved =
        |kind: &str| std::fs::read_dir(&copies).is_ok_and(|all| all.flatten().any(|e| e.file_name().to_string_lossy().starts_with(kind)));
    eventually("it is saved", || saved("EndpointSlice") && saved("Service") && saved("Namespace"));
    gateway.stop();
    server.stop();
    gateway.start();
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let load = Load::on(at(&gateway));
    load.goes_on(20);
    eventually("it is told", || gateway.has_fault(&["does not answer", "what an earlier process saved serves"]));
    stands(&gateway, "Service", "saved");
    let (status, text) = gateway.readiness();
    assert!(status == 200 && text.contains("not followed: Service of https://127.0.0.1") && text.contains(": saved"), "{text}");
    // What the server says counts once it answers, also what is no more.
    server.remove("Service", "shop", "old");
    server.put(ready(&gateway, &[2, 3]));
    server.start_again();
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    eventually("one Service", || gateway.json("services").as_array().is_some_and(|all| all.len() == 1));
    stands(&gateway, "Service", "synced");
    eventually("nothing is wrong", || gateway.has_no_fault() && gateway.readiness().1 == "ok\n");
    load.goes_on(20);
    load.end();
}

#[test]
fn a_folder_and_a_cluster_serve_together() {
    let (server, _) = world();
    let policy = "apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: web, namespace: shop}\n\
                  spec: {targetRefs: [{kind: Service, name: web}], loadBalancer: {plugin: round-robin}}\n";
    let mut gateway = Gateway::of_cluster(server.kubeconfig(), &[("policy.yaml", policy)]);
    http(gateway.ip(2), "a");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    gateway.start();
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let load = Load::on(at(&gateway));
    load.goes_on(5);
    load.end();
    assert_eq!(gateway.plugin("round-robin")["state"], "active");
    assert_eq!(seen(&gateway, "BackendTrafficPolicy")["objects"], 0);
    // What both define is a fault that names both.
    server.put(
        json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "web"}], "loadBalancer": {"plugin": "random"}}}),
    );
    eventually("both are named", || gateway.has_fault(&["BackendTrafficPolicy shop/web", "defined twice"]));
}
