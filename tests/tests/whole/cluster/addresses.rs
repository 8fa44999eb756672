//! Virtual IPs that are made local (`manageAddresses`), by a whole gateway in a network namespace of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rtnetlink::packet_route::route::{RouteProtocol, RouteType};
use serde_json::{Value, json};
use sluicegate_cluster::anyip::PROTOCOL;
use sluicegate_tests::apart::{Setup, play};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::namespace::{Bridge, Namespace, local_route, local_routes, route};
use sluicegate_tests::{eventually, fetch, http};

const TEST: &str = "cluster::addresses::virtual_ips_have_routes_as_long_as_they_are_served";
const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const POD: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// A route that somebody else has made.
const THEIRS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);

fn cluster_ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, last)
}

fn service(last: u8) -> Value {
    let name = format!("web-{last}");
    let ip = cluster_ip(last).to_string();
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "labels": {"service.kubernetes.io/service-proxy-name": "sluicegate"}},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP", "appProtocol": "http"}]}})
}

fn endpoints(last: u8) -> Value {
    let name = format!("web-{last}");
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [POD.to_string()], "conditions": {"ready": true}}], "ports": [{"name": "", "port": 80, "protocol": "TCP"}]})
}

fn ours(node: &Namespace) -> BTreeSet<IpAddr> {
    node.within(|| local_routes(PROTOCOL)).into_iter().collect()
}

fn set(all: &[Ipv4Addr]) -> BTreeSet<IpAddr> {
    all.iter().map(|ip| IpAddr::from(*ip)).collect()
}

fn answers(ip: Ipv4Addr, port: u16) {
    let (status, text) = fetch(SocketAddr::from((ip, port)));
    assert!(status == 200 && text.starts_with("pod "), "{ip}: {status} {text}");
}

#[test]
fn virtual_ips_have_routes_as_long_as_they_are_served() {
    play(TEST, "-rn", || {
        let bridge = Bridge::new();
        bridge.address(POD);
        http(POD.into(), "pod");
        let node = bridge.join("node", NODE);
        // As the fabric of a network does it: these addresses are behind that node.
        route(Ipv4Addr::new(10, 96, 0, 0), 16, NODE);
        route(Ipv4Addr::new(198, 51, 100, 0), 24, NODE);
        node.within(|| local_route(THEIRS, RouteType::Local));
        let before = node.within(|| (local_routes(u8::from(RouteProtocol::Static)), local_routes(u8::from(RouteProtocol::Kernel))));
        assert_eq!(before.0, [IpAddr::from(THEIRS)]);

        let server = ApiServer::start_at(SocketAddr::from(([10, 77, 0, 1], 6443)), std::net::TcpListener::bind);
        server.install_all();
        server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        for last in [1, 2, 3] {
            server.put(service(last));
            server.put(endpoints(last));
        }
        server.put_yaml(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: ours}\nspec: {controllerName: sluicegate.dev/gateway-controller}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\n\
             spec: {gatewayClassName: ours, listeners: [{name: http, port: 8080, protocol: HTTP}]}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\n\
             spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web-1, port: 80}]}]}\n",
        );
        let state = tempfile::tempdir().expect("a folder");
        let setup = Setup::new(TEST, NODE, Some(server.kubeconfig()), state.path());
        let setup = Setup { namespace: Some(node.clone()), addresses: Some("198.51.100.0/28".to_owned()), ..setup };
        let gateway = setup.start();
        let given = || {
            server
                .get("Gateway", "shop", "edge")
                .and_then(|edge| edge["status"]["addresses"][0]["value"].as_str()?.parse::<Ipv4Addr>().ok())
        };
        eventually("the Gateway has an address", || given().is_some());
        let edge = given().expect("an address");
        let all = [cluster_ip(1), cluster_ip(2), cluster_ip(3), edge];
        eventually("each has its route", || ours(&node) == set(&all));
        // The route is there before the address is bound, so nobody is told that it cannot be.
        let programmed = |status: &str| {
            let all = server.history("Gateway", "shop", "edge").into_iter();
            let conditions = all.flat_map(|edge| edge["status"]["conditions"].as_array().cloned().unwrap_or_default());
            conditions
                .filter(|it| it["type"] == "Programmed" && it["status"] == status)
                .map(|it| it["reason"].to_string())
                .collect::<Vec<_>>()
        };
        eventually("the Gateway is programmed", || !programmed("True").is_empty());
        assert!(!programmed("False").iter().any(|reason| reason.contains("AddressNotUsable")), "{:?}", programmed("False"));
        [1, 2, 3].iter().for_each(|last| answers(cluster_ip(*last), 80));
        answers(edge, 8080);

        // A Service goes, and its route does.
        server.remove("Service", "shop", "web-3");
        eventually("its route is gone", || ours(&node) == set(&[cluster_ip(1), cluster_ip(2), edge]));
        answers(cluster_ip(2), 80);

        // What a process leaves behind that is killed goes when the next one knows all objects.
        gateway.kill();
        assert_eq!(ours(&node), set(&[cluster_ip(1), cluster_ip(2), edge]));
        server.remove("Service", "shop", "web-2");
        let gateway = setup.start();
        eventually("what is left over is gone", || ours(&node) == set(&[cluster_ip(1), edge]));
        answers(cluster_ip(1), 80);
        answers(edge, 8080);

        gateway.stop();
        assert_eq!(ours(&node), set(&[]), "nobody listens there any more");
        let after = node.within(|| (local_routes(u8::from(RouteProtocol::Static)), local_routes(u8::from(RouteProtocol::Kernel))));
        assert_eq!(after, before, "routes of others are as they were");
    });
}
