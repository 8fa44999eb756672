//! What happens in a cluster every day, under traffic: a Deployment grows and shrinks, is rolled out, loses a pod; its Service goes.

use std::net::TcpStream;

use serde_json::{Value, json};
use sluicegate_tests::load::Load;
use sluicegate_tests::{eventually, fetch, http};

use crate::chart::rights::assert_sufficient;

use super::world::{NODE_PORT, asked, at, ready, routed, seen, service, slice, stands, world};

#[test]
fn a_deployment_lives_through_everything_and_no_request_fails() {
    let (server, mut gateway) = world();
    for (name, last) in [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6), ("f", 7), ("g", 8), ("h", 9)] {
        http(gateway.ip(last), name);
    }
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2, 3]));
    gateway.start();
    println!(
        "a start has asked {} requests, of {} kinds",
        server.asked().len(),
        gateway.json("sources")[0]["kinds"].as_array().map_or(0, Vec::len)
    );
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    let load = Load::on(at(&gateway));
    load.goes_on(50);
    // 2, 8, 1, 3.
    server.put(ready(&gateway, &[2, 3, 4, 5, 6, 7, 8, 9]));
    eventually("eight endpoints", || gateway.ready_endpoints() == 8);
    load.goes_on(50);
    let ending: Vec<_> = (2..=9).map(|last| (gateway.ip(last), last == 2)).collect();
    server.put(slice(&ending));
    eventually("one endpoint takes new requests", || gateway.ready_endpoints() == 1);
    load.goes_on(50);
    server.put(ready(&gateway, &[2]));
    eventually("one endpoint is left", || gateway.addresses().len() == 1);
    server.put(ready(&gateway, &[2, 3, 4]));
    eventually("three endpoints", || gateway.ready_endpoints() == 3);
    load.goes_on(50);
    // Each pod is replaced: the new one is ready before the old one ends.
    for (old, new) in [(2, 5), (3, 6), (4, 7)] {
        let mut now: Vec<u8> = gateway.addresses().iter().filter_map(|address| address.split([':', '.']).nth(3)?.parse().ok()).collect();
        now.push(new);
        server.put(ready(&gateway, &now));
        eventually("the new one is ready", || gateway.ready_endpoints() == 4);
        load.goes_on(20);
        server.put(slice(&now.iter().map(|last| (gateway.ip(*last), *last != old)).collect::<Vec<_>>()));
        eventually("the old one ends", || gateway.ready_endpoints() == 3);
        load.goes_on(20);
        now.retain(|last| *last != old);
        server.put(ready(&gateway, &now));
        eventually("the old one is gone", || gateway.addresses().len() == 3);
    }
    // A pod dies.
    server.put(ready(&gateway, &[5, 6]));
    eventually("two endpoints", || gateway.addresses().len() == 2);
    load.goes_on(50);
    load.end();
    server.remove("EndpointSlice", "shop", "web-1");
    server.remove("Service", "shop", "web");
    eventually("nothing is listened on", || TcpStream::connect(at(&gateway)).is_err());
    assert_eq!(seen(&gateway, "Service")["objects"], 0);
    assert_sufficient(&server);
}

#[test]
fn a_service_that_is_left_to_another_proxy_is_only_a_target_of_routes() {
    let (server, mut gateway) = world();
    http(gateway.ip(2), "a");
    let mut others = service(&gateway, NODE_PORT);
    others["metadata"]["labels"] = json!({});
    server.put(others);
    server.put(ready(&gateway, &[2]));
    routed(&server, &gateway);
    gateway.start();
    let edge = std::net::SocketAddr::new(gateway.ip(20), 8080);
    eventually("the route leads there", || connect_and_fetch(edge) == Some(200));
    assert!(TcpStream::connect(at(&gateway)).is_err(), "its node port is another proxy's");
    assert!(gateway.has_no_fault(), "{}", gateway.json("faults"));
    // With the label it is this gateway's.
    server.put(service(&gateway, NODE_PORT));
    eventually("the node port is served", || connect_and_fetch(at(&gateway)) == Some(200));
    assert!(asked(&server, 0, "/pods").is_empty(), "nobody needs pods");
    assert!(asked(&server, 0, "/secrets").is_empty() && asked(&server, 0, "/configmaps").is_empty(), "nobody refers to any");
    stands(&gateway, "HTTPRoute", "synced");
    let sources: Value = gateway.json("sources");
    assert!(sources[0]["requests"].as_u64() > Some(20) && sources[0]["bytes"].as_u64() > Some(1000), "{sources}");
}

fn connect_and_fetch(address: std::net::SocketAddr) -> Option<u16> {
    TcpStream::connect(address).ok().map(|_| fetch(address).0)
}
