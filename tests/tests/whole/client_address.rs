//! Endpoints that see the client's address at L4 (`clientAddress.keep`): a client, the gateway and an endpoint, each in a network namespace of its own, with links between
//! them. The test plays the gateway's node; the others are this binary once more.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sluicegate::Settled;
use sluicegate_tests::{Gateway, PATIENCE, eventually};

/// Says to the test binary which part it is to play.
const PART: &str = "SLUICEGATE_TEST_PART";

const OBJECTS: &str = "apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  ipFamilyPolicy: PreferDualStack
  ipFamilies: [IPv4, IPv6]
  clusterIP: 127.96.0.1
  clusterIPs: [127.96.0.1, 'fd96::1']
  ports: [{name: bytes, port: 80, nodePort: 30280}, {name: datagrams, port: 53, nodePort: 30253, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: any}
spec: {type: NodePort, ports: [{name: bytes, port: 80, nodePort: 30281}]}
";

fn slice(service: &str, family: &str, address: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: {family}\n\
         metadata: {{name: {service}-{}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         endpoints: [{{addresses: ['{address}'], nodeName: here, conditions: {{ready: true}}}}]\n\
         ports: [{{name: bytes, port: 8080, protocol: TCP}}, {{name: datagrams, port: 5353, protocol: UDP}}]\n",
        family.to_lowercase()
    )
}

/// Plays a test again in this binary, in namespaces of its own.
fn again(test: &str, namespaces: &str) {
    let binary = std::env::current_exe().expect("this binary");
    let mut command = Command::new("unshare");
    command.args([namespaces, "--"]).arg(binary).args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(PART, "node");
    let output = command.output().expect("unshare is there");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn ip(arguments: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("ip").env("PATH", path).args(arguments.split(' ')).output().expect("ip is there (iproute2)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Another machine: this binary in a network namespace of its own, which does what it is told.
struct Machine {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Machine {
    /// One that is linked to this one: there it has the addresses `.2` and `::2` of a network, and this one `.1` and `::1`.
    fn linked(test: &str, link: &str, network: u8) -> Self {
        let binary = std::env::current_exe().expect("this binary");
        let mut command = Command::new("unshare");
        command.args(["-n", "--"]).arg(binary).args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(PART, "machine");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is there");
        let (input, output) = (child.stdin.take().expect("piped"), BufReader::new(child.stdout.take().expect("piped")));
        let mut machine = Self { child, input, output };
        machine.told("here");
        let pid = machine.child.id();
        ip(&format!("link add {link} type veth peer name eth0 netns {pid}"));
        ip(&format!("address add 10.{network}.0.1/24 dev {link}"));
        ip(&format!("address add fd00:{network}::1/64 dev {link} nodad"));
        ip(&format!("link set {link} up"));
        machine.ask(&format!("configure {network}"));
        machine
    }

    /// What follows a word in the next line that begins with it.
    fn told(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("it is there") > 0, "it has ended before it said {word:?}");
            // The harness writes without a line break before a test.
            if let Some((_, rest)) = line.split_once(&format!("said: {word}")) {
                return rest.trim().to_owned();
            }
        }
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").expect("it listens");
        self.told("done")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What another machine does.
fn play() {
    println!("said: here");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let (what, with) = line.split_once(' ').expect("a word more");
        println!("said: done {}", act(what, with));
    }
}

fn act(what: &str, with: &str) -> String {
    match what {
        "configure" => {
            ip("link set lo up");
            ip(&format!("address add 10.{with}.0.2/24 dev eth0"));
            ip(&format!("address add fd00:{with}::2/64 dev eth0 nodad"));
            ip("link set eth0 up");
            ip(&format!("route add default via 10.{with}.0.1"));
            ip(&format!("-6 route add default via fd00:{with}::1"));
        }
        "serve" => {
            let (tcp, udp) = (TcpListener::bind("[::]:8080").expect("free"), UdpSocket::bind("[::]:5353").expect("free"));
            std::thread::spawn(move || {
                for mut stream in tcp.incoming().flatten() {
                    let from = stream.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
                    let _ = stream.write_all(from.unwrap_or_default().as_bytes());
                }
            });
            std::thread::spawn(move || {
                while let Ok((_, from)) = udp.recv_from(&mut [0; 100]) {
                    let _ = udp.send_to(from.ip().to_canonical().to_string().as_bytes(), from);
                }
            });
        }
        "connect" => return connected(with).unwrap_or_else(|error| format!("failed: {error}")),
        _ => return datagram(with).unwrap_or_else(|error| format!("failed: {error}")),
    }
    String::new()
}

fn connected(to: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to.parse().expect("an address"), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn datagram(to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().expect("an address");
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"?", to)?;
    let mut bytes = [0; 100];
    let (length, _) = socket.recv_from(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn settle(settled: &mut Settled) {
    settled.nodeport_addresses = ["10.2.0.1/32", "fd00:2::1/128"].map(|it| it.parse().expect("an address")).into();
    settled.ranges.cluster_ips = ["127.96.0.0/16", "fd96::/112"].map(|it| it.parse().expect("a range")).into();
    settled.here.node = Some("here".to_owned());
}

#[test]
fn endpoints_on_this_node_see_the_clients_address() {
    let test = "client_address::endpoints_on_this_node_see_the_clients_address";
    match std::env::var(PART).as_deref() {
        Ok("node") => {}
        Ok(_) => return play(),
        Err(_) => return again(test, "-rn"),
    }
    ip("link set lo up");
    ip("address add fd96::1/128 dev lo nodad");
    let mut endpoint = Machine::linked(test, "endpoint", 1);
    let mut client = Machine::linked(test, "client", 2);
    endpoint.ask("serve both");
    let slices = slice("near", "IPv4", "10.1.0.2") + &slice("near", "IPv6", "fd00:1::2") + &slice("any", "IPv4", "10.1.0.2");
    let objects = format!("{OBJECTS}{slices}");
    let start = |adjust: fn(&mut Settled, [u8; 2])| {
        let gateway = Gateway::with(&[("objects.yaml", &objects)], adjust);
        eventually("all endpoints", || gateway.ready_endpoints() == 5);
        gateway
    };

    // Without it, all come from this node.
    let gateway = start(|settled, _| settle(settled));
    assert_eq!(client.ask("connect 10.2.0.1:30280"), "10.1.0.1");
    drop(gateway);

    // What the endpoint sends to the client stays here.
    for family in ["-4", "-6"] {
        ip(&format!("{family} rule add iif endpoint lookup 142"));
    }
    ip("route add local 0.0.0.0/0 dev lo table 142");
    ip("-6 route add local ::/0 dev lo table 142");
    let gateway = start(|settled, _| {
        settle(settled);
        settled.keep_clients = Some([].into());
    });
    assert!(gateway.has_no_fault(), "{}", gateway.json("faults"));
    for _ in 0..3 {
        assert_eq!(client.ask("connect 10.2.0.1:30280"), "10.2.0.2");
    }
    assert_eq!(client.ask("connect [fd00:2::1]:30280"), "fd00:2::2");
    assert_eq!(client.ask("send 10.2.0.1:30253"), "10.2.0.2");
    assert_eq!(client.ask("send [fd00:2::1]:30253"), "fd00:2::2");
    drop(gateway);

    // Only those that are not left out, and only where endpoints of this node are asked for.
    ip("rule del iif endpoint lookup 142");
    let gateway = start(|settled, _| {
        settle(settled);
        settled.keep_clients = Some(["10.2.0.0/24".parse().expect("a network")].into());
    });
    assert_eq!(client.ask("connect 10.2.0.1:30280"), "10.1.0.1");
    assert_eq!(client.ask("send 10.2.0.1:30253"), "10.1.0.1");
    assert_eq!(client.ask("connect [fd00:2::1]:30280"), "fd00:2::2");
    drop(gateway);
    let _gateway = start(|settled, _| {
        settle(settled);
        settled.keep_clients = Some([].into());
    });
    assert_eq!(client.ask("connect 10.2.0.1:30281"), "10.1.0.1", "its policy is Cluster");
}

#[test]
fn without_the_capability_a_fault_says_so_and_endpoints_are_reached() {
    if std::env::var_os(PART).is_none() {
        // It is root of its own user namespace, but the network is another's.
        return again("client_address::without_the_capability_a_fault_says_so_and_endpoints_are_reached", "-r");
    }
    let gateway = Gateway::with(&[], |settled, _| {
        settled.keep_clients = Some([].into());
        settled.here.node = Some("here".to_owned());
    });
    let port = std::net::TcpListener::bind((gateway.ip(2), 0)).expect("free");
    let to = port.local_addr().expect("an address").port();
    std::thread::spawn(move || port.incoming().flatten().for_each(|mut stream| _ = stream.write_all(b"reached")));
    let objects = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: near}}\nspec: {{type: NodePort, externalTrafficPolicy: Local, ports: [{{name: bytes, port: 80}}]}}\n{}",
        slice("near", "IPv4", &gateway.ip(2).to_string()).replace("8080", &to.to_string())
    );
    gateway.write("objects.yaml", &objects);
    eventually("an endpoint", || gateway.ready_endpoints() > 0);
    assert!(gateway.has_fault(&["clientAddress.keep", "CAP_NET_ADMIN"]), "{}", gateway.json("faults"));
    assert_eq!(connected(&gateway.node_port().to_string()).expect("served"), "reached");
}
