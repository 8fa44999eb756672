use std::path::{Path, PathBuf};

use sluicegate_config::{manifest, object, validate};

use super::node_ports::static_band;
use super::*;

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

/// As if the file they are in could not be read whole.
fn unread() -> Unread {
    Unread { files: [PathBuf::from("test.yaml")].into(), ..Unread::default() }
}

/// What each allocation is, by the Service's name.
fn by_name(allocations: &Allocations) -> Vec<(&str, u16)> {
    allocations.node_ports.iter().map(|((_, name, ..), number)| (name.as_str(), *number)).collect()
}

/// Services `a`, `b`, ... with these node ports, 0 for any.
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
    // A single port need have no name.
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

fn with_ip(name: &str, ip: &str) -> String {
    let field = if ip.is_empty() { String::new() } else { format!("clusterIP: {ip}, ") };
    service(name, "ClusterIP", "{port: 80}").replace("spec: {", &format!("spec: {{{field}"))
}

fn cluster_ips(allocations: &Allocations) -> Vec<String> {
    allocations.cluster_ips.values().map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn cluster_ips_are_what_the_files_say_whoever_held_them_before() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let mut allocate = |a: &str, b: &str| {
        let (allocations, faults) = allocator.allocate(&services(&(with_ip("a", a) + &with_ip("b", b))), &Unread::default());
        (cluster_ips(&allocations), faults)
    };
    assert_eq!(allocate("127.96.0.7", "127.96.0.8"), (vec!["127.96.0.7".into(), "127.96.0.8".into()], Vec::new()));
    assert_eq!(allocate("127.96.0.8", "127.96.0.7"), (vec!["127.96.0.8".into(), "127.96.0.7".into()], Vec::new()));
    assert_eq!(allocate("127.96.0.9", ""), (vec!["127.96.0.9".into(), "127.96.0.7".into()], Vec::new()), "left out, it is kept");
    assert_eq!(allocate("127.96.0.7", ""), (vec!["127.96.0.7".into(), "127.96.0.1".into()], Vec::new()), "who asks for it has it");
    let (ips, faults) = allocate("127.96.0.7", "127.96.0.7");
    assert_eq!(ips, ["127.96.0.7", "127.96.0.1"]);
    assert!(faults[0].message.ends_with("failed to allocate IP 127.96.0.7: provided IP is already allocated"), "{faults:?}");
    assert_eq!(faults[0].expected.as_deref(), Some("it is a cluster IP of Service default/a"));
}

#[test]
fn a_dual_stack_service_has_a_cluster_ip_of_each_family_the_primary_ones_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let ranges = Ranges { cluster_ips: vec!["127.96.0.0/16".parse().expect("v4"), "fd96::/112".parse().expect("v6")], ..Ranges::default() };
    let load = || Allocator::load(folder.path(), ranges.clone()).expect("loads");
    let of = |families: &str| services(&service("a", "ClusterIP", "{port: 80}").replace("spec: {", &format!("spec: {{{families}, ")));
    let mut allocator = load();
    let allocate = |families: &str, allocator: &mut Allocator| {
        let (made, faults) = allocator.allocate(&of(families), &Unread::default());
        assert!(faults.is_empty(), "{faults:?}");
        cluster_ips(&made).remove(0)
    };
    assert_eq!(allocate("ipFamilyPolicy: SingleStack", &mut allocator), "127.96.0.1");
    assert_eq!(allocate("ipFamilyPolicy: PreferDualStack", &mut allocator), "127.96.0.1 fd96::1");
    assert_eq!(allocator.save(), None);
    drop(allocator);
    let mut allocator = load();
    let given = "ipFamilyPolicy: RequireDualStack, clusterIP: 127.96.0.1, clusterIPs: [127.96.0.1, 'fd96::9']";
    assert_eq!(allocate(given, &mut allocator), "127.96.0.1 fd96::9");
    assert_eq!(allocate("ipFamilyPolicy: RequireDualStack", &mut allocator), "127.96.0.1 fd96::9", "kept");
    assert_eq!(allocate("ipFamilies: [IPv6]", &mut allocator), "fd96::9", "and the other one is free");
    assert_eq!(allocate("ipFamilies: [IPv6, IPv4], ipFamilyPolicy: PreferDualStack", &mut allocator), "fd96::9 127.96.0.1");
    let mut single = Allocator::in_memory(Ranges::default());
    let (made, faults) = single.allocate(&of("ipFamilies: [IPv6]"), &Unread::default());
    assert_eq!(cluster_ips(&made), [""]);
    assert_eq!(faults[0].message, "Service \"a\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster");
}

#[test]
fn load_balancer_addresses_are_exchanged_too_and_there_is_one_of_each_family() {
    let pool = |text: &str| text.parse::<IpNet>().expect("a network");
    let mut allocator = Allocator::in_memory(Ranges { load_balancer: vec![pool("127.9.0.0/29"), pool("fd97::/126")], ..Ranges::default() });
    let lb = |name: &str, more: &str| service(name, "LoadBalancer", "{port: 80}").replace("spec: {", &format!("spec: {{{more}"));
    let mut allocate = |text: String| {
        let (made, faults) = allocator.allocate(&services(&text), &Unread::default());
        let of = |ips: &Vec<IpAddr>| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (made.load_balancer.values().map(of).collect::<Vec<_>>(), faults)
    };
    let with = |ip: &str| format!("loadBalancerIP: {ip}, ");
    assert_eq!(allocate(lb("a", &with("127.9.0.1")) + &lb("b", &with("127.9.0.2"))).0, ["127.9.0.1", "127.9.0.2"]);
    assert_eq!(allocate(lb("a", &with("127.9.0.2")) + &lb("b", &with("127.9.0.1"))).0, ["127.9.0.2", "127.9.0.1"]);
    assert_eq!(allocate(lb("a", "") + &lb("b", &with("127.9.0.2"))).0, ["127.9.0.1", "127.9.0.2"], "who asks for it has it");
    let (made, faults) = allocate(lb("a", &with("127.9.0.2")) + &lb("b", &with("127.9.0.2")));
    assert_eq!(made, ["127.9.0.1", "127.9.0.2"]);
    assert!(faults[0].message.contains("127.9.0.2 is the load balancer address of Service default/b"), "{faults:?}");
    assert_eq!(allocate(lb("a", "ipFamilies: [IPv6, IPv4], ipFamilyPolicy: PreferDualStack, ")).0, ["fd97::1 127.9.0.1"]);
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

/// A Service in a file of its own.
fn in_file(file: &str, name: &str, port: &str) -> Arc<Object> {
    let parsed = manifest::parse(Path::new(file), &service(name, "NodePort", port));
    Arc::new(object::decode(parsed.documents.into_iter().next().expect("one")).0.expect("an object"))
}

#[test]
fn what_removed_services_held_is_used_again_though_another_file_is_faulty() {
    let mut allocator = Allocator::in_memory(Ranges { node_ports: 30000..=30003, ..Ranges::default() });
    let faulty = Unread { files: [PathBuf::from("faulty.yaml")].into(), ..Unread::default() };
    let some = |names: &[&str]| -> Vec<Arc<Object>> { names.iter().map(|n| in_file(&format!("{n}.yaml"), n, "{port: 80}")).collect() };
    let lost = in_file("faulty.yaml", "lost", "{port: 80, nodePort: 30000}");
    let held: Vec<Arc<Object>> = some(&["a", "b"]).into_iter().chain([lost]).collect();
    let first = allocator.allocate(&held, &Unread::default()).0;
    let of = |made: &Allocations, name: &str| by_name(made).into_iter().find(|(n, _)| *n == name).map(|(_, number)| number);
    // First b goes, then a, and then as many come as there are numbers.
    allocator.allocate(&some(&["a"]), &faulty);
    allocator.allocate(&some(&[]), &faulty);
    let (made, faults) = allocator.allocate(&some(&["c", "d"]), &faulty);
    let given: Vec<u16> = node_ports(&made);
    assert!(given.contains(&of(&first, "b").expect("held")), "the one that has been gone longest is used first: {made:?}");
    assert_eq!((given.contains(&of(&first, "a").expect("held")), faults), (false, Vec::new()));
    let (made, faults) = allocator.allocate(&some(&["c", "d", "e"]), &faulty);
    assert_eq!((of(&made, "e"), faults), (of(&first, "a"), Vec::new()));
    // What may only be unreadable goes last, and what is there never.
    let (made, faults) = allocator.allocate(&some(&["c", "d", "e", "f"]), &faulty);
    assert_eq!((of(&made, "f"), faults), (Some(30000), Vec::new()));
    let (made, faults) = allocator.allocate(&some(&["c", "d", "e", "f", "g"]), &faulty);
    assert_eq!((of(&made, "g"), faults.len()), (None, 1));
}

#[test]
fn a_number_that_an_object_asks_for_is_free_when_its_holder_was_removed_and_not_when_it_may_be_unreadable() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let faulty = Unread { files: [PathBuf::from("folder")].into(), ..Unread::default() };
    let removed = in_file("removed.yaml", "removed", "{port: 80, nodePort: 30001}");
    let unreadable = in_file("folder/file.yaml", "unreadable", "{port: 80, nodePort: 30002}");
    allocator.allocate(&[removed, unreadable], &Unread::default());
    let new = [in_file("new.yaml", "one", "{port: 80, nodePort: 30001}"), in_file("new.yaml", "two", "{port: 80, nodePort: 30002}")];
    let (made, faults) = allocator.allocate(&new, &faulty);
    assert_eq!((by_name(&made), faults.len()), (vec![("one", 30001)], 1), "{faults:?}");
    // When all can be read, the unreadable one was removed as well.
    let (made, faults) = allocator.allocate(&new, &Unread::default());
    assert_eq!((by_name(&made), faults), (vec![("one", 30001), ("two", 30002)], Vec::new()));
}

#[test]
fn cluster_ips_and_load_balancer_addresses_of_removed_services_are_used_again_too() {
    let net = |text: &str| text.parse::<IpNet>().expect("a network");
    let ranges = Ranges { cluster_ips: vec![net("127.96.0.0/30")], load_balancer: vec![net("127.97.0.0/30")], ..Ranges::default() };
    let mut allocator = Allocator::in_memory(ranges);
    let faulty = Unread { objects: [services(&service("x", "ClusterIP", "{port: 80}"))[0].key.clone()].into(), ..Unread::default() };
    for round in 0..5 {
        let one = services(&service(&format!("s{round}"), "LoadBalancer", "{port: 80}"));
        let (made, faults) = allocator.allocate(&one, &faulty);
        assert_eq!((made.cluster_ips.len(), made.load_balancer.len(), faults), (1, 1, Vec::new()), "round {round}");
    }
}

#[test]
fn no_damage_changes_a_port_and_what_could_not_be_saved_is_saved_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let objects = services(&(service("a", "NodePort", "{port: 80}") + &service("b", "NodePort", "{port: 80}")));
    let mut allocator = load();
    let obstacle = folder.path().join("allocations.json.partial");
    std::fs::create_dir_all(obstacle.join("full")).expect("made");
    let first = allocator.allocate(&objects, &Unread::default()).0;
    let fault = allocator.save().expect("told");
    assert_eq!((fault.severity, allocator.unsaved()), (Severity::Warning, true));
    std::fs::remove_dir_all(&obstacle).expect("removed");
    assert_eq!((allocator.save(), allocator.unsaved()), (None, false));
    for damage in ["", "{", "\u{feff}{}", "{\"content\": {}}", "null"] {
        drop(allocator);
        std::fs::write(folder.path().join("allocations.json"), damage).expect("written");
        allocator = load();
        assert_eq!(allocator.allocate(&objects, &Unread::default()).0, first, "{damage:?}");
        assert_eq!(allocator.save(), None);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_no_reason_not_to_start() {
    // Where nobody may write, root neither.
    let mut allocator = Allocator::load(Path::new("/sys/sluicegate"), Ranges::default()).expect("starts");
    let (made, _) = allocator.allocate(&services(&service("a", "NodePort", "{port: 80}")), &Unread::default());
    assert_eq!(made.node_ports.len(), 1);
    assert_eq!(allocator.save().map(|fault| fault.severity), Some(Severity::Warning));
}

fn gateway(name: &str, addresses: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  gatewayClassName: sluicegate\n  addresses: [{addresses}]\n  listeners: [{{name: http, port: 80, protocol: HTTP}}]\n"
    )
}

#[test]
fn gateways_and_services_share_the_load_balancer_addresses_and_a_restart_gives_the_same_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    // Hosts .1 to .6.
    let ranges = || Ranges { load_balancer: vec!["127.9.0.0/29".parse().expect("a range")], ..Ranges::default() };
    let text = service("a", "LoadBalancer", "{port: 80}")
        + &gateway("a", "")
        + &gateway("named", "{value: 127.9.0.3}")
        + &gateway("z", "{type: IPAddress}");
    let objects = services(&text);
    let mut allocator = Allocator::load(folder.path(), ranges()).expect("loads");
    let (first, faults) = allocator.allocate(&objects, &Unread::default());
    assert!(faults.is_empty(), "{faults:?}");
    let of = |made: &Allocations, name: &str| made.gateways.get(&("default".to_owned(), name.to_owned())).cloned();
    let ip = |last: u8| vec![IpAddr::from([127, 9, 0, last])];
    assert_eq!(first.load_balancer.values().cloned().collect::<Vec<_>>(), [ip(1)]);
    // What another Gateway names is given to nobody, and nobody is given what they name themselves.
    assert_eq!([of(&first, "a"), of(&first, "z"), of(&first, "named")], [Some(ip(2)), Some(ip(4)), None]);
    // A Service that comes alone does not get it either.
    let mut made = first.clone();
    let new = services(&service("b", "LoadBalancer", "{port: 80}")).remove(0);
    assert!(allocator.allocate_changed(&[(new.key.clone(), Some(new))], &Unread::default(), &mut made));
    assert_eq!(made.load_balancer.values().cloned().collect::<Vec<_>>(), [ip(1), ip(5)]);
    assert_eq!(made.gateways, first.gateways);
    assert_eq!(allocator.save(), None);
    drop(allocator);
    let mut allocator = Allocator::load(folder.path(), ranges()).expect("loads");
    let fewer = services(&(gateway("z", "") + &service("a", "LoadBalancer", "{port: 80}")));
    let (after, _) = allocator.allocate(&fewer, &Unread::default());
    assert_eq!((of(&after, "z"), of(&after, "a")), (Some(ip(4)), None));
    assert_eq!(after.differences(&first).into_iter().map(|key| key.to_string()).collect::<Vec<_>>(), ["Gateway default/a"]);
}

#[test]
fn without_load_balancer_addresses_gateways_are_given_nothing_and_when_all_are_taken_it_is_told() {
    let objects = services(&(gateway("a", "") + &gateway("b", "")));
    let (made, faults) = Allocator::in_memory(Ranges::default()).allocate(&objects, &Unread::default());
    assert_eq!((made.gateways.len(), faults), (0, Vec::new()));
    let ranges = Ranges { load_balancer: vec!["127.9.0.1/32".parse().expect("a range")], ..Ranges::default() };
    let (made, faults) = Allocator::in_memory(ranges).allocate(&objects, &Unread::default());
    assert_eq!(made.gateways.values().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(
        faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>(),
        ["failed to allocate a load balancer address: all are taken"]
    );
}
