//! What an API server and the network do now and then, while traffic goes on.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::load::Load;
use sluicegate_tests::{Gateway, eventually, fetch, http};

use super::world::{NODE_PORT, asked, at, hurry, ready, routed, seen, service, stands, world};

/// A world in which the Service is served by `a`, and `b` may come.
fn serving() -> (ApiServer, Gateway) {
    let (server, mut gateway) = world();
    hurry(&mut gateway);
    http(gateway.ip(2), "a");
    http(gateway.ip(3), "b");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    gateway.start();
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    (server, gateway)
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}})
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_followed_again_and_traffic_does_not_notice() {
    let (mut server, gateway) = serving();
    let load = Load::on(at(&gateway));
    load.goes_on(20);
    server.stop();
    stands(&gateway, "EndpointSlice", "failing");
    eventually("it is told", || gateway.has_fault(&["does not answer"]));
    assert_eq!(gateway.readiness().0, 200, "what serves is ready");
    assert!(gateway.readiness().1.contains("not followed: EndpointSlice"), "{}", gateway.readiness().1);
    load.goes_on(200);
    // What has changed meanwhile is found by difference: watches cannot go on after a restart.
    server.put(ready(&gateway, &[2, 3]));
    server.put(map("other"));
    server.start_again();
    eventually("the new endpoint", || gateway.ready_endpoints() == 2);
    stands(&gateway, "EndpointSlice", "synced");
    eventually("nothing is wrong any more", || !gateway.has_fault(&["does not answer"]));
    server.stop();
    server.remove("Service", "shop", "other");
    server.put(ready(&gateway, &[3]));
    server.start_again();
    eventually("what is gone is gone", || gateway.json("services").as_array().is_some_and(|all| all.len() == 1));
    eventually("the endpoint that is left", || gateway.addresses() == [format!("{}:80", gateway.ip(3))]);
    load.goes_on(20);
    load.end();
}

#[test]
fn a_watch_that_is_too_old_lists_anew_and_finds_what_is_gone() {
    let (server, gateway) = serving();
    server.put(map("other"));
    eventually("two Services", || gateway.json("services").as_array().is_some_and(|all| all.len() == 2));
    let before = server.asked().len();
    // Nothing is told for a while, and then the past is forgotten: the watch that begins anew is too old.
    server.silence(true);
    server.remove("Service", "shop", "other");
    server.put(ready(&gateway, &[2, 3]));
    server.compact();
    eventually("the silent watches are given up", || !asked(&server, before, "/services?watch=1&").is_empty());
    server.silence(false);
    eventually("one Service is left", || gateway.json("services").as_array().is_some_and(|all| all.len() == 1));
    eventually("two endpoints", || gateway.ready_endpoints() == 2);
    assert!(!asked(&server, before, "/services?watch=1&").iter().all(|asked| asked.contains("resourceVersion=")), "it was listed anew");
}

#[test]
fn a_server_that_begins_without_all_its_kinds_ends_no_listener() {
    let (mut server, mut gateway) = world();
    http(gateway.ip(2), "a");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    routed(&server, &gateway);
    gateway.start();
    let edge = SocketAddr::new(gateway.ip(20), 8080);
    eventually("the route leads there", || TcpStream::connect(edge).is_ok() && fetch(edge).0 == 200);
    let load = Load::on(edge);
    server.stop();
    let kinds = ["GatewayClass", "Gateway", "HTTPRoute"];
    kinds.iter().for_each(|kind| server.withdraw(kind));
    server.start_again();
    for kind in kinds {
        let why = || seen(&gateway, kind)["reason"].as_str().is_some_and(|reason| reason.contains("does not have this kind any more"));
        eventually("it is doubted", || seen(&gateway, kind)["state"] == "failing" && why());
    }
    stands(&gateway, "Service", "synced");
    load.goes_on(50);
    kinds.iter().for_each(|kind| server.restore(kind));
    kinds.iter().for_each(|kind| stands(&gateway, kind, "synced"));
    load.goes_on(20);
    load.end();
}

#[test]
fn a_server_that_wants_a_pause_gets_it() {
    let (server, mut gateway) = world();
    server.put(service(&gateway, NODE_PORT));
    server.throttle(8);
    let begun = std::time::Instant::now();
    gateway.start();
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is one second");
    stands(&gateway, "Service", "synced");
    assert!(server.asked().len() < 70, "{:#?}", server.asked());
}

#[test]
fn an_error_that_is_no_status_is_told_and_ends() {
    let (server, gateway) = serving();
    let load = Load::on(at(&gateway));
    server.fail("httproutes", 503, "upstream connect error or disconnect/reset before headers");
    server.compact();
    // The watch ends with the connection, which is broken here by a restart of the rest.
    let mut server = server;
    server.stop();
    server.start_again();
    eventually("it is told", || {
        seen(&gateway, "HTTPRoute")["reason"].as_str().is_some_and(|reason| reason.contains("upstream connect error"))
    });
    eventually("the others go on", || seen(&gateway, "Service")["state"] == "synced");
    eventually("there is a fault", || gateway.has_fault(&["cluster/HTTPRoute", "503", "upstream connect error"]));
    server.fail("httproutes", 0, "");
    stands(&gateway, "HTTPRoute", "synced");
    eventually("the fault is gone", || !gateway.has_fault(&["cluster/HTTPRoute"]));
    load.goes_on(20);
    load.end();
}

#[test]
fn a_kind_that_may_not_be_read_is_told_and_the_others_are_served() {
    let (server, mut gateway) = world();
    hurry(&mut gateway);
    for verb in ["list", "watch"] {
        server.refuse(verb, "gateways");
    }
    http(gateway.ip(2), "a");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    gateway.start();
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    let load = Load::on(at(&gateway));
    eventually("it is told", || gateway.has_fault(&["cluster/Gateway", "403 Forbidden", "cannot watch resource"]));
    let text = gateway.readiness().1;
    assert!(text.contains("not followed: Gateway of https://127.0.0.1") && text.contains("waiting: 403 Forbidden"), "{text}");
    for verb in ["list", "watch"] {
        server.allow(verb, "gateways");
    }
    stands(&gateway, "Gateway", "synced");
    eventually("the fault is gone", || !gateway.has_fault(&["cluster/Gateway"]));
    load.goes_on(20);
    load.end();
}

#[test]
fn a_token_that_was_rotated_is_read_again() {
    let (mut server, gateway) = serving();
    server.set_tokens(&[("another", "gateway")]);
    server.stop();
    server.start_again();
    eventually("the old one counts no more", || seen(&gateway, "Service")["reason"].as_str().is_some_and(|reason| reason.contains("401")));
    let token = server.kubeconfig().with_file_name("token");
    std::fs::write(token, "another").expect("written");
    server.put(ready(&gateway, &[2, 3]));
    eventually("the new endpoint", || gateway.ready_endpoints() == 2);
}

#[test]
fn lists_come_in_pages_where_there_are_no_streaming_ones_even_if_a_page_is_too_old() {
    let (server, mut gateway) = world();
    server.set_streaming_lists(false);
    server.interrupt_lists(1);
    for number in 0..1_200 {
        server.put(map(&format!("s{number}")));
    }
    gateway.start();
    assert_eq!(seen(&gateway, "Service")["objects"], 1_200);
    let pages = asked(&server, 0, "/services?limit=500");
    assert_eq!(pages.len(), 2 + 3, "one page was too old, and the list was begun anew: {pages:#?}");
    let streaming = asked(&server, 0, "sendInitialEvents");
    assert!(streaming.len() < 22, "once is enough to know that there are none: {}", streaming.len());
    server.remove("Service", "shop", "s7");
    eventually("it is watched from there", || seen(&gateway, "Service")["objects"] == 1_199);
}
