//! What a real API server said during the life of a Deployment, said again: each step is followed.

use std::collections::BTreeSet;

use serde_json::Value;
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{Gateway, eventually};

use super::world::{seen, world};
use crate::apiserver::recording;

/// The endpoints that are ready by the EndpointSlices that the server has.
fn told(server: &ApiServer) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let slices = server.all("EndpointSlice").into_iter().filter(|slice| slice["metadata"]["namespace"] == "shop");
    let addresses = slices.flat_map(|slice| {
        let port = slice["ports"][0]["port"].clone();
        let ready = list(&slice["endpoints"]).into_iter().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.map(move |endpoint| format!("{}:{port}", endpoint["addresses"][0].as_str().expect("an address"))).collect::<Vec<_>>()
    });
    addresses.collect()
}

/// The endpoints of that namespace that are ready in the gateway.
fn served(gateway: &Gateway) -> BTreeSet<String> {
    let endpoints = gateway.json("endpoints");
    let ready =
        endpoints.as_array().expect("a list").iter().filter(|endpoint| endpoint["namespace"] == "shop" && endpoint["ready"] == true);
    ready.map(|endpoint| endpoint["address"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn each_step_of_the_recorded_life_of_a_deployment_is_followed() {
    let (server, mut gateway) = world();
    let kinds = ["services", "endpointslices", "namespaces", "nodes"];
    let recordings: Vec<_> = kinds.iter().map(|kind| recording(&format!("11-watch-{kind}"))).collect();
    recordings.iter().flat_map(|recording| recording[0].items()).for_each(|object| server.put_as_it_is(object));
    gateway.start();
    let version = |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
    let mut events: Vec<Value> = recordings.iter().flat_map(|recording| recording[1].events()).collect();
    events.retain(|event| event["type"] != "BOOKMARK");
    events.sort_by_key(|event| version(event).expect("a version"));
    let (mut steps, mut most) = (BTreeSet::new(), 0);
    for event in events {
        let of_endpoints = event["object"]["kind"] == "EndpointSlice";
        server.play(event);
        // Without its Service a slice is nobody's.
        if of_endpoints && server.get("Service", "shop", "web").is_some() {
            let told = told(&server);
            eventually("the step is followed", || served(&gateway) == told);
            most = most.max(told.len());
            steps.insert(told);
        }
    }
    assert!(steps.len() > 10 && most == 8, "{} states, up to {most} endpoints", steps.len());
    eventually("nothing is left of it", || served(&gateway).is_empty());
    let of_server = server.all("Service").len();
    eventually("all Services are known", || seen(&gateway, "Service")["objects"] == of_server);
    assert_eq!(seen(&gateway, "Node")["objects"], server.all("Node").len());
    assert!(gateway.has_no_fault(), "{}", gateway.json("faults"));
}
