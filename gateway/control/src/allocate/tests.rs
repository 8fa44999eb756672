use std::path::Path;

use sluicegate_model::{manifest, object};

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
    let first = allocator.allocate(&objects).0;
    assert!((30086..=32767).contains(&node_ports(&first)[0]), "{first:?}");
    assert!(Allocator::load(folder.path(), Ranges::default()).is_err(), "the folder is locked");
    drop(allocator);
    let mut allocator = Allocator::load(folder.path(), Ranges::default()).expect("loads");
    assert_eq!(allocator.allocate(&objects).0, first);
}

#[test]
fn a_change_to_cluster_ip_releases_the_port_and_keeps_the_address() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let before = allocator.allocate(&services(&service("a", "NodePort", "{port: 80}"))).0;
    let after = allocator.allocate(&services(&service("a", "ClusterIP", "{port: 80}"))).0;
    assert!(after.node_ports.is_empty());
    assert_eq!(before.cluster_ips, after.cluster_ips);
}

#[test]
fn conflicts_have_the_api_servers_words() {
    let mut allocator = Allocator::in_memory(Ranges::default());
    let text = service("np2", "NodePort", "{port: 80, nodePort: 30080}")
        + &service("np3", "NodePort", "{port: 80, nodePort: 30080}")
        + &service("np4", "NodePort", "{port: 80, nodePort: 8080}");
    let (allocations, faults) = allocator.allocate(&services(&text));
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
    assert_eq!(node_ports(&allocator.allocate(&services(&service("dns", "NodePort", both))).0), [30053, 30053]);
    let text =
        service("a", "NodePort", "{port: 53, nodePort: 30053}") + &service("b", "NodePort", "{port: 53, protocol: UDP, nodePort: 30053}");
    assert_eq!(allocator.allocate(&services(&text)).1.len(), 1);
}

#[test]
fn the_static_band_is_used_only_when_the_dynamic_one_is_full() {
    assert_eq!((static_band(2768), static_band(16), static_band(17), static_band(512)), (86, 0, 16, 16));
    let mut allocator = Allocator::in_memory(Ranges { node_ports: 30000..=30019, ..Ranges::default() });
    let text: String = (0..21).map(|i| service(&format!("s{i:02}"), "NodePort", "{port: 80}")).collect();
    let (allocations, faults) = allocator.allocate(&services(&text));
    let mut given = node_ports(&allocations);
    assert!(given[..4].iter().all(|p| *p >= 30016), "{given:?}");
    given.sort_unstable();
    assert_eq!(given, (30000..=30019).collect::<Vec<u16>>());
    assert_eq!(faults.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), ["failed to allocate a nodePort: range is full"]);
}
