//! Services of this gateway's `loadBalancerClass` where there are no addresses to give.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{eventually, fetch, http};

use super::world::{ready, world};

fn node(server: &ApiServer, name: &str, address: &str) {
    server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}}));
}

fn ingress(server: &ApiServer) -> Value {
    let service = server.get("Service", "shop", "web").unwrap_or_default();
    let all = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).cloned().unwrap_or_default();
    all.iter().map(|ingress| ingress["ip"].clone()).collect()
}

#[test]
fn without_a_pool_they_are_served_on_the_nodes_addresses_and_yield_to_gateways() {
    let (server, mut gateway) = world();
    http(gateway.ip(2), "a");
    node(&server, "one", "192.0.2.11");
    server.put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "sluicegate.dev/gateway", "clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"], "ipFamilies": ["IPv4"],
            "ports": [{"port": 8181, "targetPort": 80, "protocol": "TCP"}]}}));
    server.put(ready(&gateway, &[2]));
    gateway.start();
    eventually("it shows the node", || ingress(&server) == json!(["192.0.2.11"]));
    assert_eq!(server.get("Service", "shop", "web").expect("there")["status"]["loadBalancer"]["ingress"][0]["ipMode"], "Proxy");
    let at = SocketAddr::new(gateway.ip(1), 8181);
    eventually("it is served", || TcpStream::connect(at).is_ok() && fetch(at).0 == 200);
    assert!(gateway.has_no_fault(), "{}", gateway.json("faults"));
    node(&server, "two", "192.0.2.12");
    eventually("it shows both nodes", || ingress(&server) == json!(["192.0.2.11", "192.0.2.12"]));
    // What the status says is no other address to listen on.
    assert!(gateway.has_no_fault(), "{}", gateway.json("faults"));
    // A Gateway comes later, and has the port.
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "ours"},
        "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}));
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "ours", "addresses": [{"type": "IPAddress", "value": gateway.ip(1).to_string()}],
            "listeners": [{"name": "web", "protocol": "HTTP", "port": 8181}]}}));
    eventually("the Gateway answers", || TcpStream::connect(at).is_ok() && fetch(at).0 == 404);
    eventually("it is told", || gateway.has_fault(&["8181 is already taken"]));
}
