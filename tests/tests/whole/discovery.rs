//! Discovery over HTTP with the built-in plugin `http` and a real source. The gateway refuses what the plugin may not reach, whatever the source says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluicegate_tests::{Gateway, HOSTILE_DISCOVERY, PATIENCE, SERVICE, connect, echo, eventually, plugin};

/// What the source does with a request for a path: it writes an answer, or nothing.
type Answer = Box<dyn FnMut(&str, &mut TcpStream) -> std::io::Result<()> + Send>;

/// An HTTP server whose behaviour is swapped while it runs.
struct Source {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    /// The last request: its head and content.
    last: Arc<Mutex<(String, Vec<u8>)>>,
}

impl Source {
    fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let source = Self {
            address: listener.local_addr().expect("an address"),
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
            last: Arc::default(),
        };
        let (answer, asked, last) = (source.answer.clone(), source.asked.clone(), source.last.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked, last) = (answer.clone(), asked.clone(), last.clone());
                std::thread::spawn(move || -> std::io::Result<()> {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let mut reader = BufReader::new(stream.try_clone()?);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head)? == 0 {
                            return Ok(());
                        }
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    let mut content = vec![0; length.unwrap_or(0)];
                    reader.read_exact(&mut content)?;
                    *last.lock().expect("not poisoned") = (head.clone(), content);
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let mut stream = stream;
                    (answer.lock().expect("not poisoned"))(&path, &mut stream)
                });
            }
        });
        source
    }

    fn does(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn json(body: String) -> Answer {
    Box::new(move |_, to| {
        let length = body.len();
        write!(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
    })
}

fn redirect(to: String) -> Answer {
    Box::new(move |_, stream| write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"))
}

/// A `Plugin` object for the built-in plugin, and a policy that uses it.
fn policy(url: &str, hosts: &str, more: &str) -> String {
    plugin::discovered("http", &format!("allowedHosts: [{hosts}]"), &format!("url: \"{url}\", refreshInterval: 1s{more}"))
}

#[test]
fn endpoints_follow_a_source_and_stay_while_it_is_away() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    let targets = |last: u8| format!(r#"[{{"targets": ["{}:80"], "labels": {{"rack": "r1"}}}}]"#, gateway.ip(last));
    let source = Source::new(json(targets(2)));
    let url = format!("http://{}/targets", source.address);
    gateway.write("policy.yaml", &policy(&url, &format!("\"{}\"", source.address), ""));
    eventually("the source's endpoint", || gateway.ready_endpoints() == 1);
    eventually("served", || connect(gateway.node_port()).is_ok_and(|(name, _)| name == "a"));
    source.does(json(targets(3)));
    eventually("the other", || connect(gateway.node_port()).is_ok_and(|(name, _)| name == "b"));

    source.does(Box::new(|_, to| write!(to, "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")));
    eventually("told", || gateway.has_fault(&["plugin sd", &url, "answered 503, and 200 is wanted"]));
    assert_eq!(connect(gateway.node_port()).expect("served").0, "b", "the last good set stays");
    source.does(Box::new(|_, _| Ok(())));
    eventually("told", || gateway.has_fault(&["plugin sd", "cut the connection"]));
    assert_eq!(connect(gateway.node_port()).expect("served").0, "b");
    source.does(json(targets(2)));
    eventually("recovered", || connect(gateway.node_port()).is_ok_and(|(name, _)| name == "a") && gateway.has_no_fault());
}

#[test]
fn a_host_that_is_not_allowed_is_not_asked() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let source = Source::new(json("[]".to_owned()));
    let url = format!("http://{}/targets", source.address);
    for hosts in ["", "\"127.0.0.1:1\"", "\"*.example\"", "\"127.0.0.2\""] {
        gateway.write("policy.yaml", &policy(&url, hosts, ""));
        eventually(hosts, || {
            gateway.has_fault(&["plugin sd", &format!("{} is not among the plugin's capabilities.allowedHosts", source.address)])
        });
    }
    // The name is not allowed, though its address is.
    let by_name = format!("http://localhost:{}/targets", source.address.port());
    gateway.write("policy.yaml", &policy(&by_name, "\"127.0.0.1\"", ""));
    eventually("by name", || gateway.has_fault(&[&format!("localhost:{} is not among", source.address.port())]));
    assert_eq!(source.asked(), 0);
    gateway.write("policy.yaml", &policy(&by_name, "localhost", ""));
    eventually("allowed", || source.asked() > 0 && gateway.has_no_fault());
}

#[test]
fn a_redirect_leads_only_to_hosts_that_are_allowed_and_never_to_the_admin_api() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let admin = gateway.admin();
    let other = Source::new(json("[]".to_owned()));
    let source = Source::new(redirect(format!("http://{}/x", other.address)));
    let url = format!("http://{}/targets", source.address);
    gateway.write("policy.yaml", &policy(&url, &format!("\"{}\", localhost", source.address), ""));
    eventually("refused", || gateway.has_fault(&[&format!("{} is not among", other.address)]));
    assert_eq!(other.asked(), 0);

    // `localhost` is allowed, and resolves to what the admin API listens on.
    source.does(redirect(format!("http://localhost:{}/api/v1/faults", admin.port())));
    let prohibited = format!("localhost:{} resolves to an address that must be named itself", admin.port());
    eventually("prohibited", || gateway.has_fault(&[&prohibited]));

    source.does(Box::new(|_, to| write!(to, "HTTP/1.1 302 Found\r\nLocation: /targets\r\nContent-Length: 0\r\n\r\n")));
    eventually("a loop", || gateway.has_fault(&["more than 5 redirects"]));
    source.does(redirect(format!("http://localhost:{}/x", other.address.port())));
    eventually("followed", || other.asked() > 0 && gateway.has_no_fault());
}

#[test]
fn slow_and_huge_answers_are_cut_and_other_services_do_not_wait_for_them() {
    let other = SERVICE.split("---").nth(1).expect("the Service").replace("nginx-svc", "other-svc");
    let gateway = Gateway::new(&[("svc.yaml", SERVICE), ("other.yaml", &other)]);
    let source = Source::new(Box::new(|_, _| Ok(())));
    let url = format!("http://{}/targets", source.address);
    let hosts = format!("\"{}\"", source.address);
    // The source reads the request and says nothing; then it sends half an answer; then a little at a time.
    let held: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let keep = held.clone();
    source.does(Box::new(move |_, to| {
        keep.lock().expect("not poisoned").push(to.try_clone()?);
        Ok(())
    }));
    let begun = Instant::now();
    gateway.write("policy.yaml", &policy(&url, &hosts, ", timeout: 500ms"));
    eventually("silence", || gateway.has_fault(&[&url, "the response did not come in time"]));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    eventually("the other service has its pod", || gateway.ready_endpoints() == 1);

    let keep = held.clone();
    source.does(Box::new(move |_, to| {
        keep.lock().expect("not poisoned").push(to.try_clone()?);
        write!(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[")
    }));
    let asked = source.asked();
    eventually("half an answer", || source.asked() > asked + 1 && gateway.has_fault(&[&url, "did not come in time"]));

    source.does(Box::new(|_, to| {
        write!(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let piece = [b' '; 65536];
        for _ in 0..1024 {
            write!(to, "10000\r\n")?;
            to.write_all(&piece)?;
            to.write_all(b"\r\n")?;
        }
        Ok(())
    }));
    eventually("huge", || gateway.has_fault(&[&url, "the response is larger than 4194304 bytes"]));

    source.does(Box::new(|_, to| {
        write!(to, "HTTP/1.1 200 OK\r\n")?;
        for i in 0..10_000 {
            write!(to, "x-{i}: {i}\r\n")?;
        }
        write!(to, "\r\n")
    }));
    eventually("a huge head", || gateway.has_fault(&[&url, "does not answer in HTTP/1.1"]));
    assert_eq!(gateway.plugin("sd")["state"], "degraded");
    assert_eq!(gateway.plugin("sd")["generation"]["failures"], 0, "it is the source that is faulty");
    source.does(json("[]".to_owned()));
    eventually("recovered", || gateway.has_no_fault() && gateway.plugin("sd")["state"] == "active");
}

#[test]
fn names_of_targets_are_looked_up_if_they_are_allowed() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let source = Source::new(json(r#"[{"targets": ["localhost:4711", "127.0.0.3:80"]}]"#.to_owned()));
    let url = format!("http://{}/targets", source.address);
    gateway.write("policy.yaml", &policy(&url, "127.0.0.1", ""));
    eventually("refused", || {
        gateway.has_fault(&["target `localhost:4711`: localhost is not among the plugin's capabilities.allowedHosts"])
    });
    // Any port will do: it is the name that is looked up.
    gateway.write("policy.yaml", &policy(&url, "127.0.0.1, \"localhost:1\"", ""));
    let found = |wanted: &str| gateway.json("endpoints").as_array().is_some_and(|all| all.iter().any(|e| e["address"] == wanted));
    eventually("looked up", || (found("127.0.0.1:4711") || found("[::1]:4711")) && found("127.0.0.3:80") && gateway.has_no_fault());
}

#[test]
fn a_plugin_of_ones_own_posts_and_tells_the_time_and_cannot_forge_a_request() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let source = Source::new(Box::new(|_, to| write!(to, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n127.0.0.7")));
    std::fs::write(gateway.path("mine.wasm"), HOSTILE_DISCOVERY).expect("written");
    let of = |mode: &str| {
        let url = format!("http://{}/", source.address);
        let config = format!("config: {{mode: {mode}, url: \"{url}\"}}");
        let text = policy(&url, &format!("\"{}\"", source.address), "").replace("{builtin: http}", "{file: mine.wasm}");
        let (before, _) = text.split_once("config: ").expect("a configuration");
        format!("{before}{config}}}\n")
    };
    gateway.write("policy.yaml", &of("post"));
    let endpoints = || gateway.json("endpoints");
    eventually("answered", || endpoints().as_array().is_some_and(|all| all.len() == 1 && all[0]["address"] == "127.0.0.7:9"));
    let (head, content) = source.last.lock().expect("not poisoned").clone();
    assert!(head.starts_with("POST / HTTP/1.1\r\n") && content == vec![b'x'; 100_000], "{head}");
    assert!(head.contains(&format!("host: {}\r\n", source.address)), "{head}");
    let days = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() / 86_400;
    assert!((days - 1..=days).any(|days| head.contains(&format!("x-days: {days}\r\n"))), "{head}");

    let asked = source.asked();
    gateway.write("policy.yaml", &of("forbidden"));
    eventually("refused", || gateway.has_fault(&["\"CONNECT http://", "a field that the gateway sets itself"]));
    assert_eq!(source.asked(), asked, "nothing was sent");
}
