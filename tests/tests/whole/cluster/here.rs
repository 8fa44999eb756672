//! What a gateway in a cluster knows of the node that it runs on.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use sluicegate_tests::{Gateway, eventually, fetch, http};

use super::world::{NODE_PORT, at, service, world};

fn node(zone: Option<&str>) -> Value {
    let labels = zone.map_or_else(|| json!({}), |zone| json!({"topology.kubernetes.io/zone": zone}));
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "here", "labels": labels}})
}

/// An endpoint in each of two zones, for the zone that it is in.
fn slice(gateway: &Gateway) -> Value {
    let endpoint = |last: u8, zone: &str| json!({"addresses": [gateway.ip(last).to_string()], "conditions": {"ready": true}, "zone": zone, "hints": {"forZones": [{"name": zone}]}});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [endpoint(2, "one"), endpoint(3, "two")], "ports": [{"name": "", "port": 80, "protocol": "TCP"}]})
}

/// Whether all of many requests are answered by this endpoint.
fn only(at: SocketAddr, name: &str) -> bool {
    TcpStream::connect(at).is_ok() && (0..20).all(|_| fetch(at).1.contains(name))
}

#[test]
fn its_zone_is_that_of_its_node() {
    let (server, gateway) = world();
    let mut gateway = gateway.adjusted(|settled, _| settled.here.node = Some("here".to_owned()));
    http(gateway.ip(2), "first");
    http(gateway.ip(3), "second");
    let mut near = service(&gateway, NODE_PORT);
    near["spec"]["trafficDistribution"] = json!("PreferSameZone");
    server.put(near);
    server.put(slice(&gateway));
    server.put(node(Some("one")));
    gateway.start();
    eventually("the endpoint of its zone", || only(at(&gateway), "first"));
    server.put(node(Some("two")));
    eventually("the endpoint of its new zone", || only(at(&gateway), "second"));
    server.remove("Node", "", "here");
    server.put(node(None));
    eventually("without a zone all endpoints", || !only(at(&gateway), "second") && !only(at(&gateway), "first"));
}

#[test]
fn a_file_that_is_relative_to_nothing_is_a_fault_that_says_so() {
    let (server, mut gateway) = world();
    server.put(json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "Plugin", "metadata": {"name": "mine", "namespace": "shop"},
        "spec": {"kind": "discovery", "source": {"file": "mine.wasm"}, "capabilities": {"allowedFiles": ["targets.json", "/etc/targets/*.json"]}}}));
    gateway.start();
    eventually("the file's fault", || gateway.has_fault(&["spec.source.file \"mine.wasm\": it is relative", "API server"]));
    assert!(gateway.has_fault(&["spec.capabilities.allowedFiles[0]: \"targets.json\" is relative"]), "{}", gateway.json("faults"));
    assert!(!gateway.has_fault(&["allowedFiles[1]"]));
    let refused = || server.get("Plugin", "shop", "mine").is_some_and(|plugin| plugin["status"]["conditions"][0]["reason"] == "Refused");
    eventually("its status says so", refused);
}
