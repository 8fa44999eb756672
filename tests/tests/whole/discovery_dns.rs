//! Discovery by DNS: the built-in plugin `dns`, through the gateway's resolver, against a server made of another library (`simple-dns`): times to
//! live, SRV, truncated answers, aliases, names that are missing, and servers that fail or are silent.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use simple_dns::rdata::{A, AAAA, CNAME, RData, SOA, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use sluicegate_tests::{Gateway, SERVICE, echo, eventually, plugin};

#[derive(Clone, Copy, Default, PartialEq)]
enum Mode {
    #[default]
    Answers,
    Fails,
    Silent,
    /// Over UDP it says that the answer is too long, so that the question must be asked over TCP.
    Truncates,
}

#[derive(Clone)]
enum Entry {
    Address(IpAddr),
    Location(u16, u16, u16, &'static str),
    Alias(&'static str),
}

#[derive(Default)]
struct Zone {
    mode: Mode,
    records: HashMap<&'static str, (u32, Vec<Entry>)>,
    /// The questions, and when they came.
    asked: Vec<(String, Instant)>,
    over_tcp: usize,
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    fn start() -> Self {
        // The port must be free for both protocols.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port");
        let server = Self { address: udp.local_addr().expect("an address"), zone: Arc::default() };
        let own = server.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = own.answer(&buffer[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let own = server.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || -> std::io::Result<()> {
                    loop {
                        let mut length = [0; 2];
                        stream.read_exact(&mut length)?;
                        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                        stream.read_exact(&mut question)?;
                        if let Some(answer) = own.answer(&question, true) {
                            let length = u16::try_from(answer.len()).expect("short enough");
                            stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
                        }
                    }
                });
            }
        });
        server
    }

    fn answer(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Packet::parse(question).ok()?;
        let asked = query.questions.first()?;
        let mut zone = self.zone.lock().expect("not poisoned");
        zone.asked.push((format!("{} {:?}", asked.qname, asked.qtype), Instant::now()));
        zone.over_tcp += usize::from(tcp);
        if zone.mode == Mode::Silent {
            return None;
        }
        let mut reply = Packet::new_reply(query.id());
        reply.questions.push(asked.clone());
        if zone.mode == Mode::Fails {
            *reply.rcode_mut() = RCODE::ServerFailure;
            return reply.build_bytes_vec().ok();
        }
        if zone.mode == Mode::Truncates && !tcp {
            reply.set_flags(PacketFlag::TRUNCATION);
            return reply.build_bytes_vec().ok();
        }
        let mut name = asked.qname.to_string();
        let mut known = false;
        while let Some((ttl, entries)) = zone.records.get(name.as_str()) {
            known = true;
            let mut alias = None;
            for entry in entries {
                let rdata = match (entry, asked.qtype) {
                    (Entry::Alias(to), _) => {
                        alias = Some((*to).to_owned());
                        RData::CNAME(CNAME(Name::new_unchecked(to)))
                    }
                    (Entry::Address(IpAddr::V4(ip)), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: (*ip).into() }),
                    (Entry::Address(IpAddr::V6(ip)), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA { address: (*ip).into() }),
                    (Entry::Location(priority, weight, port, target), QTYPE::TYPE(TYPE::SRV)) => {
                        RData::SRV(SRV { priority: *priority, weight: *weight, port: *port, target: Name::new_unchecked(target) })
                    }
                    _ => continue,
                };
                reply.answers.push(ResourceRecord::new(Name::new_unchecked(&name).into_owned(), CLASS::IN, *ttl, rdata));
            }
            match alias {
                Some(to) => name = to,
                None => break,
            }
        }
        if reply.answers.is_empty() {
            if !known {
                *reply.rcode_mut() = RCODE::NameError;
            }
            let (mname, rname) = (Name::new_unchecked("ns.test"), Name::new_unchecked("who.test"));
            let soa = SOA { mname, rname, serial: 1, refresh: 60, retry: 60, expire: 60, minimum: 2 };
            reply.name_servers.push(ResourceRecord::new(Name::new_unchecked("test"), CLASS::IN, 60, RData::SOA(soa)));
        }
        reply.build_bytes_vec().ok()
    }

    fn set(&self, name: &'static str, ttl: u32, entries: &[Entry]) {
        self.change(|zone| drop(zone.records.insert(name, (ttl, entries.to_vec()))));
    }

    fn change(&self, change: impl FnOnce(&mut Zone)) {
        change(&mut self.zone.lock().expect("not poisoned"));
    }

    /// When the questions of this name came.
    fn asked(&self, question: &str) -> Vec<Instant> {
        let zone = self.zone.lock().expect("not poisoned");
        zone.asked.iter().filter(|(asked, _)| asked.starts_with(question)).map(|(_, at)| *at).collect()
    }
}

fn policy(server: &Server, allowed: &str, config: &str) -> String {
    let address = server.address;
    plugin::discovered("dns", &format!("allowedHosts: [{allowed}]"), &format!("servers: [\"{address}\"], {config}"))
}

fn allowed(server: &Server, more: &str) -> String {
    format!("\"{}\", {more}", server.address)
}

#[test]
fn addresses_are_asked_for_again_when_their_time_is_over_and_not_before() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    let server = Server::start();
    server.set("web.test", 2, &[Entry::Address(gateway.ip(2))]);
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "web.test"), "name: web.test, port: 80, type: A"));
    eventually("the first", || gateway.serves("a"));
    server.set("web.test", 3600, &[Entry::Address(gateway.ip(3))]);
    eventually("the next", || gateway.serves("b"));
    let asked = server.asked("web.test");
    let pause = asked[1] - asked[0];
    assert!(
        pause >= Duration::from_millis(1_900) && pause < Duration::from_secs(5),
        "{pause:?} between questions with a time to live of 2 s"
    );
    // The answer for `web.test` holds for an hour: it is not asked for while another name is asked for again and again.
    let before = server.asked("web.test").len();
    let other = SERVICE.split("---").nth(1).expect("the Service").replace("nginx-svc", "other-svc");
    server.set("tick.test", 1, &[Entry::Address(gateway.ip(2))]);
    let text = policy(&server, &allowed(&server, "web.test, tick.test"), "name: web.test, port: 80, type: A");
    let second = text.rsplit_once("---").expect("two objects").1.replace("nginx-svc", "other-svc").replace("web.test", "tick.test");
    gateway.write("other.yaml", &format!("{other}---{}", second.replace("name: p}", "name: other}")));
    // Another capability makes another generation, which asks once.
    gateway.write("policy.yaml", &text);
    eventually("the other name is asked for", || server.asked("tick.test").len() >= 4);
    let more = server.asked("web.test").len() - before;
    assert!(more <= 1, "asked {more} times more");
}

#[test]
fn failing_and_silent_servers_leave_the_last_good_set_and_a_missing_name_does_not() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    echo(gateway.ip(2), "a");
    let server = Server::start();
    server.set("web.test", 1, &[Entry::Address(gateway.ip(2))]);
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "web.test"), "name: web.test, port: 80"));
    eventually("served", || gateway.serves("a"));
    server.change(|zone| zone.mode = Mode::Fails);
    eventually("told", || gateway.has_fault(&["plugin sd", "web.test: the server says SERVFAIL"]));
    assert!(gateway.serves("a"), "the last good set stays");
    server.change(|zone| zone.mode = Mode::Silent);
    eventually("told", || gateway.has_fault(&["plugin sd", "web.test: no server answered in time"]));
    assert!(gateway.serves("a"));
    server.change(|zone| zone.mode = Mode::Answers);
    eventually("recovered", || gateway.has_no_fault() && gateway.serves("a"));
    // That a name does not exist is an answer, which holds for the two seconds that the zone says.
    server.change(|zone| zone.records.clear());
    eventually("no endpoints", || gateway.addresses().is_empty() && gateway.has_no_fault());
    server.set("web.test", 1, &[Entry::Address(gateway.ip(2))]);
    eventually("back", || gateway.serves("a"));
}

#[test]
fn srv_records_aliases_and_truncated_answers() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let server = Server::start();
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    server.set("_web._tcp.test", 60, &[Entry::Location(10, 5, 8081, "a.test"), Entry::Location(20, 5, 8082, "b.test")]);
    server.set("a.test", 60, &[Entry::Alias("real.test")]);
    server.set("real.test", 60, &[Entry::Address(gateway.ip(4)), Entry::Address(v6)]);
    server.set("b.test", 60, &[Entry::Address(gateway.ip(5))]);
    server.change(|zone| zone.mode = Mode::Truncates);
    let config = "name: _web._tcp.test, type: SRV";
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "_web._tcp.test, a.test"), config));
    eventually("the lowest priority", || gateway.addresses() == [format!("{}:8081", gateway.ip(4)), "[2001:db8::1]:8081".to_owned()]);
    assert!(server.zone.lock().expect("not poisoned").over_tcp >= 3, "each answer was too long for UDP");
    // The target is a name that may not be looked up.
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "_web._tcp.test, a.test"), &format!("{config}, priorities: All")));
    eventually("refused", || {
        gateway.has_fault(&["plugin sd", "b.test: the name or the server is not among the plugin's capabilities.allowedHosts"])
    });
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "\"*.test\", _web._tcp.test"), &format!("{config}, priorities: All")));
    eventually("all priorities", || gateway.addresses().contains(&format!("{}:8082", gateway.ip(5))) && gateway.has_no_fault());
}

#[test]
fn neither_names_nor_servers_that_are_not_allowed_are_asked() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let server = Server::start();
    let denied = "web.test: the name or the server is not among the plugin's capabilities.allowedHosts";
    let config = "name: web.test, port: 80";
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "other.test"), config));
    eventually("the name", || gateway.has_fault(&["plugin sd", denied]));
    gateway.write("policy.yaml", &policy(&server, "web.test", config));
    eventually("the server", || gateway.has_fault(&["plugin sd", denied]));
    gateway.write("policy.yaml", &policy(&server, "web.test, \"127.0.0.1:1\"", config));
    eventually("its port", || gateway.has_fault(&["plugin sd", denied]));
    assert!(server.asked("").is_empty());
    server.set("web.test", 60, &[Entry::Address(gateway.ip(2))]);
    gateway.write("policy.yaml", &policy(&server, &allowed(&server, "web.test"), config));
    eventually("allowed", || gateway.addresses().len() == 1 && gateway.has_no_fault());
}
