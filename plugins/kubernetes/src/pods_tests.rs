//! One test for each rule of pod selection.

use serde_json::{Value, json};
use sluicegate_sdk::{Discovery, PublishedEndpoint};

use crate::testing::{addresses, find, merge, object, service};
use crate::{Config, Kubernetes};

fn spec() -> Value {
    json!({"selector": {"app": "cart"}, "ports": [{"port": 80, "targetPort": 8080}]})
}

fn pod(patch: Value) -> (&'static str, Value) {
    let pod = json!({
        "metadata": {"name": "a", "labels": {"app": "cart", "tier": "web"}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    ("Pod", merge(pod, patch))
}

fn one(spec_patch: Value, pod_patch: Value) -> Option<PublishedEndpoint> {
    let mut found = find(merge(spec(), spec_patch), &[pod(pod_patch)]);
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

#[test]
fn a_ready_pod_is_an_endpoint() {
    let expected = PublishedEndpoint {
        port_name: Some(String::new()),
        node: Some("n1".into()),
        labels: vec![("app".into(), "cart".into()), ("tier".into(), "web".into())],
        ..PublishedEndpoint::new("10.0.0.1", 8080)
    };
    assert_eq!(one(json!({}), json!({})), Some(expected));
}

#[test]
fn all_labels_must_match_in_the_same_namespace() {
    assert!(one(json!({"selector": {"tier": "web"}}), json!({})).is_some());
    assert!(one(json!({"selector": {"tier": "db"}}), json!({})).is_none());
    assert!(one(json!({"selector": {"other": "x"}}), json!({})).is_none());
    assert!(one(json!({}), json!({"metadata": {"namespace": "elsewhere"}})).is_none());
    assert!(one(json!({"selector": null}), json!({})).is_none());
    assert!(find(json!({"selector": {}, "ports": [{"port": 80}]}), &[pod(json!({}))]).is_empty());
}

#[test]
fn pods_that_have_ended_are_skipped() {
    for phase in ["Succeeded", "Failed"] {
        assert!(one(json!({}), json!({"status": {"phase": phase}})).is_none(), "{phase}");
    }
}

#[test]
fn conditions_follow_the_pod() {
    let state = |spec_patch: Value, pod_patch: Value| {
        let found = one(spec_patch, pod_patch).unwrap();
        (found.ready, found.serving, found.terminating)
    };
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let ending = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let anyway = json!({"publishNotReadyAddresses": true});
    assert_eq!(state(json!({}), json!({})), (true, true, false));
    assert_eq!(state(json!({}), unready.clone()), (false, false, false));
    assert_eq!(state(json!({}), json!({"status": {"conditions": null}})), (false, false, false));
    assert_eq!(state(json!({}), ending.clone()), (false, true, true));
    assert_eq!(state(json!({}), merge(ending.clone(), unready.clone())), (false, false, true));
    assert_eq!(state(anyway.clone(), unready), (true, false, false));
    assert_eq!(state(anyway, ending), (true, true, true));
    // Written by hand.
    assert_eq!(state(json!({}), json!({"status": {"conditions": null, "phase": null}})), (true, true, false));
}

#[test]
fn one_address_of_each_of_the_services_families() {
    let found = |families: Value, status: Value| -> Vec<String> {
        let found = find(merge(spec(), json!({"ipFamilies": families})), &[pod(json!({"status": status}))]);
        found.into_iter().map(|endpoint| endpoint.address).collect()
    };
    let both = json!({"podIP": "fd00::1", "podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.2"}]});
    assert_eq!(found(Value::Null, both.clone()), ["10.0.0.2"]);
    assert_eq!(found(json!(["IPv6"]), both.clone()), ["fd00::1"]);
    assert_eq!(found(json!(["IPv4", "IPv6"]), both.clone()), ["10.0.0.2", "fd00::1"]);
    assert_eq!(found(json!(["IPv6", "IPv4"]), both), ["fd00::1", "10.0.0.2"]);
    assert_eq!(found(json!(["IPv4", "IPv6"]), json!({})), ["10.0.0.1"]);
    assert!(found(json!(["IPv6"]), json!({})).is_empty());
    assert_eq!(found(json!([]), json!({})), ["10.0.0.1"]);
    assert!(found(Value::Null, json!({"podIP": null})).is_empty());
    assert!(found(Value::Null, json!({"podIP": "nonsense"})).is_empty());
}

#[test]
fn the_target_port_is_the_port_unless_set() {
    let port = |port: Value| one(json!({"ports": [port]}), json!({})).map(|found| found.port);
    assert_eq!(port(json!({"port": 80})), Some(80));
    assert_eq!(port(json!({"port": 80, "targetPort": 0})), Some(80));
    assert_eq!(port(json!({"port": 80, "targetPort": 81})), Some(81));
    assert_eq!(port(json!({"port": 80, "protocol": "SCTP"})), None);
}

#[test]
fn a_named_target_port_is_resolved_for_each_pod() {
    let containers = json!({"spec": {
        "initContainers": [
            {"ports": [{"name": "once", "containerPort": 1}]},
            {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 2}, {"name": "web", "containerPort": 3}]},
        ],
        "containers": [
            {"ports": [{"name": "web", "protocol": "UDP", "containerPort": 4}]},
            {"ports": [{"name": "web", "containerPort": 5}]},
        ],
    }});
    let port = |name: &str, protocol: &str| {
        let ports = json!({"ports": [{"port": 80, "targetPort": name, "protocol": protocol}]});
        one(ports, containers.clone()).map(|found| found.port)
    };
    assert_eq!(port("web", "TCP"), Some(5));
    assert_eq!(port("web", "UDP"), Some(4));
    assert_eq!(port("side", "TCP"), Some(2));
    assert_eq!(port("once", "TCP"), None);
    assert_eq!(port("none", "TCP"), None);
}

#[test]
fn a_pod_without_the_name_still_serves_the_other_ports() {
    let ports = json!([{"name": "a", "port": 80, "targetPort": "none"}, {"name": "b", "port": 81}]);
    let found = one(json!({"ports": ports}), json!({})).unwrap();
    assert_eq!((found.port_name.as_deref(), found.port), (Some("b"), 81));
}

#[test]
fn the_weight_is_an_annotation() {
    let weight = |text: &str| one(json!({}), json!({"metadata": {"annotations": {"sluicegate.dev/weight": text}}})).unwrap().weight;
    assert_eq!(weight("7"), 7);
    assert_eq!(weight("0"), 0);
    assert_eq!(weight("1000000"), 1_000_000);
    for wrong in ["1000001", "-1", "1.5", "many", ""] {
        assert_eq!(weight(wrong), 1, "{wrong}");
    }
}

#[test]
fn the_zone_is_that_of_the_node() {
    let node = json!({"metadata": {"name": "n1", "namespace": "", "labels": {"topology.kubernetes.io/zone": "z1"}}});
    assert_eq!(find(spec(), &[pod(json!({})), ("Node", node)])[0].zone.as_deref(), Some("z1"));
    assert_eq!(find(spec(), &[pod(json!({}))])[0].zone, None);
}

#[test]
fn an_external_name_has_no_endpoints() {
    assert!(one(json!({"type": "ExternalName"}), json!({})).is_none());
}

#[test]
fn several_pods_come_in_the_order_of_their_names() {
    let second = pod(json!({"metadata": {"name": "0"}, "status": {"podIP": "10.0.0.9"}}));
    assert_eq!(addresses(&find(spec(), &[pod(json!({})), second])), ["10.0.0.9:8080", "10.0.0.1:8080"]);
}

#[test]
fn only_what_can_change_the_endpoints_concerns() {
    let service = service(spec());
    let plugin = Kubernetes::open(&service, Config {}).unwrap();
    let concerns = |kind: &str, metadata: Value| plugin.concerns(&service, &object(kind, json!({"metadata": metadata})));
    assert!(concerns("Pod", json!({"labels": {"app": "cart"}})));
    assert!(!concerns("Pod", json!({"labels": {"app": "other"}})));
    assert!(!concerns("Pod", json!({"labels": {"app": "cart"}, "namespace": "elsewhere"})));
    assert!(concerns("EndpointSlice", json!({"labels": {"kubernetes.io/service-name": "cart"}})));
    assert!(!concerns("EndpointSlice", json!({"labels": {"kubernetes.io/service-name": "other"}})));
    assert!(!concerns("EndpointSlice", json!({"labels": {"kubernetes.io/service-name": "cart"}, "namespace": "elsewhere"})));
    assert!(concerns("Node", json!({"namespace": ""})));
    assert!(!concerns("ConfigMap", json!({})));
}
