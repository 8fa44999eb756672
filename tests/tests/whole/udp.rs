//! UDP from manifests: node port and cluster IP, TCP on the same number, a Gateway's listener with a router, and pods that come and go.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use sluicegate_tests::{Gateway, connect, echo, eventually};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: dns}\nspec:\n  type: NodePort\n  selector: {app: nginx}\n  ports:\n  \
    - {name: dns, port: 53, protocol: UDP, targetPort: 80}\n  - {name: dns-tcp, port: 53, targetPort: 80}\n";

/// A backend that answers each datagram with its name.
fn udp(ip: IpAddr, name: &'static str) {
    let socket = UdpSocket::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        let mut got = [0; 2048];
        while let Ok((_, client)) = socket.recv_from(&mut got) {
            let _ = socket.send_to(name.as_bytes(), client);
        }
    });
}

fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(to).expect("connected");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    socket
}

/// Sends one datagram; none if there is no answer.
fn ask(client: &UdpSocket) -> Option<String> {
    client.send(b"?").ok()?;
    let mut got = [0; 64];
    let length = client.recv(&mut got).ok()?;
    Some(String::from_utf8_lossy(&got[..length]).into_owned())
}

#[test]
fn udp_and_tcp_share_a_number_and_flows_follow_the_pods() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        udp(gateway.ip(last), name);
    }
    echo(gateway.ip(2), "tcp");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("one endpoint a protocol", || gateway.ready_endpoints() == 2);
    let services = gateway.json("services");
    let ports = &services[0]["ports"];
    assert!(ports[0]["nodePort"].is_u64() && ports[0]["nodePort"] == ports[1]["nodePort"], "one number for both: {ports}");
    let node_port = gateway.node_port();
    let cluster_ip = SocketAddr::new(gateway.cluster_ip().ip(), 53);
    let running = client(node_port);
    eventually("served", || ask(&running).as_deref() == Some("a"));
    assert_eq!(ask(&client(cluster_ip)).as_deref(), Some("a"));
    assert_eq!(connect(node_port).expect("connected").0, "tcp");

    // The flow's endpoint stops serving while another is there: the flow goes on with the other.
    gateway.write("b.yaml", &gateway.pod("b", 3, true));
    gateway.write("a.yaml", &gateway.pod("a", 2, false));
    eventually("moved", || ask(&running).as_deref() == Some("b"));
    assert_eq!(ask(&client(node_port)).as_deref(), Some("b"));
    let metrics = gateway.get("/metrics").expect("answered");
    let row = "sluicegate_service_udp_flows_moved_total{namespace=\"default\",service=\"dns\",port=\"53\",protocol=\"UDP\"} 1";
    assert!(metrics.contains(row), "{metrics}");

    // The last endpoint goes, though it still answers.
    for name in ["a.yaml", "b.yaml"] {
        std::fs::remove_file(gateway.path(name)).expect("removed");
    }
    eventually("none is left", || gateway.ready_endpoints() == 0);
    running.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("set");
    eventually("it has ended", || ask(&running).is_none());
}

#[test]
fn the_udp_listener_of_a_gateway_is_routed_by_the_rules_plugin() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    udp(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: sluicegate\n  \
         addresses: [{{type: IPAddress, value: {ip}}}]\n  listeners:\n  - {{name: dns, port: 5353, protocol: UDP}}\n  \
         - {{name: web, port: 5353, protocol: HTTP}}\n---\n\
         apiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: edge}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: dns}}]\n  \
         router: {{plugin: rules, config: {{rules: [{{backendRefs: [{{name: dns, port: 53}}]}}]}}}}\n",
        ip = gateway.ip(1)
    );
    gateway.write("edge.yaml", &text);
    let client = client(SocketAddr::new(gateway.ip(1), 5353));
    eventually("routed", || ask(&client).as_deref() == Some("a"));
    assert!(gateway.json("faults").as_array().is_some_and(Vec::is_empty), "{}", gateway.json("faults"));
}
