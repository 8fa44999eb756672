//! Cluster IPs, and the load balancer addresses of Services and Gateways.

use super::*;

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

fn gateway(name: &str, addresses: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  gatewayClassName: sluicegate\n  addresses: [{addresses}]\n  listeners: [{{name: http, port: 80, protocol: HTTP}}]\n"
    )
}

#[test]
fn gateways_and_services_share_the_load_balancer_addresses_and_a_restart_gives_the_same_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    // The hosts are .1 to .6.
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
    // What a Gateway names is given to nobody else, and a Gateway that names an address is not given another.
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
