//! What belongs to an edge: load balancers in front with their health checks and source ranges, PROXY headers, and traffic for this node only.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use sluicegate_tests::{Gateway, PATIENCE, connect, echo, eventually};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: nginx-svc}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 30011
  loadBalancerSourceRanges: [192.0.2.0/24]
  selector: {app: nginx}
  ports: [{port: 8080, targetPort: 80}]
";

fn pod(name: &str, ip: std::net::IpAddr, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: nginx}}}}\nspec: {{nodeName: {node}, containers: []}}\n\
         status: {{podIP: {ip}, conditions: [{{type: Ready, status: \"True\"}}]}}\n"
    )
}

/// All bytes of an answer except its date.
fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let lines = answer.split_inclusive("\r\n").filter(|line| !line.to_lowercase().starts_with("date:"));
    lines.collect()
}

#[test]
fn a_load_balancer_is_told_of_this_nodes_endpoints_and_may_alone_connect() {
    let gateway = Gateway::with(&[("svc.yaml", SERVICE)], |settled, [b, c]| {
        settled.here.node = Some("here".to_owned());
        settled.ranges.load_balancer = vec![format!("127.{b}.{c}.3/32").parse().expect("an address")];
    });
    for (name, last) in [("a", 4), ("b", 5)] {
        echo(gateway.ip(last), name);
    }
    gateway.write("b.yaml", &pod("b", gateway.ip(5), "elsewhere"));
    eventually("an endpoint elsewhere", || gateway.ready_endpoints() == 1);
    let check = SocketAddr::new(gateway.ip(1), 30011);
    let answer = |status: &str, count: usize| {
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"nginx-svc\"\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": true\n}}"
        );
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {count}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let sorted = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
        lines[1..].sort();
        (lines, body.to_owned())
    };
    assert_eq!(sorted(&ask(check, "/")), sorted(&answer("503 Service Unavailable", 0)));
    let resets = |reason: &str| {
        let metrics = gateway.get("/metrics").expect("metrics");
        let line = format!("sluicegate_connection_resets_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|l| l.strip_prefix(&line)?.parse::<u64>().ok()).expect("counted")
    };
    assert!(connect(gateway.node_port()).is_err());
    assert_eq!((resets("no-local-endpoint"), resets("no-endpoint")), (1, 0));
    // For traffic from inside, endpoints anywhere serve: `internalTrafficPolicy` is Cluster.
    assert_eq!(connect(gateway.cluster_ip()).expect("connected").0, "b");

    gateway.write("a.yaml", &pod("a", gateway.ip(4), "here"));
    eventually("an endpoint here", || ask(check, "/any?path").starts_with("HTTP/1.1 200"));
    assert_eq!(sorted(&ask(check, "/any?path")), sorted(&answer("200 OK", 1)));
    assert_eq!(connect(gateway.node_port()).expect("connected").0, "a");
    let balanced = SocketAddr::new(gateway.ip(3), 8080);
    assert!(connect(balanced).is_err(), "not from 127.0.0.1");
    assert_eq!(resets("source-range"), 1);
    gateway.write("svc.yaml", &SERVICE.replace("192.0.2.0/24", "192.0.2.0/24, 127.0.0.0/8"));
    eventually("another range is let in", || connect(balanced).is_ok_and(|(name, _)| name == "a"));

    gateway.write(
        "svc.yaml",
        &SERVICE.replace("externalTrafficPolicy: Local\n  healthCheckNodePort: 30011", "externalTrafficPolicy: Cluster"),
    );
    eventually("nobody is told any more", || TcpStream::connect(check).is_err());
}

#[test]
fn a_proxy_header_is_believed_and_passed_on_as_policies_say() {
    let policies = "
apiVersion: v1
kind: Service
metadata: {name: nginx-svc}
spec: {type: NodePort, selector: {app: nginx}, ports: [{port: 8080, targetPort: 80}]}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: in}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  tcpKeepalive: {idleTime: 30s, interval: 5s, probes: 3}
  timeout: {tcp: {idleTimeout: 1h}}
  proxyProtocol: {trustedCIDRs: [127.0.0.0/8]}
---
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: out}
spec:
  targetRefs: [{kind: Service, name: nginx-svc}]
  tcpKeepalive: {idleTime: 30s}
  proxyProtocol: {version: V1}
";
    let gateway = Gateway::new(&[("svc.yaml", policies)]);
    echo(gateway.ip(4), "a");
    gateway.write("a.yaml", &gateway.pod("a", 4, true));
    eventually("an endpoint", || gateway.ready_endpoints() == 1);
    let talk = |first: &str| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(gateway.node_port())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(first.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut all = String::new();
        stream.read_to_string(&mut all)?;
        Ok(all)
    };
    let header = "PROXY TCP4 192.0.2.1 198.51.100.2 5000 80\r\n";
    eventually("served", || talk(&format!("{header}hello")).is_ok_and(|all| all == format!("a\n{header}hellobye")));
    assert!(talk("hello").is_err(), "reset");
    // A header that says nothing: the socket's own addresses count.
    let all = talk("PROXY UNKNOWN\r\nhello").expect("served");
    let (address, port) = (Ipv4Addr::LOCALHOST, gateway.node_port());
    assert!(all.starts_with(&format!("a\nPROXY TCP4 {address} {} ", port.ip())), "{all}");
}
