use std::path::Path;

use sluicegate_model::{manifest, object};

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
    let first = allocator.allocate(&objects, true).0;
    assert!((30086..=32767).contains(&node_ports(&first)[0]), "{first:?}");
    assert!(Allocator::load(folder.path(), Ranges::default()).is_err(), "the folder is locked");
    drop(allocator);
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    assert_eq!(allocator.allocate(&objects, true).0, first);
}

#[test]
fn a_change_to_cluster_ip_releases_the_port_and_keeps_the_address() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let before = allocator.allocate(&services(&service("a", "NodePort", "{port: 80}")), true).0;
    let after = allocator.allocate(&services(&service("a", "ClusterIP", "{port: 80}")), true).0;
    assert!(after.node_ports.is_empty());
    assert_eq!(before.cluster_ips, after.cluster_ips);
}

#[test]
fn conflicts_have_the_api_servers_words() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let text = service("np2", "NodePort", "{port: 80, nodePort: 30080}")
        + &service("np3", "NodePort", "{port: 80, nodePort: 30080}")
        + &service("np4", "NodePort", "{port: 80, nodePort: 8080}");
    let (allocations, faults) = allocator.allocate(&services(&text), true);
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
    assert_eq!(node_ports(&allocator.allocate(&services(&service("dns", "NodePort", both)), true).0), [30053, 30053]);
    let text =
        service("a", "NodePort", "{port: 53, nodePort: 30053}") + &service("b", "NodePort", "{port: 53, protocol: UDP, nodePort: 30053}");
    assert_eq!(allocator.allocate(&services(&text), true).1.len(), 1);
}

#[test]
fn the_static_band_is_used_only_when_the_dynamic_one_is_full() {
    assert_eq!((static_band(2768), static_band(16), static_band(17), static_band(512)), (86, 0, 16, 16));
    let mut allocator = Allocator::in_memory(Ranges { node_ports: 30000..=30019, ..Ranges::default() });
    let text: String = (0..21).map(|i| service(&format!("s{i:02}"), "NodePort", "{port: 80}")).collect();
    let (allocations, faults) = allocator.allocate(&services(&text), true);
    let mut given = node_ports(&allocations);
    assert!(given[..4].iter().all(|p| *p >= 30016), "{given:?}");
    given.sort_unstable();
    assert_eq!(given, (30000..=30019).collect::<Vec<u16>>());
    assert_eq!(faults.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), ["failed to allocate a nodePort: range is full"]);
}

/// What each allocation is, by the Service's name.
fn by_name(allocations: &Allocations) -> Vec<(&str, u16)> {
    allocations.node_ports.iter().map(|((_, name, ..), number)| (name.as_str(), *number)).collect()
}

#[test]
fn a_node_port_stays_with_its_holder_whatever_the_order_and_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || Allocator::load(folder.path(), Ranges::default()).expect("loads");
    let holder = service("m", "NodePort", "{port: 80}");
    let mut allocator = load();
    let held = node_ports(&allocator.allocate(&services(&holder), true).0)[0];
    for restart in [false, true] {
        if restart {
            drop(allocator);
            allocator = load();
        }
        for other in ["a", "z"] {
            let text = service(other, "NodePort", &format!("{{port: 80, nodePort: {held}}}"));
            let both = if other == "a" { text + &holder } else { holder.clone() + &text };
            let (allocations, faults) = allocator.allocate(&services(&both), true);
            assert_eq!(by_name(&allocations), [("m", held)], "{other} has none");
            let wanted =
                format!("Service {other:?} is invalid: spec.ports[0].nodePort: Invalid value: {held}: provided port is already allocated");
            assert_eq!(faults.iter().map(|f| f.message.clone()).collect::<Vec<_>>(), [wanted]);
        }
    }
    // When the holder is gone, its number is free.
    let text = service("a", "NodePort", &format!("{{port: 80, nodePort: {held}}}"));
    assert_eq!(by_name(&allocator.allocate(&services(&text), true).0), [("a", held)]);
}

#[test]
fn a_fixed_node_port_that_cannot_be_had_leaves_what_was_held_and_one_that_can_moves() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let two = |a: &str, b: &str| services(&(service("a", "NodePort", a) + &service("b", "NodePort", b)));
    allocator.allocate(&two("{port: 80, nodePort: 30001}", "{port: 80, nodePort: 30002}"), true);
    let (allocations, faults) = allocator.allocate(&two("{port: 80, nodePort: 30002}", "{port: 80}"), true);
    assert_eq!((by_name(&allocations), faults.len()), (vec![("a", 30001), ("b", 30002)], 1));
    // b moves away, and a, whose name comes first, may have it in the same change.
    let (allocations, faults) = allocator.allocate(&two("{port: 80, nodePort: 30002}", "{port: 80, nodePort: 30003}"), true);
    assert_eq!((by_name(&allocations), faults.len()), (vec![("a", 30002), ("b", 30003)], 0));
}

#[test]
fn an_update_that_omits_the_node_port_keeps_it_also_for_a_port_that_is_renumbered() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let mut ports = |ports: &str| node_ports(&allocator.allocate(&services(&service("a", "NodePort", ports)), true).0);
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
    let before = allocator.allocate(&services(&both), true).0;
    let thief = services(&service("c", "NodePort", "{port: 80, nodePort: 30001}"));
    let (allocations, faults) = allocator.allocate(&thief, false);
    assert_eq!((by_name(&allocations), faults.len()), (vec![], 1));
    assert_eq!(allocator.allocate(&services(&both), true).0, before);
}

#[test]
fn a_cluster_ip_stays_with_its_holder_and_does_not_change() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let with = |name: &str, ip: &str| {
        service(name, "ClusterIP", "{port: 80}").replace("spec: {", &format!("spec: {{clusterIP: {ip}, ")).replace("clusterIP: , ", "")
    };
    let first = allocator.allocate(&services(&with("m", "127.96.0.7")), true).0;
    let both = services(&(with("a", "127.96.0.7") + &with("m", "")));
    let (allocations, faults) = allocator.allocate(&both, true);
    assert_eq!(allocations.cluster_ips, first.cluster_ips);
    assert!(faults[0].message.ends_with("failed to allocate IP 127.96.0.7: provided IP is already allocated"), "{faults:?}");
    let (allocations, faults) = allocator.allocate(&services(&with("m", "127.96.0.8")), true);
    assert_eq!(allocations.cluster_ips, first.cluster_ips, "what it holds serves on");
    assert!(faults[0].message.ends_with("may not change once set"), "{faults:?}");
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
    assert_eq!(check(&allocator.allocate(&local("Cluster", ""), true).0), None);
    let (made, faults) = allocator.allocate(&local("Local", ""), true);
    let first = check(&made).expect("one is given");
    assert!(faults.is_empty() && (30086..=32767).contains(&first) && !node_ports(&made).contains(&first), "{made:?}");
    drop(allocator);
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    assert_eq!(check(&allocator.allocate(&local("Local", ""), true).0), Some(first), "kept over a restart");
    assert_eq!(check(&allocator.allocate(&local("Cluster", ""), true).0), None);
    let (made, faults) = allocator.allocate(&services(&service("b", "NodePort", &format!("{{port: 80, nodePort: {first}}}"))), true);
    assert_eq!((node_ports(&made), faults), (vec![first], Vec::new()), "freed");
    let both = format!("{}{}", service("b", "NodePort", "{port: 80, nodePort: 30010}"), service("c", "LoadBalancer", "{port: 80}"));
    let both = both.replace("LoadBalancer,", "LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30010,");
    let (made, faults) = allocator.allocate(&services(&both), true);
    assert_eq!(check(&made), None);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].to_string().contains("failed to allocate requested HealthCheck NodePort 30010: provided port is already allocated"),
        "{faults:?}"
    );
}
