//! Services that stand for Gateways: made, changed and deleted by the leader, and no others touched.

use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{Gateway, eventually};

use crate::chart::rights::assert_sufficient;

use super::world::world;

const NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// A Gateway with this `spec.infrastructure`, by the port of its listener.
fn edge(gateway: &Gateway, port: u16, infrastructure: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "ours", "addresses": [{"type": "IPAddress", "value": gateway.ip(20).to_string()}], "infrastructure": infrastructure,
            "listeners": [{"name": "web", "protocol": "HTTP", "port": port}]}})
}

fn classes(server: &ApiServer) {
    for (name, controller) in [("ours", "sluicegate.dev/gateway-controller"), ("theirs", "other.example/controller")] {
        server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": name},
            "spec": {"controllerName": controller}}));
    }
}

fn service(server: &ApiServer, pointer: &str) -> Value {
    server.get("Service", "shop", "edge-ours").and_then(|service| service.pointer(pointer).cloned()).unwrap_or_default()
}

/// The requests that wrote Services themselves.
fn writes(server: &ApiServer) -> Vec<String> {
    server.asked().into_iter().filter(|asked| asked.contains("/services") && !asked.starts_with("GET ")).collect()
}

#[test]
fn a_service_stands_for_a_gateway_as_long_as_it_is_there() {
    let (server, mut gateway) = world();
    classes(&server);
    let made = server.put(edge(&gateway, 8080, &json!({"labels": {"team": "shop", "tier": "edge"}, "annotations": {"owner": "us"}})));
    gateway.start();
    eventually("the Service has its labels", || service(&server, "/metadata/labels/team") == "shop");
    assert_eq!(service(&server, "/metadata/labels/tier"), "edge");
    assert_eq!(service(&server, "/metadata/annotations/owner"), "us");
    assert_eq!(service(&server, &format!("/metadata/labels/{}", NAME.replace('/', "~1"))), "edge");
    assert_eq!(service(&server, "/spec"), json!({"clusterIP": "None", "ports": [{"name": "tcp-8080", "port": 8080, "protocol": "TCP"}]}));
    let owner = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "uid": made["metadata"]["uid"], "controller": true});
    assert_eq!(service(&server, "/metadata/ownerReferences"), json!([owner]));
    assert_eq!(writes(&server).len(), 2, "{:?}", writes(&server));
    let metric = |name: &str| {
        let page = gateway.get("/metrics").expect("shown");
        page.lines().find_map(|line| Some(line.strip_prefix(name)?.rsplit_once(' ')?.1.to_owned())).unwrap_or_default()
    };
    eventually("nothing is left to write", || metric("sluicegate_source_writes_pending{") == "0");
    assert_eq!((metric("sluicegate_source_leads{").as_str(), metric("sluicegate_source_leads_begun_total{").as_str()), ("1", "1"));
    let page = gateway.get("/metrics").expect("shown");
    let services = |result: &str| {
        page.lines()
            .any(|line| line.contains("source_writes_total") && line.contains("kind=\"Service\",part=\"object\"") && line.ends_with(result))
    };
    assert!(services("result=\"written\"} 2") && services("result=\"refused\"} 0"), "{page}");

    // Somebody adds a label of their own and takes one of ours away: theirs stays, ours is there again.
    let mut changed = server.get("Service", "shop", "edge-ours").expect("there");
    changed["metadata"]["labels"] = json!({NAME: "edge", "theirs": "x"});
    server.put(changed);
    eventually("the label is there again", || service(&server, "/metadata/labels/team") == "shop");
    assert_eq!(service(&server, "/metadata/labels/theirs"), "x");

    // What is no longer wished goes.
    server.put(edge(&gateway, 8081, &json!({"labels": {"team": "other"}})));
    eventually("the label is another", || service(&server, "/metadata/labels/team") == "other");
    assert_eq!(service(&server, "/metadata/labels/tier"), Value::Null);
    assert_eq!(service(&server, "/metadata/labels/theirs"), "x");
    assert_eq!(service(&server, "/metadata/annotations/owner"), Value::Null);
    assert_eq!(service(&server, "/spec/ports/0/port"), 8081);

    // Another process goes on where this one has ended, and writes nothing.
    let before = writes(&server).len();
    gateway.stop();
    gateway.start();
    let status = || server.get("Lease", "default", "sluicegate").map_or(Value::Null, |lease| lease["spec"]["holderIdentity"].clone());
    eventually("it leads", || status() != "");
    // A Gateway that comes later has its Service later: by then the first was looked at.
    let mut second = edge(&gateway, 8090, &json!({}));
    second["metadata"]["name"] = json!("second");
    server.put(second);
    eventually("the second is there", || {
        server.get("Service", "shop", "second-ours").is_some_and(|service| service["spec"]["ports"][0]["port"] == 8090)
    });
    let others = |asked: &&String| !asked.contains("second-ours") && !asked.starts_with("POST ");
    assert_eq!(writes(&server)[before..].iter().filter(others).count(), 0, "{:?}", &writes(&server)[before..]);

    // The Gateway is left to another controller, and the other one is gone.
    let mut given = edge(&gateway, 8081, &json!({}));
    given["spec"]["gatewayClassName"] = json!("theirs");
    server.put(given);
    server.remove("Gateway", "shop", "second");
    eventually("both Services are gone", || server.all("Service").is_empty());
    assert!(server.all("Event").is_empty(), "{:?}", server.all("Event"));
    assert_sufficient(&server);
}

#[test]
fn a_service_of_the_same_name_that_is_anothers_stays_as_it_is_and_that_is_told() {
    let (server, mut gateway) = world();
    classes(&server);
    let theirs = server.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "edge-ours", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "protocol": "TCP"}]}}));
    server.put(edge(&gateway, 8080, &json!({"labels": {"team": "shop"}})));
    gateway.start();
    eventually("it is told", || server.all("Event").iter().any(|event| event["regarding"]["name"] == "edge"));
    let events = server.all("Event");
    assert_eq!((&events[0]["reason"], &events[0]["type"], events.len()), (&json!("NoService"), &json!("Warning"), 1));
    assert!(events[0]["note"].as_str().is_some_and(|note| note.starts_with("Service shop/edge-ours is another's")), "{events:?}");
    assert_eq!(server.get("Service", "shop", "edge-ours"), Some(theirs));
    // It is tried again after a while, and told no more.
    server.remove("Service", "shop", "edge-ours");
    eventually("ours is there", || service(&server, "/metadata/labels/team") == "shop");
    assert_eq!(server.all("Event").len(), 1);
    // The Gateway is made anew, before anybody has cleared away what belonged to the old one.
    let old = service(&server, "/metadata/ownerReferences/0/uid");
    server.remove("Gateway", "shop", "edge");
    server.put(edge(&gateway, 8080, &json!({"labels": {"team": "shop"}})));
    eventually("it belongs to the new one", || {
        let owner = service(&server, "/metadata/ownerReferences/0/uid");
        !owner.is_null() && owner != old && service(&server, "/metadata/labels/team") == "shop"
    });
    assert_sufficient(&server);
}

#[test]
fn who_may_make_no_services_says_so_and_serves() {
    let (server, mut gateway) = world();
    classes(&server);
    server.refuse("create", "services");
    server.put(edge(&gateway, 8080, &json!({})));
    gateway.start();
    eventually("it is told", || !server.all("Event").is_empty());
    let note = server.all("Event")[0]["note"].as_str().unwrap_or_default().to_owned();
    assert!(note.contains("cannot create resource \"services\""), "{note}");
    let programmed =
        || server.get("Gateway", "shop", "edge").is_some_and(|it| it.pointer("/status/conditions/1/status") == Some(&json!("True")));
    eventually("it is programmed", programmed);
    server.allow("create", "services");
    eventually("it is there", || service(&server, "/spec/ports/0/port") == 8080);
}
