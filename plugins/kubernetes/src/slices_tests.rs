//! One test for each rule of joining slices.

use serde_json::{Value, json};
use sluicegate_sdk::PublishedEndpoint;

use crate::testing::{addresses, find, merge};

fn spec() -> Value {
    json!({"selector": {"app": "cart"}, "ports": [{"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]})
}

fn slice(name: &str, endpoints: Value, patch: Value) -> (&'static str, Value) {
    let slice = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints,
    });
    ("EndpointSlice", merge(slice, patch))
}

fn one(patch: Value) -> Vec<String> {
    addresses(&find(spec(), &[slice("s", json!([{"addresses": ["10.0.0.1"]}]), patch)]))
}

fn pod() -> (&'static str, Value) {
    let pod = json!({
        "metadata": {"name": "p", "labels": {"app": "cart"}, "annotations": {"sluicegate.dev/weight": "9"}},
        "status": {"podIP": "10.0.0.99"},
    });
    ("Pod", pod)
}

#[test]
fn absent_conditions_are_ready_and_serving() {
    let found = find(spec(), &[slice("s", json!([{"addresses": ["10.0.0.1"]}]), json!({}))]);
    let expected = PublishedEndpoint { port_name: Some("web".into()), ..PublishedEndpoint::new("10.0.0.1", 8080) };
    assert_eq!(found, [expected]);
}

#[test]
fn an_endpoint_is_taken_as_it_stands() {
    let entry = json!({
        "addresses": ["10.0.0.1", "10.0.0.2"],
        "conditions": {"ready": false, "serving": true, "terminating": true},
        "zone": "z1",
        "nodeName": "n1",
        "hints": {"forZones": [{"name": "z1"}, {"name": "z2"}], "forNodes": [{"name": "n1"}]},
        "targetRef": {"kind": "Pod", "name": "p"},
    });
    let expected = PublishedEndpoint {
        port_name: Some("web".into()),
        ready: false,
        terminating: true,
        weight: 9,
        zone: Some("z1".into()),
        node: Some("n1".into()),
        hint_zones: vec!["z1".into(), "z2".into()],
        hint_nodes: vec!["n1".into()],
        labels: vec![("app".into(), "cart".into())],
        annotations: vec![("sluicegate.dev/weight".into(), "9".into())],
        ..PublishedEndpoint::new("10.0.0.1", 8080)
    };
    assert_eq!(find(spec(), &[slice("s", json!([entry]), json!({})), pod()]), [expected]);
}

#[test]
fn slices_are_joined_by_label_and_namespace() {
    assert_eq!(one(json!({})), ["10.0.0.1:8080"]);
    assert!(one(json!({"metadata": {"labels": {"kubernetes.io/service-name": "other"}}})).is_empty());
    assert!(one(json!({"metadata": {"namespace": "elsewhere"}})).is_empty());
    // A cluster's slices of headless Services have this label. kube-proxy passes them over, but routes lead to such Services.
    assert_eq!(one(json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}})), ["10.0.0.1:8080"]);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let ports = |ports: Value| one(json!({"ports": ports}));
    assert_eq!(ports(json!([{"name": "web", "port": 1}, {"name": "dns", "protocol": "UDP", "port": 2}])), ["10.0.0.1:2", "10.0.0.1:1"]);
    assert!(ports(json!([{"name": "dns", "port": 2}])).is_empty());
    assert!(ports(json!([{"name": "other", "port": 2}])).is_empty());
    assert!(ports(json!([{"name": "web"}])).is_empty());
    assert!(ports(json!([{"name": "web", "port": 0}])).is_empty());
    assert!(ports(json!([])).is_empty());
}

#[test]
fn a_port_without_a_name_matches_one_without() {
    let spec = json!({"ports": [{"port": 80}]});
    for port in [json!({"port": 7}), json!({"name": "", "port": 7})] {
        let found = find(spec.clone(), &[slice("s", json!([{"addresses": ["10.0.0.1"]}]), json!({"ports": [port]}))]);
        assert_eq!(found[0].port_name.as_deref(), Some(""));
    }
}

#[test]
fn the_address_type_must_be_a_family_of_the_service() {
    let v6 = || slice("s", json!([{"addresses": ["fd00::1"]}]), json!({"addressType": "IPv6"}));
    assert!(find(spec(), &[v6()]).is_empty());
    assert_eq!(find(merge(spec(), json!({"ipFamilies": ["IPv4", "IPv6"]})), &[v6()])[0].address, "fd00::1");
    assert!(one(json!({"addressType": "FQDN"})).is_empty());
    // An address of the wrong family, or none.
    let wrong = json!([{"addresses": ["fd00::1"]}, {"addresses": ["x"]}, {"addresses": []}, {}]);
    assert!(find(spec(), &[slice("s", wrong, json!({}))]).is_empty());
}

#[test]
fn of_duplicates_the_one_that_does_not_terminate_wins() {
    let entry = |terminating: bool| json!([{"addresses": ["10.0.0.1"], "conditions": {"terminating": terminating}}]);
    for (first, second) in [(true, false), (false, true)] {
        let found = find(spec(), &[slice("a", entry(first), json!({})), slice("b", entry(second), json!({}))]);
        assert_eq!(found.iter().map(|found| found.terminating).collect::<Vec<_>>(), [false]);
    }
}

#[test]
fn slices_are_united() {
    let found = find(
        spec(),
        &[
            slice("a", json!([{"addresses": ["10.0.0.1"]}]), json!({})),
            slice("b", json!([{"addresses": ["10.0.0.2"]}]), json!({"ports": [{"name": "web", "port": 9090}]})),
        ],
    );
    assert_eq!(addresses(&found), ["10.0.0.1:8080", "10.0.0.2:9090"]);
}

#[test]
fn pods_are_asked_only_when_there_are_no_slices() {
    assert!(find(spec(), &[slice("s", json!([]), json!({})), pod()]).is_empty());
    let ignored = slice("s", json!([]), json!({"addressType": "FQDN"}));
    assert_eq!(find(spec(), &[ignored, pod()]).len(), 2);
}

#[test]
fn a_service_without_selector_has_its_slices() {
    let spec = merge(spec(), json!({"selector": null}));
    assert_eq!(find(spec, &[slice("s", json!([{"addresses": ["10.0.0.1"]}]), json!({})), pod()]).len(), 1);
}
