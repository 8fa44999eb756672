//! Discovery by Consul's catalogue: the built-in plugin `consul` against a server that speaks the protocol of blocking queries as Consul's
//! documentation describes it ("Blocking queries", API reference): index, waiting, resets of the index, and failures. There is no Debian package of
//! Consul.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sluicegate_tests::{Gateway, PATIENCE, SERVICE, echo, eventually, plugin};

/// What the catalogue contains, and how it answers.
#[derive(Default)]
struct State {
    index: u64,
    services: BTreeMap<String, String>,
    /// If set, everything is answered with this status.
    broken: Option<u16>,
    /// The paths that were asked for.
    asked: Vec<String>,
    /// How many queries wait for a change.
    waiting: usize,
    /// How many queries waited in vain.
    timed_out: usize,
}

#[derive(Clone)]
struct Consul {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Consul {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let state = State { index: 100, ..State::default() };
        let consul = Self { address: listener.local_addr().expect("an address"), state: Arc::new((Mutex::new(state), Condvar::new())) };
        let serving = consul.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let consul = serving.clone();
                std::thread::spawn(move || consul.serve(stream));
            }
        });
        consul
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone()?);
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let parameter = |name: &str| path.split(['?', '&']).find_map(|p| p.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        let index: u64 = parameter("index").and_then(|index| index.parse().ok()).unwrap_or(0);
        let wait = parameter("wait").and_then(|wait| wait.strip_suffix("ms")?.parse().ok()).map_or(PATIENCE, Duration::from_millis);
        let name = path.trim_start_matches("/v1/health/service/").split('?').next().unwrap_or_default().to_owned();
        let (lock, changed) = &*self.state;
        let mut state = lock.lock().expect("not poisoned");
        state.asked.push(path);
        // A query waits while nothing is newer than its index. It also waits if its index is larger than the server's, which is why a
        // client must reset it.
        let until = Instant::now() + wait;
        state.waiting += 1;
        while index > 0 && state.index <= index && state.broken.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.timed_out += 1;
                break;
            }
            state = changed.wait_timeout(state, left).expect("not poisoned").0;
        }
        state.waiting -= 1;
        let (status, body) = match state.broken {
            Some(status) => (status, "No cluster leader".to_owned()),
            None => (200, state.services.get(&name).cloned().unwrap_or_else(|| "[]".to_owned())),
        };
        let index = state.index;
        drop(state);
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nX-Consul-Index: {index}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.0.lock().expect("not poisoned"));
        self.state.1.notify_all();
    }

    fn set(&self, service: &str, instances: &[(IpAddr, &str)]) {
        let instance = |(ip, status): &(IpAddr, &str)| {
            format!(
                r#"{{"Node": {{"Node": "n1", "Address": "127.0.0.1"}}, "Service": {{"ID": "{ip}", "Service": "{service}", "Address": "{ip}", "Port": 80, "Meta": {{}}, "Weights": {{"Passing": 1, "Warning": 1}}}}, "Checks": [{{"CheckID": "c", "Status": "{status}"}}]}}"#
            )
        };
        let list = format!("[{}]", instances.iter().map(instance).collect::<Vec<_>>().join(","));
        self.change(|state| {
            state.index += 1;
            state.services.insert(service.to_owned(), list);
        });
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.0.lock().expect("not poisoned"))
    }
}

fn policy(consul: &Consul, target: &str, service: &str, more: &str) -> String {
    let address = consul.address;
    plugin::discovered_by_sd(target, &format!("url: \"http://{address}\", service: {service}{more}"))
}

#[test]
fn a_change_in_the_catalogue_is_served_at_once_and_failures_keep_the_last_good_set() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    for (name, last) in [("a", 2), ("b", 3)] {
        echo(gateway.ip(last), name);
    }
    let consul = Consul::start();
    consul.set("web", &[(gateway.ip(2), "passing"), (gateway.ip(3), "critical")]);
    gateway.write("plugin.yaml", &plugin::discovering("consul", &format!("allowedHosts: [\"{}\"]", consul.address)));
    gateway.write("policy.yaml", &policy(&consul, "nginx-svc", "web", ""));
    eventually("the passing one", || gateway.ready_endpoints() == 1 && gateway.serves("a"));
    eventually("a question waits", || consul.look(|state| state.waiting == 1));
    let asked = consul.look(|state| state.asked.len());
    consul.set("web", &[(gateway.ip(3), "passing")]);
    let begun = Instant::now();
    eventually("the other", || gateway.serves("b"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    eventually("it waits again", || consul.look(|state| state.waiting == 1));
    let more = consul.look(|state| state.asked.len()) - asked;
    assert!(more <= 2, "{more} questions for one change");

    consul.change(|state| state.broken = Some(500));
    eventually("told", || gateway.has_fault(&["plugin sd", "service `web`: answered 500: No cluster leader"]));
    assert!(gateway.serves("b"), "the last good set stays");
    // The cluster comes back from a backup, and its index is far behind.
    consul.change(|state| (state.broken, state.index) = (None, 5));
    eventually("recovered", || !gateway.has_fault(&["plugin sd"]));
    consul.set("web", &[(gateway.ip(2), "passing")]);
    eventually("followed again", || gateway.serves("a"));
}

#[test]
fn an_index_that_goes_backwards_is_reset_and_questions_that_time_out_are_asked_again() {
    let gateway = Gateway::new(&[("svc.yaml", SERVICE)]);
    let consul = Consul::start();
    consul.set("web", &[(gateway.ip(2), "passing")]);
    gateway.write("plugin.yaml", &plugin::discovering("consul", &format!("allowedHosts: [\"{}\"]", consul.address)));
    gateway.write("policy.yaml", &policy(&consul, "nginx-svc", "web", ", wait: 1s"));
    eventually("found", || gateway.ready_endpoints() == 1);
    // If the index goes backwards while a query waits, the query is answered with the smaller index when its time is over.
    consul.change(|state| state.index = 3);
    eventually("the question timed out", || consul.look(|state| state.timed_out >= 1));
    eventually("asked without an index", || consul.look(|state| state.asked.iter().skip(1).any(|path| !path.contains("index="))));
    eventually("asked with the new one", || consul.look(|state| state.asked.iter().any(|path| path.contains("index=3&"))));
    let timed_out = consul.look(|state| state.timed_out);
    eventually("asked again and again", || consul.look(|state| state.timed_out >= timed_out + 2));
    assert_eq!(gateway.ready_endpoints(), 1);
    assert!(gateway.json("faults").as_array().is_some_and(Vec::is_empty));
    consul.set("web", &[(gateway.ip(2), "passing"), (gateway.ip(3), "passing")]);
    eventually("both", || gateway.ready_endpoints() == 2);
}

#[test]
fn services_wait_for_their_own_changes_only() {
    let one = SERVICE.split("---").nth(1).expect("the Service");
    let named = |i: usize| one.replace("nginx-svc", &format!("svc-{i}")).replace("nodePort", "# nodePort");
    let gateway = Gateway::new(&[]);
    let consul = Consul::start();
    gateway.write("plugin.yaml", &plugin::discovering("consul", &format!("allowedHosts: [\"{}\"]", consul.address)));
    for i in 0..20 {
        consul.set(&format!("web-{i}"), &[(gateway.ip(2), "passing")]);
        gateway.write(&format!("svc-{i}.yaml"), &named(i));
        gateway.write(&format!("policy-{i}.yaml"), &policy(&consul, &format!("svc-{i}"), &format!("web-{i}"), ""));
    }
    eventually("all found", || gateway.ready_endpoints() == 20);
    eventually("all wait", || consul.look(|state| state.waiting == 20));
    let begun = Instant::now();
    consul.set("web-13", &[(gateway.ip(2), "passing"), (gateway.ip(3), "passing")]);
    eventually("one has two", || gateway.ready_endpoints() == 21);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // The query of a Service ends when the Service is removed.
    std::fs::remove_file(gateway.path("svc-13.yaml")).expect("removed");
    eventually("one less", || gateway.ready_endpoints() == 19);
}
