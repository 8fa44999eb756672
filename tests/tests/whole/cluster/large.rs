//! What is asked of the API server, in requests and bytes, by a gateway that starts with hundreds of objects, and in calm. `make bench` measures it with thousands.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{eventually, http};

use super::world::{ready, routed, seen, service, world};

const SERVICES: u32 = 300;
const ROUTES: u32 = 60;

/// What of an object is not the gateway's affair.
fn managed() -> Value {
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:ports": {}, "f:selector": {}}});
    json!([{"apiVersion": "v1", "manager": "kubectl", "operation": "Apply", "time": "2026-11-28T12:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}])
}

fn fill(server: &ApiServer) {
    for number in 0..SERVICES {
        let name = format!("s{number}");
        server.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop", "managedFields": managed()},
            "spec": {"clusterIP": format!("10.96.{}.{}", number / 200, number % 200 + 1), "selector": {"app": name}, "ports": [{"port": 80}]}}));
        let endpoint = |last: u32| json!({"addresses": [format!("10.{}.{}.{}", 128 + number / 200, number % 200, last)], "conditions": {"ready": true}});
        server.put(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}, "managedFields": managed()},
            "endpoints": (1..=10).map(endpoint).collect::<Vec<_>>(), "ports": [{"name": "", "port": 80, "protocol": "TCP"}]}));
    }
    for number in 0..ROUTES {
        server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": format!("r{number}"), "namespace": "shop", "managedFields": managed()},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": format!("/r{number}")}}],
                "backendRefs": [{"name": format!("s{number}"), "port": 80}]}]}}));
    }
}

/// The size of all objects of these kinds, as the server has them.
fn size(server: &ApiServer, kinds: &[&str]) -> u64 {
    kinds.iter().flat_map(|kind| server.all(kind)).map(|object| object.to_string().len() as u64).sum()
}

/// Requests since there were so many, but for those of the election.
fn asked(server: &ApiServer, since: usize) -> Vec<String> {
    server.asked().into_iter().skip(since).filter(|asked| !asked.contains("/leases")).collect()
}

#[test]
fn a_start_asks_once_for_everything_and_calm_asks_for_nothing() {
    let (server, mut gateway) = world();
    http(gateway.ip(2), "a");
    server.put(service(&gateway, super::world::NODE_PORT));
    server.put(ready(&gateway, &[2]));
    routed(&server, &gateway);
    fill(&server);
    let kinds = ["Service", "EndpointSlice", "HTTPRoute", "Gateway", "GatewayClass", "Namespace"];
    let size = size(&server, &kinds);
    server.set_bookmarks(Duration::from_millis(300));
    gateway.start();
    let sources = gateway.json("sources");
    let (requests, bytes) = (asked(&server, 0), sources[0]["bytes"].as_u64().expect("a number"));
    println!("{} requests and {bytes} bytes for {size} bytes of objects", requests.len());
    // One watch for each of 21 kinds that has what there is at its beginning, and what kinds there are.
    assert!(requests.iter().all(|asked| !asked.contains("/api/") || asked.contains("watch=1")), "{requests:#?}");
    let watches = requests.iter().filter(|asked| asked.contains("watch=1")).count();
    assert!(watches <= 22 && requests.len() - watches <= 8, "{requests:#?}");
    // What events add, and who has the first statuses written already.
    assert!(bytes < size + size / 5 + 32_768, "{bytes} bytes for {size}");
    let count = |kind: &str| seen(&gateway, kind)["objects"].as_u64().unwrap_or_default();
    assert_eq!((count("Service"), count("HTTPRoute")), (u64::from(SERVICES) + 1, u64::from(ROUTES) + 1));

    let judged = || server.all("HTTPRoute").iter().all(|route| !route["status"]["parents"].is_null());
    eventually("all routes are judged", judged);
    eventually("nothing is written any more", || {
        let before = server.asked().len();
        std::thread::sleep(Duration::from_millis(300));
        asked(&server, before).is_empty()
    });
    let (before, bytes) = (server.asked().len(), gateway.json("sources")[0]["bytes"].as_u64().expect("a number"));
    std::thread::sleep(Duration::from_secs(3));
    let calm = asked(&server, before);
    assert!(calm.is_empty(), "{calm:#?}");
    let of_election = server.asked().len() - before;
    assert!(of_election <= 3, "the Lease is renewed every two seconds: {of_election}");
    let more = gateway.json("sources")[0]["bytes"].as_u64().expect("a number") - bytes;
    println!("in 3 s of calm {of_election} requests and {more} bytes");
    // Bookmarks, which for users come once a minute.
    assert!(more < 64_000, "{more} bytes");

    // A change is told by its watch, and nothing else is asked for.
    let before = server.asked().len();
    server.put(ready(&gateway, &[2, 3]));
    let at = || gateway.json("endpoints").as_array().map_or(0, |all| all.iter().filter(|endpoint| endpoint["service"] == "web").count());
    eventually("two endpoints", || at() == 2);
    assert!(asked(&server, before).is_empty(), "{:#?}", asked(&server, before));
}
