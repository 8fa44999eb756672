//! Node ports, and what allocation is made of.

use std::path::{Path, PathBuf};

use sluicegate_config::{manifest, object, validate};
use sluicegate_model::fault::Severity;

use super::node_ports::static_band;
use super::*;

mod addresses;
mod kept;

fn services(yaml: &str) -> Vec<Arc<Object>> {
    let parsed = manifest::parse(Path::new("test.yaml"), yaml);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    parsed.documents.into_iter().map(|d| Arc::new(object::decode(d).0.expect("an object"))).collect()
}

fn service(name: &str, kind: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: {kind}, selector: {{app: a}}, ports: [{ports}]}}\n"
    )
}

fn node_ports(allocations: &Allocations) -> Vec<u16> {
    allocations.node_ports.values().copied().collect()
}

#[test]
fn the_dynamic_band_comes_first_and_a_restart_gives_the_same_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = services(&service("a", "NodePort", "{port: 8080}"));
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let first = allocator.allocate(&objects, &Unread::default()).0;
    assert_eq!(allocator.save(), None);
    assert!((30086..=32767).contains(&node_ports(&first)[0]), "{first:?}");
    assert!(Allocator::load(folder.path(), Ranges::default()).is_err(), "the folder is locked");
    drop(allocator);
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    assert_eq!(allocator.allocate(&objects, &Unread::default()).0, first);
}

#[test]
fn a_change_to_cluster_ip_releases_the_port_and_keeps_the_address() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let before = allocator.allocate(&services(&service("a", "NodePort", "{port: 80}")), &Unread::default()).0;
    let after = allocator.allocate(&services(&service("a", "ClusterIP", "{port: 80}")), &Unread::default()).0;
    assert!(after.node_ports.is_empty());
    assert_eq!(before.cluster_ips, after.cluster_ips);
}

#[test]
fn conflicts_have_the_api_servers_words() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let text = service("np2", "NodePort", "{port: 80, nodePort: 30080}")
        + &service("np3", "NodePort", "{port: 80, nodePort: 30080}")
        + &service("np4", "NodePort", "{port: 80, nodePort: 8080}");
    let (allocations, faults) = allocator.allocate(&services(&text), &Unread::default());
    let messages: Vec<&str> = faults.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            r#"Service "np3" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"#,
            r#"Service "np4" is invalid: spec.ports[0].nodePort: Invalid value: 8080: provided port is not in the valid range. The range of valid ports is 30000-32767"#,
        ]
    );
    assert_eq!(node_ports(&allocations), [30080]);
}

#[test]
fn tcp_and_udp_share_a_number_only_inside_one_service() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let both = "{name: t, port: 53, protocol: TCP, nodePort: 30053}, {name: u, port: 53, protocol: UDP, nodePort: 30053}";
    assert_eq!(node_ports(&allocator.allocate(&services(&service("dns", "NodePort", both)), &Unread::default()).0), [30053, 30053]);
    let text =
        service("a", "NodePort", "{port: 53, nodePort: 30053}") + &service("b", "NodePort", "{port: 53, protocol: UDP, nodePort: 30053}");
    assert_eq!(allocator.allocate(&services(&text), &Unread::default()).1.len(), 1);
}

#[test]
fn the_static_band_is_used_only_when_the_dynamic_one_is_full() {
    assert_eq!((static_band(2768), static_band(16), static_band(17), static_band(512)), (86, 0, 16, 16));
    let mut allocator = Allocator::in_memory(Ranges { node_ports: 30000..=30019, ..Ranges::default() });
    let text: String = (0..21).map(|i| service(&format!("s{i:02}"), "NodePort", "{port: 80}")).collect();
    let (allocations, faults) = allocator.allocate(&services(&text), &Unread::default());
    let mut given = node_ports(&allocations);
    assert!(given[..4].iter().all(|p| *p >= 30016), "{given:?}");
    given.sort_unstable();
    assert_eq!(given, (30000..=30019).collect::<Vec<u16>>());
    assert_eq!(faults.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), ["failed to allocate a nodePort: range is full"]);
}

/// As if the file of these Services could not be read whole.
fn unread() -> Unread {
    Unread { files: [PathBuf::from("test.yaml")].into(), ..Unread::default() }
}

/// The allocations, by the Services' names.
fn by_name(allocations: &Allocations) -> Vec<(&str, u16)> {
    allocations.node_ports.iter().map(|((_, name, ..), number)| (name.as_str(), *number)).collect()
}

/// Services `a`, `b` and so on with these node ports; 0 stands for any.
fn numbered(ports: &[u16]) -> Vec<Arc<Object>> {
    let names = ["a", "b", "c", "d", "e"];
    let text = names.iter().zip(ports).map(|(name, port)| service(name, "NodePort", &format!("{{port: 80, nodePort: {port}}}")));
    services(&text.collect::<String>())
}

#[test]
fn services_that_exchange_their_node_ports_have_them_exchanged_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let mut allocator = load();
    for (restart, ports) in
        [(false, [30630, 30631, 30632]), (false, [30631, 30630, 30632]), (true, [30632, 30631, 30630]), (true, [30630, 30632, 30631])]
    {
        if restart {
            assert_eq!(allocator.save(), None);
            drop(allocator);
            allocator = load();
        }
        let (allocations, faults) = allocator.allocate(&numbered(&ports), &Unread::default());
        assert_eq!((node_ports(&allocations), faults), (ports.to_vec(), Vec::new()));
    }
}

#[test]
fn files_that_fit_together_come_to_the_same_from_every_state() {
    let wanted = [30001, 30002, 30003, 0];
    for before in [[0, 30003, 30001, 30002], [30002, 30003, 30001, 30004], [30004, 0, 30002, 30001], [30003, 30003, 30003, 30003]] {
        let mut allocator = Allocator::in_memory(Ranges::default());
        allocator.allocate(&numbered(&before), &Unread::default());
        let (allocations, faults) = allocator.allocate(&numbered(&wanted), &Unread::default());
        assert_eq!((&node_ports(&allocations)[..3], faults), (&wanted[..3], Vec::new()), "from {before:?}");
        assert!(!wanted.contains(&node_ports(&allocations)[3]));
    }
}

#[test]
fn who_asks_for_a_number_gets_it_before_who_only_holds_it_and_of_two_who_ask_the_holder() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let mut allocator = load();
    let held = node_ports(&allocator.allocate(&services(&service("m", "NodePort", "{port: 80}")), &Unread::default()).0)[0];
    let holder = |ports: &str| service("m", "NodePort", ports);
    let asks = format!("{{port: 80, nodePort: {held}}}");
    for restart in [false, true] {
        if restart {
            assert_eq!(allocator.save(), None);
            drop(allocator);
            allocator = load();
        }
        for other in ["a", "z"] {
            let both = services(&(service(other, "NodePort", &asks) + &holder(&asks)));
            let (allocations, faults) = allocator.allocate(&both, &Unread::default());
            assert_eq!(by_name(&allocations), [("m", held)], "{other} has none");
            let wanted =
                format!("Service {other:?} is invalid: spec.ports[0].nodePort: Invalid value: {held}: provided port is already allocated");
            assert_eq!(faults.iter().map(|f| f.message.clone()).collect::<Vec<_>>(), [wanted]);
            let hint = faults[0].expected.as_deref().unwrap_or_default();
            assert_eq!(hint, format!("{held} is the node port of Service default/m, port 80 (test.yaml:10)"));
        }
    }
    let both = services(&(service("a", "NodePort", &asks) + &holder("{port: 80}")));
    let (allocations, faults) = allocator.allocate(&both, &Unread::default());
    assert!(faults.is_empty() && by_name(&allocations)[0] == ("a", held) && by_name(&allocations)[1].1 != held, "{allocations:?}");
}

#[test]
fn who_may_not_have_a_number_keeps_what_it_held_if_nobody_asks_for_that() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    allocator.allocate(&numbered(&[30001, 30002]), &Unread::default());
    let (allocations, faults) = allocator.allocate(&numbered(&[30002, 30002]), &Unread::default());
    assert_eq!((by_name(&allocations), faults.len()), (vec![("a", 30001), ("b", 30002)], 1));
    let (allocations, faults) = allocator.allocate(&numbered(&[30002, 30002, 30001]), &Unread::default());
    assert_eq!((by_name(&allocations), faults.len()), (vec![("b", 30002), ("c", 30001)], 1));
}

#[test]
fn an_update_that_omits_the_node_port_keeps_it_also_for_a_port_that_is_renumbered() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let mut ports = |ports: &str| node_ports(&allocator.allocate(&services(&service("a", "NodePort", ports)), &Unread::default()).0);
    assert_eq!(ports("{name: web, port: 80, nodePort: 30001}, {name: admin, port: 81, nodePort: 30002}"), [30001, 30002]);
    assert_eq!(ports("{name: web, port: 80}, {name: admin, port: 81}"), [30001, 30002]);
    assert_eq!(ports("{name: web, port: 8080}, {name: admin, port: 81}"), [30002, 30001], "in the order of numbers");
    assert_eq!(ports("{name: web, port: 81}, {name: admin, port: 8080}"), [30001, 30002], "the name counts before the number");
    // If there is only one port, it need not have a name.
    assert_eq!(ports("{name: web, port: 81}"), [30001]);
    assert_eq!(ports("{name: www, port: 81}"), [30001], "renamed, it is known by its number");
}

#[test]
fn what_objects_hold_that_cannot_be_read_stays_theirs() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let both = service("a", "NodePort", "{port: 80, nodePort: 30001}") + &service("b", "NodePort", "{port: 80}");
    let before = allocator.allocate(&services(&both), &Unread::default()).0;
    let thief = services(&service("c", "NodePort", "{port: 80, nodePort: 30001}"));
    let (allocations, faults) = allocator.allocate(&thief, &unread());
    assert_eq!((by_name(&allocations), faults.len()), (vec![], 1));
    assert_eq!(allocator.allocate(&services(&both), &Unread::default()).0, before);
}

#[test]
fn a_node_port_and_a_health_check_node_port_are_exchanged() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let mut allocate = |port: u16, check: u16| {
        let text = service("a", "LoadBalancer", &format!("{{port: 80, nodePort: {port}}}"))
            .replace("spec: {", &format!("spec: {{externalTrafficPolicy: Local, healthCheckNodePort: {check}, "));
        let (made, faults) = allocator.allocate(&services(&text), &Unread::default());
        (node_ports(&made), made.health_check_node_ports.values().copied().collect::<Vec<_>>(), faults)
    };
    assert_eq!(allocate(30001, 30002), (vec![30001], vec![30002], Vec::new()));
    assert_eq!(allocate(30002, 30001), (vec![30002], vec![30001], Vec::new()));
}

#[test]
fn what_kubectl_prints_of_a_service_of_another_cluster_serves_with_an_address_from_here() {
    let printed = r#"
apiVersion: v1
items:
- apiVersion: v1
  kind: Service
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"v1","kind":"Service","metadata":{"annotations":{},"name":"web","namespace":"shop"},"spec":{"ports":[{"port":80}]}}
    creationTimestamp: "2026-11-28T15:45:19Z"
    managedFields:
    - apiVersion: v1
      fieldsType: FieldsV1
      fieldsV1:
        f:spec:
          f:ports:
            .: {}
            k:{"port":80,"protocol":"TCP"}:
              .: {}
              f:port: {}
      manager: kubectl
      operation: Update
      time: "2026-11-28T15:45:19Z"
    name: web
    namespace: shop
    resourceVersion: "708"
    uid: dcfbfb28-f853-4c2b-b1ab-849254716846
  spec:
    clusterIP: 10.96.12.7
    clusterIPs:
    - 10.96.12.7
    internalTrafficPolicy: Cluster
    ipFamilies:
    - IPv4
    ipFamilyPolicy: SingleStack
    ports:
    - port: 80
      protocol: TCP
      targetPort: 80
    selector:
      app: web
    sessionAffinity: None
    type: ClusterIP
  status:
    loadBalancer: {}
kind: List
metadata:
  resourceVersion: ""
"#;
    let parsed = manifest::parse(Path::new("test.yaml"), printed);
    let (object, mut faults) = object::decode(parsed.documents.into_iter().next().expect("the Service"));
    let object = object.expect("it can be read");
    faults.extend(validate::object(&object, &[]));
    assert!(faults.is_empty(), "{faults:?}");
    let objects = [Arc::new(object)];
    let mut allocator = Allocator::in_memory(Ranges::default());
    let first = allocator.allocate(&objects, &Unread::default());
    for (made, faults) in [&first, &allocator.allocate(&objects, &Unread::default())] {
        assert_eq!(made.cluster_ips, first.0.cluster_ips);
        assert_eq!(made.cluster_ips.values().flatten().map(ToString::to_string).collect::<Vec<_>>(), ["127.96.0.1"]);
        assert_eq!(faults.len(), 1);
        assert_eq!((faults[0].severity, faults[0].place.as_ref().map(|place| place.line)), (Severity::Warning, Some(29)));
    }
}

#[test]
fn the_port_for_health_checks_is_a_node_port_that_is_kept_and_freed() {
    let local = |policy: &str, more: &str| {
        services(
            &service("a", "LoadBalancer", "{port: 80}").replace("selector:", &format!("externalTrafficPolicy: {policy}, {more}selector:")),
        )
    };
    let check = |allocations: &Allocations| allocations.health_check_node_ports.values().next().copied();
    let folder = tempfile::tempdir().expect("a folder");
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    assert_eq!(check(&allocator.allocate(&local("Cluster", ""), &Unread::default()).0), None);
    let (made, faults) = allocator.allocate(&local("Local", ""), &Unread::default());
    let first = check(&made).expect("one is given");
    assert!(faults.is_empty() && (30086..=32767).contains(&first) && !node_ports(&made).contains(&first), "{made:?}");
    assert_eq!(allocator.save(), None);
    drop(allocator);
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    assert_eq!(check(&allocator.allocate(&local("Local", ""), &Unread::default()).0), Some(first), "kept over a restart");
    assert_eq!(check(&allocator.allocate(&local("Cluster", ""), &Unread::default()).0), None);
    let (made, faults) =
        allocator.allocate(&services(&service("b", "NodePort", &format!("{{port: 80, nodePort: {first}}}"))), &Unread::default());
    assert_eq!((node_ports(&made), faults), (vec![first], Vec::new()), "freed");
    let both = format!("{}{}", service("b", "NodePort", "{port: 80, nodePort: 30010}"), service("c", "LoadBalancer", "{port: 80}"));
    let both = both.replace("LoadBalancer,", "LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30010,");
    let (made, faults) = allocator.allocate(&services(&both), &Unread::default());
    assert_eq!(check(&made), None);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].to_string().contains("failed to allocate requested HealthCheck NodePort 30010: provided port is already allocated"),
        "{faults:?}"
    );
}
