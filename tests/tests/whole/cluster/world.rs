//! A gateway and an API server, and what a cluster would write there: Services, EndpointSlices, Gateways and routes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{Gateway, eventually};

/// The node port of the Service.
pub(super) const NODE_PORT: u16 = 30_201;

/// An API server with all definitions, and a gateway that is not started yet.
pub(super) fn world() -> (ApiServer, Gateway) {
    let server = ApiServer::start();
    server.install_all();
    server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let gateway = Gateway::of_cluster(server.kubeconfig(), &[]);
    (server, gateway)
}

/// A Service that is left to this gateway, with its node port.
pub(super) fn service(gateway: &Gateway, node_port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"service.kubernetes.io/service-proxy-name": "sluicegate"}},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "clusterIP": gateway.ip(200), "clusterIPs": [gateway.ip(200)], "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP", "appProtocol": "http", "nodePort": node_port}]}})
}

/// The EndpointSlice of the Service with these addresses; those that are not ready any more are ending.
pub(super) fn slice(addresses: &[(IpAddr, bool)]) -> Value {
    let endpoint = |(address, ready): &(IpAddr, bool)| json!({"addresses": [address.to_string()], "conditions": {"ready": ready, "serving": true, "terminating": !ready}});
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": endpoints, "ports": [{"name": "", "port": 80, "protocol": "TCP"}]})
}

/// A Gateway on an address of its own, port 8080, and a route from there to the Service.
pub(super) fn routed(server: &ApiServer, gateway: &Gateway) {
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "sluicegate"},
        "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}));
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "sluicegate", "addresses": [{"type": "IPAddress", "value": gateway.ip(20).to_string()}],
            "listeners": [{"name": "web", "protocol": "HTTP", "port": 8080}]}}));
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}));
}

/// All of these are ready.
pub(super) fn ready(gateway: &Gateway, last: &[u8]) -> Value {
    slice(&last.iter().map(|last| (gateway.ip(*last), true)).collect::<Vec<_>>())
}

/// Where the Service is served.
pub(super) fn at(gateway: &Gateway) -> SocketAddr {
    SocketAddr::new(gateway.ip(1), NODE_PORT)
}

/// What the gateway sees of a kind.
pub(super) fn seen(gateway: &Gateway, kind: &str) -> Value {
    let sources = gateway.json("sources");
    let kinds = sources[0]["kinds"].as_array().cloned().unwrap_or_default();
    kinds.into_iter().find(|seen| seen["kind"] == kind).unwrap_or(Value::Null)
}

/// Waits until a kind stands so.
pub(super) fn stands(gateway: &Gateway, kind: &str, state: &str) {
    eventually(&format!("{kind} is {state}"), || seen(gateway, kind)["state"] == state);
}

/// The requests that were made since there were so many, and that contain a text.
pub(super) fn asked(server: &ApiServer, since: usize, text: &str) -> Vec<String> {
    server.asked().into_iter().skip(since).filter(|asked| asked.contains(text)).collect()
}

/// A gateway that looks sooner, so that tests need not wait.
pub(super) fn hurry(gateway: &mut Gateway) {
    gateway.timing().missing = Duration::from_millis(300);
    gateway.timing().silence = Duration::from_secs(1);
    gateway.timing().saved = Duration::from_millis(500);
}
