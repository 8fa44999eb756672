//! Only what is needed is asked for.

use serde_json::json;
use sluicegate_tests::{OLD_DISCOVERY, eventually, http};

use super::world::{NODE_PORT, asked, hurry, ready, seen, service, stands, world};

fn listener(gateway: &sluicegate_tests::Gateway, secret: &str) -> serde_json::Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "sluicegate", "addresses": [{"type": "IPAddress", "value": gateway.ip(20).to_string()}],
            "listeners": [{"name": "web", "protocol": "HTTPS", "port": 8443, "tls": {"certificateRefs": [{"name": secret}]}}]}})
}

fn secret(name: &str) -> serde_json::Value {
    let made = rcgen::generate_simple_self_signed(["shop.example.com".to_owned()]).expect("a certificate");
    let encoded = |text: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name, "namespace": "shop"},
        "data": {"tls.crt": encoded(made.cert.pem()), "tls.key": encoded(made.signing_key.serialize_pem())}})
}

#[test]
fn a_secret_that_is_referred_to_is_watched_and_no_other_is_asked_for() {
    let (server, mut gateway) = world();
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "sluicegate"},
        "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}));
    server.put(listener(&gateway, "one"));
    server.put(secret("one"));
    server.put(secret("two"));
    server.put(secret("other"));
    gateway.start();
    let shown = || gateway.json("listeners")[0]["hosts"][0]["certificates"][0]["secret"].clone();
    eventually("it listens", || !gateway.json("listeners")[0]["hosts"][0].is_null());
    assert_eq!(shown(), "shop/one", "it was there before anything was served");
    server.put(listener(&gateway, "two"));
    eventually("the other certificate", || shown() == "shop/two");
    // It is watched, too.
    let mut changed = secret("two");
    changed["type"] = json!("Opaque");
    server.put(changed);
    eventually("it is of no use any more", || gateway.has_fault(&["Secret shop/two", "Opaque"]));
    server.put(secret("two"));
    eventually("it is again", || shown() == "shop/two" && gateway.has_no_fault());
    let secrets = asked(&server, 0, "secrets");
    let named = |name: &str| {
        secrets.iter().filter(|asked| asked.contains(&format!("/namespaces/shop/secrets?fieldSelector=metadata.name%3D{name}&"))).count()
    };
    assert_eq!((named("one"), named("two"), secrets.len()), (1, 1, 2), "{secrets:#?}");
    assert_eq!(seen(&gateway, "Secret")["objects"], 1, "what nobody refers to any more is forgotten");
    crate::chart::rights::assert_sufficient(&server);
}

#[test]
fn a_kind_is_followed_once_its_definition_is_there_and_forgotten_when_it_is_gone() {
    let server = sluicegate_tests::apiserver::ApiServer::start();
    let mut gateway = sluicegate_tests::Gateway::of_cluster(server.kubeconfig(), &[]);
    hurry(&mut gateway);
    gateway.start();
    stands(&gateway, "Gateway", "missing");
    assert_eq!(gateway.readiness(), (200, "ok\n".to_owned()), "what nobody has installed is no fault");
    server.install("Gateway");
    stands(&gateway, "Gateway", "synced");
    stands(&gateway, "HTTPRoute", "missing");
    server.install("GatewayClass");
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "sluicegate"},
        "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}));
    server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "shop"},
        "spec": {"gatewayClassName": "sluicegate", "addresses": [{"type": "IPAddress", "value": gateway.ip(20).to_string()}],
            "listeners": [{"name": "web", "protocol": "HTTP", "port": 8080}]}}));
    let claims = |feature: &str| {
        let class = server.get("GatewayClass", "", "sluicegate").expect("a class");
        class["status"]["supportedFeatures"].as_array().is_some_and(|all| all.iter().any(|of| of["name"] == feature))
    };
    eventually("a class claims what the server has", || claims("HTTPRouteRequestTimeout"));
    assert!(!claims("HTTPRouteRetry") && !claims("TLSRouteModeMixed"), "which has neither the experimental channel nor TLSRoutes");
    let listeners = || gateway.json("listeners").as_array().map_or(0, Vec::len);
    eventually("it listens", || listeners() == 1);
    server.uninstall("Gateway");
    eventually("it listens no more", || listeners() == 0);
    server.install_all();
    stands(&gateway, "UDPRoute", "synced");
    eventually("it has them now", || claims("HTTPRouteRetry") && claims("TLSRouteModeMixed"));
}

#[test]
fn pods_are_watched_while_a_discovery_plugin_watches_them() {
    let (server, mut gateway) = world();
    http(gateway.ip(2), "a");
    server.put(service(&gateway, NODE_PORT));
    server.put(ready(&gateway, &[2]));
    server.put(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"containers": [{"name": "c"}]}}),
    );
    gateway.start();
    eventually("one endpoint", || gateway.ready_endpoints() == 1);
    assert!(asked(&server, 0, "/api/v1/pods?").is_empty(), "EndpointSlices are enough");
    let file = gateway.path("pods.wasm");
    std::fs::write(&file, OLD_DISCOVERY).expect("written");
    server.put(json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "Plugin", "metadata": {"name": "pods", "namespace": "shop"},
        "spec": {"kind": "discovery", "source": {"file": file}}}));
    let policy = json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "web"}], "discovery": {"plugin": "pods"}}});
    server.put(policy);
    eventually("pods are known", || seen(&gateway, "Pod")["objects"] == 1);
    stands(&gateway, "Pod", "synced");
    // Also at a start, after which nothing may change for long.
    gateway.stop();
    let begun = server.asked().len();
    gateway.start();
    eventually("pods are known again", || seen(&gateway, "Pod")["objects"] == 1);
    let before = asked(&server, begun, "/api/v1/pods?").len();
    server.remove("BackendTrafficPolicy", "shop", "web");
    eventually("nobody wants them any more", || seen(&gateway, "Pod").is_null());
    let asked = asked(&server, begun, "/api/v1/pods?");
    assert_eq!((before, asked.len()), (1, 1), "{asked:?}");
    crate::chart::rights::assert_sufficient(&server);
}
