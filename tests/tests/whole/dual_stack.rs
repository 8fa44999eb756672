//! Services of two IP families (KEP-563): addresses of each family lead only to endpoints of that family. The only IPv6 address here is `::1`, which
//! is node address, range of cluster IPs and Pod at once.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use sluicegate::Settled;
use sluicegate_tests::{Gateway, connect, eventually, fetch, http};

const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn dual(settled: &mut Settled, _: [u8; 2]) {
    settled.ranges.cluster_ips.push("::1/128".parse().expect("a network"));
    settled.nodeport_addresses.push("::1/128".parse().expect("a network"));
}

/// A server that sends its name and closes. None if this machine has no IPv6.
fn named(ip: IpAddr, port: u16, name: &'static str) -> Option<u16> {
    use std::io::Write;
    let listener = match TcpListener::bind((ip, port)) {
        Err(error) if ip.is_ipv6() && error.kind() != std::io::ErrorKind::AddrInUse => return None,
        bound => bound.expect("a free port"),
    };
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|mut stream| drop(writeln!(stream, "{name}"))));
    Some(port)
}

fn free_port() -> u16 {
    TcpListener::bind((V6, 0)).expect("bound").local_addr().expect("an address").port()
}

/// Services of both families, of IPv4, of IPv6, and one that does not say; each with a Pod of both families.
fn objects(gateway: &Gateway, target: u16, port: u16) -> String {
    let both = format!("podIPs: [{{ip: {}}}, {{ip: \"::1\"}}]", gateway.ip(2));
    let families = ["ipFamilyPolicy: PreferDualStack, ", "ipFamilies: [IPv4], ", "ipFamilies: [IPv6], ", ""];
    let mut text =
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: p}}}}\nstatus: {{podIP: {}, {both}}}\n", gateway.ip(2));
    for (i, families) in families.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{type: NodePort, {families}selector: {{app: p}}, ports: [{{port: {}, targetPort: {target}}}]}}\n",
            port + u16::try_from(i).expect("small")
        ));
    }
    text
}

fn says(address: SocketAddr) -> String {
    connect(address).map_or_else(|_| "refused".to_owned(), |(name, _)| name)
}

#[test]
fn an_address_of_a_family_leads_to_endpoints_of_that_family() {
    let gateway = Gateway::with(&[], dual);
    let Some(target) = named(V6, 0, "v6") else { return };
    named(gateway.ip(2), target, "v4").expect("bound");
    gateway.write("all.yaml", &objects(&gateway, target, free_port()));
    // A Service that has no cluster IP, since there is no other address than ::1, has its node ports all the same.
    eventually("all are served", || {
        let services = gateway.json("services");
        let all = services.as_array().expect("a list");
        all.len() == 4 && all.iter().all(|service| service["ports"][0]["endpoints"].as_array().is_some_and(|e| !e.is_empty()))
    });
    let services = gateway.json("services");
    let endpoints = |i: usize| services[i]["ports"][0]["endpoints"].as_array().expect("a list").len();
    assert_eq!([endpoints(0), endpoints(1), endpoints(2), endpoints(3)], [2, 1, 1, 1], "one of each family: {services:#}");
    let port = |i: usize| u16::try_from(services[i]["ports"][0]["nodePort"].as_u64().expect("a node port")).expect("a port");
    let at = |ip: IpAddr, i: usize| says(SocketAddr::new(ip, port(i)));
    eventually("the workers serve them", || at(gateway.ip(1), 3) == "v4");
    for _ in 0..8 {
        assert_eq!(["v4", "v4", "refused", "v4"].map(str::to_owned), [0, 1, 2, 3].map(|i| at(gateway.ip(1), i)), "by IPv4");
        assert_eq!(["v6", "refused", "v6", "v4"].map(str::to_owned), [0, 1, 2, 3].map(|i| at(V6, i)), "by IPv6");
    }
    let ips: Vec<IpAddr> = services[0]["clusterIPs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|ip| ip.as_str().expect("text").parse().expect("an address"))
        .collect();
    let port = u16::try_from(services[0]["ports"][0]["port"].as_u64().expect("a port")).expect("a port");
    assert_eq!(ips.iter().map(|ip| says(SocketAddr::new(*ip, port))).collect::<Vec<_>>(), ["v4", "v6"], "{ips:?}");
}

#[test]
fn slices_of_both_families_are_not_mixed_and_a_route_takes_one_of_them() {
    const GATEWAY: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: sluicegate
  addresses: [{value: IP}]
  listeners: [{name: web, protocol: HTTP, port: 8081}]
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: edge}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  router: {plugin: rules, config: {rules: [{backendRefs: [{name: s, port: 80}]}]}}
";
    let gateway = Gateway::with(&[], dual);
    if named(V6, 0, "unused").is_none() {
        return;
    }
    http(gateway.ip(2), "v4");
    let slice = |family: &str, ip: IpAddr, port: u16| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s-{}, labels: {{kubernetes.io/service-name: s}}}}\naddressType: {family}\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [\"{ip}\"]}}]\n",
            family.to_lowercase()
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, ipFamilies: [IPv6, IPv4], ipFamilyPolicy: RequireDualStack, ports: [{port: 80, appProtocol: http}]}\n";
    let edge = GATEWAY.replace("IP}", &format!("{}}}", gateway.ip(1)));
    let gone = free_port();
    let both = slice("IPv4", gateway.ip(2), 80) + &slice("IPv6", V6, gone);
    gateway.write("all.yaml", &format!("{service}{both}{edge}"));
    eventually("both endpoints", || gateway.ready_endpoints() == 2);
    let node_port = gateway.node_port();
    eventually("served", || TcpStream::connect(node_port).is_ok());
    assert_eq!(fetch(node_port).0, 200, "by IPv4, the endpoint of IPv4");
    assert_eq!(fetch(SocketAddr::new(V6, node_port.port())).0, 502, "by IPv6, never one of IPv4, though that of IPv6 refuses connections");
    let edge_address = SocketAddr::new(gateway.ip(1), 8081);
    assert_eq!(fetch(edge_address).0, 502, "a route leads to the primary family");
    gateway.write("all.yaml", &format!("{service}{}{edge}", slice("IPv4", gateway.ip(2), 80)));
    eventually("and to the other one where that has no endpoint", || fetch(edge_address).0 == 200);
}

#[test]
fn node_ports_are_on_all_addresses_of_both_families_by_default() {
    let gateway = Gateway::with(&[], |settled, _| settled.nodeport_addresses.clear());
    let Some(target) = named(V6, 0, "v6") else { return };
    named(gateway.ip(2), target, "v4").expect("bound");
    let text = objects(&gateway, target, 80).replace("PreferDualStack", "PreferDualStack, ipFamilies: [IPv4, IPv6]");
    gateway.write("all.yaml", &text);
    eventually("four services", || gateway.json("services").as_array().is_some_and(|all| all.len() == 4));
    let services = gateway.json("services");
    let port = |i: usize| u16::try_from(services[i]["ports"][0]["nodePort"].as_u64().expect("a node port")).expect("a port");
    eventually("IPv6", || says(SocketAddr::new(V6, port(0))) == "v6" && says(SocketAddr::new(V6, port(2))) == "v6");
    eventually("IPv4", || says(SocketAddr::new(gateway.ip(1), port(0))) == "v4" && says(SocketAddr::new(gateway.ip(1), port(1))) == "v4");
    assert_eq!(says(SocketAddr::new(V6, port(3))), "v4", "a Service that names no family takes clients of both");
    assert!(gateway.has_fault(&["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"]));
}
