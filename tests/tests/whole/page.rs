//! The page at the admin address, in a real Chromium (`tests/page/page.py`, which Playwright drives), and what the API does for it: the stream, requests explained by what
//! is served, and who may ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_tests::{Gateway, PATIENCE, eventually, http, replace};

/// A rule whose name would be markup, and turns the direction of what follows.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";

fn objects(ip: IpAddr) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: sluicegate, addresses: [{{value: {ip}}}], listeners: [{{name: web, port: 8081, protocol: HTTP}}]}}
---
apiVersion: sluicegate.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  router:
    plugin: rules
    config:
      rules:
      - {{name: \"{HOSTILE}\\u202e\", hostnames: [shop.example], backendRefs: [{{name: web, port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: nginx}}, ports: [{{name: http, port: 80, appProtocol: http}}]}}
---
apiVersion: sluicegate.dev/v1alpha1
kind: Plugin
metadata: {{name: mine}}
spec: {{kind: balancer, source: {{file: mine.wasm}}}}
---
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {{name: web}}
spec: {{targetRefs: [{{kind: Service, name: web}}], loadBalancer: {{plugin: mine}}}}
"
    )
}

/// A gateway with a route, sixty Services besides the one that it leads to, two generations of a plugin, and a fault.
fn gateway() -> Gateway {
    let many: Vec<String> = (0..60)
        .map(|n| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: many-{n:02}}}\nspec: {{selector: {{app: none}}, ports: [{{port: 80}}]}}\n"
            )
        })
        .collect();
    let hostile = "apiVersion: v1\nkind: Service\nmetadata: {name: \"<b>bold</b>\"}\nspec: {ports: [{port: 80}]}\n";
    let gateway = Gateway::new(&[("many.yaml", &many.join("---\n")), ("hostile.yaml", hostile)]);
    let wasm = |name: &str| sluicegate_plugins::builtin(name).expect("built in").wasm();
    std::fs::write(gateway.path("mine.wasm"), wasm("random")).expect("written");
    http(gateway.ip(2), "a");
    gateway.write("a.yaml", &gateway.pod("a", 2, true));
    gateway.write("edge.yaml", &objects(gateway.ip(1)));
    eventually("generation 1", || gateway.plugin("mine")["generation"]["number"] == 1 && gateway.ready_endpoints() == 1);
    replace(&gateway.path("mine.wasm"), &wasm("round-robin"));
    eventually("generation 2", || gateway.plugin("mine")["generation"]["number"] == 2);
    gateway
}

/// Sends requests over one connection after another until it is dropped.
struct Traffic(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Traffic {
    fn to(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let sent = exchange(address, "GET /api/x HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
                assert!(sent.starts_with("HTTP/1.1 200"), "{sent}");
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            thread.join().expect("every request was answered");
        }
    }
}

/// Sends bytes and reads all that is answered.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// The Python that has Playwright.
fn python() -> PathBuf {
    let products = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder");
    let python = products.join("tools/python/bin/python");
    assert!(python.exists(), "{} is missing, a Python with Playwright: run `make test-tools`", python.display());
    python
}

#[test]
fn a_browser_shows_it_and_gives_orders() {
    let gateway = gateway();
    let edge = SocketAddr::new(gateway.ip(1), 8081);
    let traffic = Traffic::to(edge);
    let expected = json!({
        "endpoint": format!("{}:80", gateway.ip(2)), "port": 8081, "ports": 61, "hostile": HOSTILE, "hostileFault": "<b>bold</b>", "fault": "<b>bold</b>",
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/page/page.py");
    let base = format!("http://{}", gateway.admin());
    let played = Command::new(python()).args([script, &base, &expected.to_string()]).output().expect("played");
    let (told, failed) = (String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&played.stderr));
    assert!(played.status.success(), "{told}\n{failed}");
    assert_eq!(told.lines().count(), 9, "{told}");
    drop(traffic);
}

/// A stream that is read event by event.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(gateway: &Gateway, query: &str) -> Self {
        let stream = TcpStream::connect_timeout(&gateway.admin(), PATIENCE).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        write!(&stream, "GET /api/v1/live?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").expect("sent");
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }

    fn next(&mut self) -> Value {
        loop {
            if let Some(event) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(event).expect("JSON");
            }
        }
    }
}

#[test]
fn a_viewer_is_told_each_second_and_there_are_not_too_many() {
    let gateway = gateway();
    let mut events = Events::of(&gateway, "view=services&q=web");
    let (first, second) = (events.next(), events.next());
    assert_eq!((&first["view"]["rows"][0]["name"], &first["view"]["found"]), (&json!("web"), &json!(1)));
    let apart = second["at"].as_u64().expect("a time") - first["at"].as_u64().expect("a time");
    assert!((500..5_000).contains(&apart), "{apart} ms");
    let mut others: Vec<Events> = (0..15).map(|_| Events::of(&gateway, "view=overview")).collect();
    let at: Vec<Value> = others.iter_mut().map(|one| one.next()["at"].clone()).collect();
    assert!(at.windows(2).filter(|pair| pair[0] == pair[1]).count() >= 10, "one sample serves all: {at:?}");
    assert!(Events::of(&gateway, "view=none").line().starts_with("HTTP/1.1 503"), "the seventeenth");
    others.pop();
    eventually("there is room again", || Events::of(&gateway, "view=none").line().starts_with("HTTP/1.1 200"));
    for wrong in ["view=everything", "sort=size", "only=good", "more=1"] {
        eventually("refused", || Events::of(&gateway, wrong).line().starts_with("HTTP/1.1 400"));
    }
}

#[test]
fn a_request_is_explained_by_what_is_served() {
    let gateway = gateway();
    let explained = |query: &str| gateway.json(&format!("explain?{query}"));
    let says = |explained: &Value, words: &str| {
        explained["lines"]
            .as_array()
            .is_some_and(|lines| lines.iter().any(|line| line["text"].as_str().is_some_and(|text| text.contains(words))))
    };
    let shop = explained("url=http://shop.example/api/x&port=8081");
    for words in ["listener web of Gateway default/edge", "default/web:80", "edge.yaml:15:9", &format!("endpoint {}:80", gateway.ip(2))] {
        assert!(says(&shop, words), "{words} in {shop:#}");
    }
    assert_eq!(shop["end"], Value::Null);
    let nobody = explained("url=http://other.example/&port=8081");
    assert!(nobody["end"].as_str().is_some_and(|end| end.starts_with("404")), "{nobody:#}");
    // What changes counts from the moment in which it serves.
    gateway.write("a.yaml", &gateway.pod("a", 2, false));
    eventually("not ready", || gateway.ready_endpoints() == 0);
    let shop = explained("url=http://shop.example/&port=8081");
    assert!(shop["end"].as_str().is_some_and(|end| end.starts_with("503 no-endpoint")), "{shop:#}");
    assert!(gateway.get("/api/v1/explain?url=/&port=8081&headers=nonsense").is_none(), "no field has no colon");
}

#[test]
fn a_gateway_is_drained_and_resumed_by_order() {
    let gateway = gateway();
    let traffic = Traffic::to(SocketAddr::new(gateway.ip(1), 8081));
    let order = |what: &str, field: &str| {
        let request = format!("POST /api/v1/{what} HTTP/1.1\r\nHost: 127.0.0.1\r\n{field}Content-Length: 0\r\nConnection: close\r\n\r\n");
        exchange(gateway.admin(), &request).split(' ').nth(1).expect("a status").to_owned()
    };
    assert_eq!((order("drain", "").as_str(), gateway.readiness().0), ("403", 200), "a page in a browser could send this");
    assert_eq!(order("drain", "x-sluicegate-request: 1\r\n"), "200");
    let (status, text) = gateway.readiness();
    assert!(status == 503 && text.starts_with("drained by an operator"), "{status} {text}");
    assert_eq!((order("resume", "x-sluicegate-request: 1\r\n").as_str(), gateway.readiness().0), ("200", 200));
    // Nothing was refused meanwhile.
    drop(traffic);
}

#[test]
fn names_that_lead_here_from_elsewhere_are_refused() {
    let gateway = gateway();
    let asked = |method: &str, path: &str, fields: &str| {
        exchange(gateway.admin(), &format!("{method} {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"))
    };
    for path in ["/", "/api/v1/services", "/readyz", "/page/app.js"] {
        assert!(asked("GET", path, "Host: attacker.example:9901\r\n").starts_with("HTTP/1.1 421"), "{path}");
        assert!(asked("GET", path, "Host: localhost:9901\r\n").starts_with("HTTP/1.1 200"), "{path}");
    }
    let cross = "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";
    assert!(asked("GET", "/api/v1/services", cross).starts_with("HTTP/1.1 403"));
    let page = asked("GET", "/", "Host: 127.0.0.1\r\n").to_lowercase();
    for field in
        ["content-security-policy: default-src 'none'; script-src 'self'", "x-frame-options: deny", "x-content-type-options: nosniff"]
    {
        assert!(page.contains(field), "{page}");
    }
    assert!(!page.contains("unsafe"), "{page}");
}
