//! What stays the same while other things change: node ports with their owners, counters, and an address that another process holds for a while.

use std::net::TcpListener;

use sluicegate_tests::{Gateway, SERVICE, connect, echo, eventually, replace};

/// The sum of a counter's samples.
fn counter(gateway: &Gateway, name: &str) -> f64 {
    let metrics = gateway.get("/metrics").expect("answered");
    let samples = metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    samples.sum()
}

fn service(name: &str, node_port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, selector: {{app: nginx}}, ports: [{{port: 80, nodePort: {node_port}}}]}}\n"
    )
}

fn node_port_of(gateway: &Gateway, name: &str) -> Option<u64> {
    let services = gateway.json("services");
    services.as_array().expect("a list").iter().find(|s| s["name"] == name)?["ports"][0]["nodePort"].as_u64()
}

#[test]
fn a_node_port_stays_with_its_holder_in_whatever_order_files_are_read_and_over_a_restart() {
    let mut gateway = Gateway::new(&[("m.yaml", &service("holder", 30_011))]);
    eventually("held", || node_port_of(&gateway, "holder") == Some(30_011));
    gateway.write("a.yaml", &service("a-late-comer", 30_011));
    let wanted = r#"Service "a-late-comer" is invalid: spec.ports[0].nodePort: Invalid value: 30011: provided port is already allocated"#;
    let refused = |gateway: &Gateway| gateway.json("faults").as_array().is_some_and(|all| all.iter().any(|f| f["message"] == wanted));
    eventually("refused", || refused(&gateway));
    assert_eq!((node_port_of(&gateway, "holder"), node_port_of(&gateway, "a-late-comer")), (Some(30_011), None));
    gateway.stop();
    gateway.start();
    eventually("refused again", || refused(&gateway));
    assert_eq!((node_port_of(&gateway, "holder"), node_port_of(&gateway, "a-late-comer")), (Some(30_011), None));
    std::fs::remove_file(gateway.path("m.yaml")).expect("removed");
    eventually("it is free", || node_port_of(&gateway, "a-late-comer") == Some(30_011));
}

#[test]
fn counters_only_grow_while_endpoints_objects_and_plugins_change() {
    let policy = "apiVersion: sluicegate.dev/v1alpha1\nkind: Plugin\nmetadata: {name: mine}\nspec: {kind: balancer, source: {file: mine.wasm}}\n---\napiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: p}\nspec: {targetRefs: [{kind: Service, name: nginx-svc}], loadBalancer: {plugin: mine}}\n";
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    std::fs::write(gateway.path("mine.wasm"), wasm("random")).expect("written");
    gateway.write("policy.yaml", policy);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("mine", || gateway.ready_endpoints() == 1 && gateway.plugin("mine")["generation"]["number"] == 1);
    let node_port = gateway.node_port();
    eventually("served", || connect(node_port).is_ok());
    for _ in 0..20 {
        connect(node_port).expect("served");
    }
    let all = ["sluicegate_service_picks_total", "sluicegate_service_connections_total", "sluicegate_plugin_calls_total{plugin=\"mine\""];
    let mut before = all.map(|name| counter(&gateway, name));
    assert!(before.iter().all(|count| *count >= 20.0), "{before:?}");
    let mut grown = |what: &str| {
        let now = all.map(|name| counter(&gateway, name));
        assert!(now.iter().zip(&before).all(|(now, before)| now >= before), "{what}: {before:?} became {now:?}");
        before = now;
    };
    replace(&gateway.path("mine.wasm"), &wasm("round-robin"));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    grown("another generation");
    gateway.write("b.yaml", &gateway.pod("b", 3, true));
    std::fs::remove_file(gateway.path("a.yaml")).expect("removed");
    eventually("b alone", || connect(node_port).is_ok_and(|(name, _)| name == "b"));
    grown("another endpoint");
    std::fs::remove_file(gateway.path("svc.yaml")).expect("removed");
    eventually("no Service", || gateway.json("services").as_array().is_some_and(Vec::is_empty));
    gateway.write("svc.yaml", SERVICE);
    eventually("it is back", || gateway.ready_endpoints() == 1);
    grown("the Service came back");
}

#[test]
fn an_address_that_another_process_holds_is_tried_again_until_it_is_free() {
    let gateway = Gateway::new(&[]);
    let held = TcpListener::bind((gateway.ip(1), 30_012)).expect("bound");
    gateway.write("svc.yaml", &service("nginx-svc", 30_012));
    echo(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let address = held.local_addr().expect("an address");
    let told = |gateway: &Gateway| gateway.json("faults").to_string().contains(&format!("cannot listen on {address}"));
    eventually("told", || told(&gateway) && gateway.ready_endpoints() == 1);
    drop(held);
    eventually("served, without any other change", || connect(address).is_ok_and(|(name, _)| name == "a"));
    eventually("no fault is left", || !told(&gateway));
}
