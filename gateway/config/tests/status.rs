//! Golden tests: the Gateways, ListenerSets, routes and policies of every `status/NAME.yaml` must have exactly the status of `status/NAME.json`.
//! `UPDATE_GOLDEN=1` renews the latter.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::{Value, json};
use sluicegate_config::family::ServiceFamilies;
use sluicegate_config::plan::{self, AcmeIssuers, Allocations, Plan, Settings};
use sluicegate_config::status::Statuses;
use sluicegate_config::{manifest, object};
use sluicegate_model::family::IpFamily;
use sluicegate_model::route::Protocol;
use sluicegate_model::status::ObjectStatus as _;

const KINDS: [&str; 11] = [
    "gateways",
    "listenersets",
    "httproutes",
    "grpcroutes",
    "tlsroutes",
    "tcproutes",
    "udproutes",
    "backendtlspolicies",
    "backendtrafficpolicies",
    "clienttrafficpolicies",
    "xbackendtrafficpolicies",
];

fn planned(file: &Path, text: &str, settings: &Settings) -> Plan {
    allocated(file, text, settings, &Allocations::default())
}

fn allocated(file: &Path, text: &str, settings: &Settings, allocations: &Allocations) -> Plan {
    let parsed = manifest::parse(file, text);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let objects: Vec<Arc<object::Object>> =
        parsed.documents.into_iter().map(|document| Arc::new(object::decode(document).0.expect("an object"))).collect();
    plan::compile(&objects, allocations, settings)
}

fn statuses(file: &Path, text: &str) -> String {
    let plan = planned(file, text, &Settings::default());
    let statuses = Statuses::new(&plan);
    let mut shown = String::new();
    for kind in KINDS {
        for object in statuses.objects(kind).expect("a kind with a status") {
            let (namespace, name) = (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str());
            let _ = writeln!(shown, "{kind} {}/{}\n{:#}", namespace.unwrap_or_default(), name.unwrap_or_default(), object["status"]);
        }
    }
    assert!(statuses.objects("pods").is_none());
    shown
}

#[test]
fn every_case_has_its_status() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status");
    let entries = std::fs::read_dir(folder).expect("the folder of cases").map(|entry| entry.expect("an entry").path());
    let mut cases: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let got = statuses(&case, &std::fs::read_to_string(&case).expect("the case"));
        let golden = case.with_extension("json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &got).expect("the golden file is written");
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(got == wanted, "{}\n--- wanted\n{wanted}\n--- got\n{got}", case.display());
    }
}

/// The status and reason of a condition, and the addresses of a Gateway.
fn said(statuses: &Statuses, plural: &str, at: &str, kind: &str) -> (Value, Value) {
    let object = statuses.objects(plural).expect("a kind with a status").remove(0);
    let conditions = object.pointer(at).and_then(Value::as_array).expect("conditions");
    let condition = conditions.iter().find(|condition| condition["type"] == kind).expect("the condition");
    (json!([condition["status"], condition["reason"]]), object["status"]["addresses"].clone())
}

#[test]
fn a_gateway_is_programmed_where_it_is_listened_for() {
    let text = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: sluicegate
  allowedListeners: {namespaces: {from: Same}}
  listeners: [{name: http, port: 80, protocol: HTTP}, {name: udp, port: 80, protocol: UDP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: s}
spec:
  parentRef: {name: g}
  listeners: [{name: more, port: 81, protocol: HTTP}]
";
    let own = ["192.0.2.7", "2001:db8::7"].map(|ip| ip.parse().expect("an address")).to_vec();
    let settings = Settings { own_addresses: own, ..Settings::default() };
    let statuses = Statuses::new(&planned(Path::new("test.yaml"), text, &settings));
    let shown = |ips: &[&str]| json!(ips.iter().map(|ip| json!({"type": "IPAddress", "value": ip})).collect::<Vec<_>>());
    let good = json!(["True", "Programmed"]);
    // A Gateway that listens on all addresses is reached by those of the machine.
    let both = shown(&["192.0.2.7", "2001:db8::7"]);
    assert_eq!(said(&statuses, "gateways", "/status/conditions", "Programmed"), (good.clone(), both.clone()));
    let failed = |protocol, at: &str| {
        statuses.with_unbound(HashMap::from([((protocol, at.parse().expect("an address")), "it is taken".to_owned())]))
    };
    let of_gateway = failed(Protocol::Udp, "0.0.0.0:80");
    let not_usable = (json!(["False", "AddressNotUsable"]), shown(&["2001:db8::7"]));
    assert_eq!(said(&of_gateway, "gateways", "/status/conditions", "Programmed"), not_usable);
    assert_eq!(said(&of_gateway, "gateways", "/status/conditions", "Accepted").0, json!(["True", "Accepted"]));
    assert_eq!(said(&of_gateway, "gateways", "/status/listeners/0/conditions", "Programmed").0, good);
    assert_eq!(said(&of_gateway, "gateways", "/status/listeners/1/conditions", "Programmed").0, json!(["False", "PortUnavailable"]));
    assert_eq!(said(&of_gateway, "listenersets", "/status/conditions", "Programmed").0, good);
    // A port of a ListenerSet does not concern the Gateway.
    let of_set = failed(Protocol::Tcp, "[::]:81");
    assert_eq!(said(&of_set, "gateways", "/status/conditions", "Programmed"), (good, both));
    assert_eq!(said(&of_set, "listenersets", "/status/conditions", "Programmed").0, json!(["False", "PortUnavailable"]));
}

#[test]
fn a_service_shows_the_nodes_addresses_at_which_its_ports_are_served() {
    let service = |name: &str, ports: &str, families: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{type: LoadBalancer, loadBalancerClass: sluicegate.dev/gateway, ipFamilies: [{families}], ports: [{ports}]}}\n---\n"
        )
    };
    let port = |number: u16, protocol: &str| format!("{{name: p{number}, port: {number}, protocol: {protocol}}}");
    let text = [
        service("first", &port(80, "TCP"), "IPv4"),
        service("loses-all", &port(80, "TCP"), "IPv4"),
        service("loses-one", &[port(80, "TCP"), port(81, "TCP"), port(82, "SCTP")].join(", "), "IPv4"),
        service("loses-ipv4", &port(80, "TCP"), "IPv4, IPv6"),
    ];
    let ip = |text: &str| text.parse().expect("an address");
    let id = |name: &str| ("default".to_owned(), name.to_owned());
    let families = |policy: &str| {
        let spec = ServiceSpec { ip_family_policy: Some(policy.to_owned()), ..ServiceSpec::default() };
        ServiceFamilies::resolve(&spec, &IpFamily::BOTH).0
    };
    let of = |name: &str| (id(name), families(if name == "loses-ipv4" { "RequireDualStack" } else { "SingleStack" }));
    let allocations = Allocations {
        on_nodes: true,
        everywhere: vec![ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")],
        families: ["first", "loses-all", "loses-one", "loses-ipv4"].map(of).into(),
        ..Allocations::default()
    };
    let settings = Settings { services: plan::ServiceAddresses::Cluster, ..Settings::default() };
    let plan = allocated(Path::new("test.yaml"), &text.concat(), &settings, &allocations);
    let of = |statuses: &Statuses| -> HashMap<String, Value> {
        let all = statuses.judged("services").expect("services");
        all.into_iter().map(|it| (it.name, it.status["loadBalancer"]["ingress"].clone())).collect()
    };
    let statuses = Statuses::new(&plan);
    let shown = of(&statuses);
    let plain = |ips: &[&str]| json!(ips.iter().map(|ip| json!({"ip": ip, "ipMode": "Proxy"})).collect::<Vec<_>>());
    assert_eq!(shown["first"], plain(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(shown["loses-all"], json!([]));
    assert_eq!(shown["loses-ipv4"], plain(&["2001:db8::1"]));
    let ports = json!([
        {"port": 80, "protocol": "TCP", "error": "sluicegate.dev/PortConflict"},
        {"port": 81, "protocol": "TCP"},
        {"port": 82, "protocol": "SCTP", "error": "sluicegate.dev/ProtocolNotSupported"},
    ]);
    let with_ports = |ip: &str| json!({"ip": ip, "ipMode": "Proxy", "ports": ports});
    assert_eq!(shown["loses-one"], json!([with_ports("192.0.2.1"), with_ports("192.0.2.2")]));
    // Another process has the port.
    let taken = (Protocol::Tcp, "0.0.0.0:81".parse().expect("an address"));
    let shown = of(&statuses.with_unbound(HashMap::from([(taken, "it is taken".to_owned())])));
    assert_eq!((&shown["loses-one"], &shown["first"]), (&json!([]), &plain(&["192.0.2.1", "192.0.2.2"])));
}

#[test]
fn gateways_whose_services_come_to_one_name_have_a_service_each() {
    let gateway = |name: &str, class: &str, created: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {class}}}\n\
             spec: {{controllerName: sluicegate.dev/gateway-controller}}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, creationTimestamp: \"{created}\"}}\n\
             spec: {{gatewayClassName: {class}, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n"
        )
    };
    let names = |text: &str| -> HashMap<String, String> {
        let services = Statuses::new(&planned(Path::new("test.yaml"), text, &Settings::default())).objects("services").expect("services");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        services.iter().map(|it| (text(&it["metadata"]["ownerReferences"][0]["name"]), text(&it["metadata"]["name"]))).collect()
    };
    let (younger, older) = (gateway("a", "b-c", "2026-11-02T00:00:00Z"), gateway("a-b", "c", "2026-11-01T00:00:00Z"));
    let both = names(&[younger.as_str(), &older].concat());
    assert_eq!(both["a-b"], "a-b-c");
    assert!(both["a"].starts_with("a-b-c-") && both["a"].len() == 22, "{both:?}");
    assert_eq!(names(&[older, younger.clone()].concat()), both, "whatever their order");
    assert_eq!(names(&younger)["a"], "a-b-c", "alone it has the name by itself");
}

#[test]
fn a_listener_that_waits_for_its_first_certificate_is_not_programmed_and_in_a_cluster_it_gets_none() {
    let text = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: sluicegate
  listeners:
  - {name: a, port: 443, protocol: HTTPS, hostname: a.example, tls: {options: {sluicegate.dev/acme-issuer: ca}}}
";
    let of = |acme| Statuses::new(&planned(Path::new("test.yaml"), text, &Settings { acme, ..Settings::default() }));
    let said = |statuses: &Statuses, condition| said(statuses, "gateways", "/status/listeners/0/conditions", condition).0;
    let known = of(AcmeIssuers::Named(vec!["ca".to_owned()]));
    assert_eq!(said(&known, "ResolvedRefs"), json!(["True", "ResolvedRefs"]));
    assert_eq!(said(&known, "Programmed"), json!(["True", "Programmed"]));
    let key = |listener: &str| ("Gateway default/g".to_owned(), listener.to_owned());
    let waits = known.with_uncertified(HashMap::from([(key("a"), "it waits".to_owned())]));
    assert_eq!(said(&waits, "Programmed"), json!(["False", "Pending"]));
    assert_eq!(said(&waits, "Accepted"), json!(["True", "Accepted"]));
    let other = known.with_uncertified(HashMap::from([(key("b"), "it waits".to_owned())]));
    assert_eq!(said(&other, "Programmed"), json!(["True", "Programmed"]));
    for refused in [AcmeIssuers::InCluster, AcmeIssuers::Named(vec!["other".to_owned()])] {
        assert_eq!(said(&of(refused), "ResolvedRefs"), json!(["False", "InvalidCertificateRef"]));
    }
}
