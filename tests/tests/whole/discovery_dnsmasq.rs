//! The built-in discovery `dns` against a real server, dnsmasq (Debian package `dnsmasq-base`, which `make test` installs).

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use sluicegate_tests::{Gateway, SERVICE, echo, eventually, plugin};

/// A server that ends when this value is dropped.
struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts a server on port 5300 of an address, with these records.
    fn start(at: IpAddr, records: &[String]) -> Self {
        let mut command = Command::new("dnsmasq");
        // /usr/sbin is not on everybody's path.
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--port=5300"]);
        command.args(["--pid-file", "--user=", "--log-facility=-", "--local=/test/", "--edns-packet-max=512"]);
        command.arg(format!("--listen-address={at}")).args(records);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("dnsmasq: install the package dnsmasq-base, as `make test` does"))
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(gateway: &Gateway) -> SocketAddr {
    SocketAddr::new(gateway.ip(53), 5300)
}

fn policy(gateway: &Gateway, config: &str) -> String {
    let server = server(gateway);
    let capabilities = format!("allowedHosts: [\"{server}\", \"*.test\", \"_web._tcp.test\"]");
    plugin::discovered("dns", &capabilities, &format!("servers: [\"{server}\"], {config}"))
}

#[test]
fn addresses_follow_the_server_and_stay_while_it_is_away() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    let (a, b) = (gateway.ip(2), gateway.ip(3));
    let at = gateway.ip(53);
    let serving = Dnsmasq::start(at, &[format!("--host-record=web.test,{a},1")]);
    gateway.write("policy.yaml", &policy(&gateway, "name: web.test, port: 80, type: A"));
    eventually("served", || gateway.serves("a") && gateway.has_no_fault());
    drop(serving);
    eventually("told", || gateway.has_fault(&["plugin sd", "web.test"]));
    assert!(gateway.serves("a"), "the last good set");
    let serving = Dnsmasq::start(at, &[format!("--host-record=web.test,{b},1")]);
    eventually("the new one", || gateway.serves("b") && gateway.has_no_fault());
    drop(serving);
    // The server knows the zone, but not the name: its answer is NXDOMAIN.
    let _serving = Dnsmasq::start(at, &[format!("--host-record=other.test,{a},1")]);
    eventually("no such name", || gateway.addresses().is_empty());
}

#[test]
fn locations_both_families_and_an_answer_too_long_for_a_datagram() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let at = gateway.ip(53);
    let net = match gateway.ip(0) {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => panic!("tests have addresses of IPv4"),
    };
    let mut records: Vec<String> = ["--srv-host=_web._tcp.test,a.test,8081,10,5", "--srv-host=_web._tcp.test,b.test,8082,20,5"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--host-record=a.test,{},2001:db8::1,60", gateway.ip(4)), format!("--host-record=b.test,{},60", gateway.ip(5))])
        .collect();
    // 80 addresses take some 1,300 bytes, and the server sends 512 over UDP.
    records.extend((100..180).map(|last| format!("--host-record=many.test,127.{}.{}.{last},60", net[1], net[2])));
    let _serving = Dnsmasq::start(at, &records);
    gateway.write("policy.yaml", &policy(&gateway, "name: _web._tcp.test, type: SRV"));
    eventually("the lowest priority", || gateway.addresses() == [format!("{}:8081", gateway.ip(4)), "[2001:db8::1]:8081".to_owned()]);
    gateway.write("policy.yaml", &policy(&gateway, "name: many.test, port: 80"));
    eventually("all of them", || gateway.addresses().len() == 80 && gateway.has_no_fault());
}
