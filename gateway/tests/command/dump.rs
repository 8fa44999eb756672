//! `sluicegate config dump` beside a running gateway: what is served, where settings come from, and that no secret is told.

use serde_json::Value;

use crate::get::running;

const OBJECTS: &str = r#"
apiVersion: sluicegate.dev/v1alpha1
kind: SluicegateConfiguration
workers: 1
gracePeriod: 7s
loadBalancerAddresses: [127.231.17.5]
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {selector: {app: cart}, ports: [{port: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, labels: {app: cart}}
status: {podIP: 127.231.17.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: cart}
spec: {targetRefs: [{kind: Service, name: cart}], loadBalancer: {plugin: maglev}, timeout: {tcp: {connectTimeout: 3s}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: sluicegate, listeners: [{name: web, port: 18085, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart}
spec:
  hostnames: [cart.example]
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /app}, headers: [{name: X-Api-Key, value: matched-secret}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Authorization, value: Bearer injected-secret}, {name: X-Team, value: edge}]}}]
    timeouts: {request: 9s}
    backendRefs: [{name: cart, port: 80}]
"#;

fn setting<'d>(dump: &'d Value, name: &str) -> (&'d Value, &'d str) {
    let all = dump["process"].as_array().expect("a list");
    let one = all.iter().find(|setting| setting["setting"] == name).unwrap_or_else(|| panic!("{name} is missing: {all:?}"));
    (&one["value"], one["from"].as_str().expect("text"))
}

#[test]
fn what_is_served_is_told_with_settings_and_without_secrets() {
    let gateway = running(17, OBJECTS);
    let (code, text) = gateway.run(&["config", "dump", "-o", "json"]);
    assert_eq!(code, Some(0), "{text}");
    for secret in ["injected-secret", "matched-secret"] {
        assert!(!text.contains(secret), "{text}");
    }
    let dump: Value = serde_json::from_str(&text).expect("JSON");

    assert_eq!(setting(&dump, "workers"), (&1.into(), "object"));
    assert_eq!(setting(&dump, "gracePeriod"), (&"7s".into(), "object"));
    assert_eq!(setting(&dump, "loadBalancerAddresses"), (&serde_json::json!(["127.231.17.5/32"]), "object"));
    assert_eq!(setting(&dump, "adminAddress"), (&"127.0.0.1:0".into(), "flag --admin-address"));
    assert_eq!(setting(&dump, "serviceClusterIPRange").1, "flag --service-cluster-ip-range");
    assert_eq!(setting(&dump, "overload.refusePercent"), (&"95".into(), "default"));
    assert_eq!(setting(&dump, "manageAddresses"), (&"false".into(), "default"));

    let listeners = dump["listeners"].as_array().expect("a list");
    let web = listeners.iter().find(|listener| listener["name"] == "listener web of Gateway default/edge").expect("the listener");
    assert_eq!((&web["protocol"], &web["address"]), (&"HTTP".into(), &"127.231.17.5:18085".into()));
    assert!(web["settings"]["timeouts"].is_object() && web["settings"]["head"].is_object(), "{web}");
    let host = &web["hosts"][0];
    let rule = &host["to"]["router"]["rules"][0];
    assert_eq!(rule["hostnames"], serde_json::json!(["cart.example"]), "{web}");
    assert_eq!(rule["matches"][0]["path"]["value"], "/app", "{host}");
    let set = &rule["actions"]["requestHeaders"]["set"];
    assert!(set[0][0] == "authorization" && set[0][1] == "(hidden)" && set[1][1] == "edge", "{rule}");
    assert_eq!((&rule["requestTimeout"], &rule["backends"][0]["service"]), (&"9s".into(), &"default/cart:80".into()));
    assert_eq!(host["to"]["router"]["plugin"], "rules");

    let services = dump["services"].as_array().expect("a list");
    let cart = services.iter().find(|service| service["service"] == "default/cart:80").expect("the Service");
    assert_eq!((&cart["protocol"], &cart["balancers"][0]["plugin"]), (&"http".into(), &"maglev".into()));
    assert_eq!(cart["endpoints"][0]["address"], "127.231.17.2:80");
    assert!(cart["settings"]["timeouts"].to_string().contains("\"3s\""), "{cart}");
    let plugins = dump["plugins"].as_array().expect("a list");
    assert!(plugins.iter().any(|plugin| plugin["name"] == "maglev" && plugin["generation"]["number"] == 1));

    let (code, yaml) = gateway.run(&["config", "dump"]);
    assert!(code == Some(0) && yaml.contains("setting: gracePeriod") && yaml.contains("- cart.example"), "{yaml}");
}
