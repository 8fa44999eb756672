use serde_json::{Value, json};
use sluicegate_sdk::{Discovery, Object, Objects, PublishedEndpoint, Service};

use crate::Kubernetes;

fn find(service: Value, objects: &[(&str, &str, Value)]) -> Vec<PublishedEndpoint> {
    let service = Service { namespace: "default".into(), name: "web".into(), object: service };
    let mut all = Objects::default();
    for (kind, name, value) in objects {
        all.insert(Object { kind: (*kind).into(), namespace: "default".into(), name: (*name).into(), value: value.clone() });
    }
    let mut found = Kubernetes.endpoints(&service, &all).expect("found");
    found.sort_by(|a, b| (&a.port_name, &a.address, a.port).cmp(&(&b.port_name, &b.address, b.port)));
    found
}

fn addresses(found: &[PublishedEndpoint]) -> Vec<String> {
    found.iter().map(|e| format!("{}:{}", e.address, e.port)).collect()
}

fn service(target: Value) -> Value {
    json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": target}]}})
}

fn pod(ip: &str, ready: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web", "tier": "x"}}, "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
           "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8081}]}]}})
}

#[test]
fn a_selector_takes_pods_with_all_its_labels() {
    let other = json!({"metadata": {"labels": {"app": "other"}}, "status": {"podIP": "10.0.0.9"}});
    let found = find(service(json!(80)), &[("Pod", "a", pod("10.0.0.1", "True")), ("Pod", "b", other.clone())]);
    assert_eq!(addresses(&found), ["10.0.0.1:80"]);
    let none = json!({"spec": {"ports": [{"port": 80}]}});
    assert!(find(none, &[("Pod", "b", other)]).is_empty());
}

#[test]
fn readiness_and_termination_follow_the_pod() {
    let mut dying = pod("10.0.0.2", "True");
    dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut done = pod("10.0.0.4", "True");
    done["status"]["phase"] = json!("Succeeded");
    let pods = [("Pod", "a", pod("10.0.0.1", "True")), ("Pod", "b", dying), ("Pod", "c", pod("10.0.0.3", "False")), ("Pod", "d", done)];
    let found = find(service(json!(80)), &pods);
    let states: Vec<_> = found.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, true, true), (false, false, false)]);
    let mut open = service(json!(80));
    open["spec"]["publishNotReadyAddresses"] = json!(true);
    assert!(find(open, &pods).iter().all(|e| e.ready));
}

#[test]
fn a_named_port_is_resolved_in_each_pod() {
    let mut other = pod("10.0.0.2", "True");
    other["spec"] =
        json!({"containers": [{}], "initContainers": [{"restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 9}]}]});
    let mut without = pod("10.0.0.3", "True");
    without["spec"] = json!({"containers": []});
    let found = find(service(json!("http")), &[("Pod", "a", pod("10.0.0.1", "True")), ("Pod", "b", other), ("Pod", "c", without)]);
    assert_eq!(addresses(&found), ["10.0.0.1:8081", "10.0.0.2:9"]);
}

#[test]
fn slices_are_united_and_prefer_what_is_not_terminating() {
    let slice = |ip: &str, conditions: Value, port: Value| {
        json!({"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": [{"port": port}],
               "endpoints": [{"addresses": [ip, "10.9.9.9"], "conditions": conditions}]})
    };
    let slices = [
        ("EndpointSlice", "s1", slice("10.0.0.1", json!({"terminating": true, "ready": false}), json!(80))),
        ("EndpointSlice", "s2", slice("10.0.0.1", json!({}), json!(80))),
        ("EndpointSlice", "s3", slice("10.0.0.2", json!({}), Value::Null)),
        ("Pod", "p", pod("10.0.0.7", "True")),
    ];
    let found = find(service(json!(80)), &slices);
    assert_eq!(addresses(&found), ["10.0.0.1:80"]);
    assert!(found[0].ready && found[0].serving && !found[0].terminating);
}
