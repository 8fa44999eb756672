//! What the tests have in common: namespaces, Services and Gateways like those of the conformance suite's base, on loopback addresses of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::Settled;
use sluicegate_tests::{Gateway, PATIENCE, echo, eventually};

/// A gateway with backends. In manifests `$1` to `$9` stand for addresses that Gateways may have.
pub(super) struct World {
    pub(super) gateway: Gateway,
    /// The heads of all requests that backends have seen, each behind its backend's name.
    pub(super) seen: Arc<Mutex<Vec<(String, String)>>>,
}

/// Backends: the Service's namespace and name.
const BACKENDS: [(&str, &str); 6] =
    [("infra", "ib1"), ("infra", "ib2"), ("infra", "ib3"), ("app", "app-v1"), ("app", "app-v2"), ("web", "web")];
const FIRST_BACKEND: u8 = 11;
const FIRST_GATEWAY: u8 = 20;
/// Backends that send their name and echo what comes, by TCP, and answer a datagram with their name.
const PLAIN: [(&str, &str); 4] = [("infra", "t1"), ("infra", "t2"), ("infra", "t3"), ("web", "tw")];
const FIRST_PLAIN: u8 = 40;
/// Backends that speak HTTP/2 with prior knowledge only.
const GRPC: [(&str, &str); 3] = [("infra", "g1"), ("infra", "g2"), ("infra", "g3")];
const FIRST_GRPC: u8 = 50;

/// The Gateways of the base: for routes of the same namespace, of all, and of those that a selector takes.
const BASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: infra, labels: {of: infra}}
---
apiVersion: v1
kind: Namespace
metadata: {name: app, labels: {of: backend}}
---
apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {of: backend}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: conformance}
spec: {controllerName: sluicegate.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: same-namespace, namespace: infra}
spec:
  gatewayClassName: conformance
  addresses: [{value: $1}]
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Same}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: all-namespaces, namespace: infra}
spec:
  gatewayClassName: conformance
  addresses: [{value: $2}]
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: backend-namespaces, namespace: infra}
spec:
  gatewayClassName: conformance
  addresses: [{value: $3}]
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {of: backend}}}}}
";

impl World {
    /// The base, and the manifests that a test needs besides.
    pub(super) fn new(manifests: &str) -> Self {
        Self::of(Gateway::new(&[]), manifests)
    }

    /// The base, in a gateway that has two addresses to give to Gateways.
    pub(super) fn with_pool(manifests: &str) -> Self {
        let pool = |settled: &mut Settled, [b, c]: [u8; 2]| {
            settled.ranges.load_balancer = vec![format!("127.{b}.{c}.96/30").parse().expect("a network")];
        };
        Self::of(Gateway::with(&[], pool), manifests)
    }

    fn of(gateway: Gateway, manifests: &str) -> Self {
        let world = Self { gateway, seen: Arc::default() };
        let mut base = world.written(BASE);
        let http = "{name: http, port: 8080, targetPort: 80}, {name: h2c, port: 8081, targetPort: 81, appProtocol: kubernetes.io/h2c}, {name: ws, port: 8082, targetPort: 80, appProtocol: kubernetes.io/ws}";
        for (i, (namespace, name)) in (0..).zip(BACKENDS) {
            let ip = world.gateway.ip(FIRST_BACKEND + i);
            serve(ip, name, world.seen.clone());
            base.push_str(&service(namespace, name, ip, http));
        }
        let plain = "{name: tcp, port: 9000, targetPort: 80}, {name: udp, port: 5300, protocol: UDP, targetPort: 53}";
        for (i, (namespace, name)) in (0..).zip(PLAIN) {
            let ip = world.gateway.ip(FIRST_PLAIN + i);
            echo(ip, name);
            answer_datagrams(ip, name);
            base.push_str(&service(namespace, name, ip, plain));
        }
        for (i, (namespace, name)) in (0..).zip(GRPC) {
            let ip = world.gateway.ip(FIRST_GRPC + i);
            super::grpc::serve(ip, name);
            base.push_str(&service(namespace, name, ip, "{name: grpc, port: 8080, targetPort: 81, appProtocol: kubernetes.io/h2c}"));
        }
        world.gateway.write("base.yaml", &base);
        world.apply("test", manifests);
        let ports = 3 * BACKENDS.len() + 2 * PLAIN.len() + GRPC.len();
        eventually("backends", || world.gateway.ready_endpoints() >= ports);
        world
    }

    /// Manifests with the addresses filled in.
    fn written(&self, manifests: &str) -> String {
        let addresses = (1..=9).map(|i| (format!("${i}"), self.address(i).to_string()));
        addresses.fold(manifests.to_owned(), |text, (name, ip)| text.replace(&name, &ip))
    }

    /// The address that `$i` stands for.
    pub(super) fn address(&self, i: u8) -> IpAddr {
        self.gateway.ip(FIRST_GATEWAY + i)
    }

    /// Applies manifests, and replaces those of the same name.
    pub(super) fn apply(&self, name: &str, manifests: &str) {
        self.gateway.write(&format!("{name}.yaml"), &self.written(manifests));
    }

    /// Removes what was applied under a name.
    pub(super) fn delete(&self, name: &str) {
        std::fs::remove_file(self.gateway.path(&format!("{name}.yaml"))).expect("removed");
    }

    /// An object with its status.
    pub(super) fn object(&self, plural: &str, name: &str) -> Value {
        let all = self.gateway.json(&format!("objects/{plural}"));
        all.as_array().expect("a list").iter().find(|object| object["metadata"]["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Waits for a condition: its status and reason.
    pub(super) fn condition(&self, plural: &str, name: &str, at: &str, kind: &str, wanted: (&str, &str)) {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object = self.object(plural, name);
            let found = object.pointer(at).and_then(Value::as_array).and_then(|all| all.iter().find(|c| c["type"] == kind)).cloned();
            if found.as_ref().is_some_and(|c| c["status"] == wanted.0 && c["reason"] == wanted.1) {
                return;
            }
            last = if found.is_some() { found.unwrap_or_default() } else { object.pointer("/status").cloned().unwrap_or(last) };
            assert!(Instant::now() < deadline, "{plural} {name} {at}: {kind} is not {wanted:?}: {last}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a condition of the first parent of a route.
    pub(super) fn route(&self, plural: &str, name: &str, kind: &str, wanted: (&str, &str)) {
        self.condition(plural, name, "/status/parents/0/conditions", kind, wanted);
    }

    /// The route is taken, and all that it refers to is there.
    pub(super) fn accepted(&self, plural: &str, name: &str) {
        self.route(plural, name, "Accepted", ("True", "Accepted"));
        self.route(plural, name, "ResolvedRefs", ("True", "ResolvedRefs"));
    }

    /// Waits for a condition of a Gateway.
    pub(super) fn of_gateway(&self, name: &str, kind: &str, wanted: (&str, &str)) {
        self.condition("gateways", name, "/status/conditions", kind, wanted);
    }

    /// Waits for a condition of a Gateway's listener.
    pub(super) fn of_listener(&self, gateway: &str, listener: usize, kind: &str, wanted: (&str, &str)) {
        self.condition("gateways", gateway, &format!("/status/listeners/{listener}/conditions"), kind, wanted);
    }

    /// Waits for a condition of a ListenerSet.
    pub(super) fn of_set(&self, name: &str, kind: &str, wanted: (&str, &str)) {
        self.condition("listenersets", name, "/status/conditions", kind, wanted);
    }

    /// Waits for a condition of a ListenerSet's listener.
    pub(super) fn of_set_listener(&self, set: &str, listener: usize, kind: &str, wanted: (&str, &str)) {
        self.condition("listenersets", set, &format!("/status/listeners/{listener}/conditions"), kind, wanted);
    }

    /// Waits until so many routes are attached to the listeners of a Gateway.
    pub(super) fn attached(&self, gateway: &str, wanted: &[u64]) {
        self.attached_to("gateways", gateway, wanted);
    }

    /// Waits until so many routes are attached to the listeners of a Gateway or ListenerSet.
    pub(super) fn attached_to(&self, plural: &str, name: &str, wanted: &[u64]) {
        let found = || -> Vec<u64> {
            let object = self.object(plural, name);
            let listeners = object["status"]["listeners"].as_array().cloned().unwrap_or_default();
            listeners.iter().filter_map(|listener| listener["attachedRoutes"].as_u64()).collect()
        };
        eventually(&format!("{wanted:?} routes attached to {name}"), || found() == wanted);
    }

    /// Waits until so many ListenerSets are attached to a Gateway.
    pub(super) fn attached_sets(&self, gateway: &str, wanted: u64) {
        let found = || self.object("gateways", gateway)["status"]["attachedListenerSets"].as_u64();
        eventually(&format!("{wanted} ListenerSets attached to {gateway}"), || found() == Some(wanted));
    }

    /// The kinds of routes that a listener takes.
    pub(super) fn kinds(&self, gateway: &str, listener: usize) -> Vec<String> {
        let object = self.object("gateways", gateway);
        let kinds = object["status"]["listeners"][listener]["supportedKinds"].as_array().cloned().unwrap_or_default();
        kinds.iter().map(|kind| kind["kind"].as_str().expect("a kind").to_owned()).collect()
    }

    /// The addresses of a Gateway, as its status has them.
    pub(super) fn addresses(&self, gateway: &str) -> Vec<IpAddr> {
        let all = self.object("gateways", gateway)["status"]["addresses"].as_array().cloned().unwrap_or_default();
        assert!(all.iter().all(|address| address["type"] == "IPAddress"), "{all:?}");
        all.iter().filter_map(|address| address["value"].as_str()?.parse().ok()).collect()
    }

    /// Asks the Gateway with address `$i` at port 80.
    pub(super) fn ask(&self, i: u8, ask: &Ask) -> std::io::Result<Answer> {
        self.ask_at(SocketAddr::new(self.address(i), 80), ask)
    }

    /// Asks at an address.
    pub(super) fn ask_at(&self, at: SocketAddr, ask: &Ask) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        ask.send(&mut stream, &at.ip().to_string())
    }

    /// Waits until a backend answers, or, without one, a status.
    pub(super) fn expect(&self, i: u8, ask: &Ask, wanted: impl Into<Wanted>) -> Answer {
        self.expect_at(SocketAddr::new(self.address(i), 80), ask, wanted)
    }

    /// Waits until a backend answers at an address, or, without one, a status.
    pub(super) fn expect_at(&self, at: SocketAddr, ask: &Ask, wanted: impl Into<Wanted>) -> Answer {
        let wanted = wanted.into();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask_at(at, ask);
            match answer {
                Ok(answer) if wanted.is(&answer) => return answer,
                other => assert!(Instant::now() < deadline, "{ask:?}: wanted {wanted:?}, got {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What is waited for.
#[derive(Debug)]
pub(super) enum Wanted {
    Backend(&'static str),
    Status(u16),
}

impl Wanted {
    fn is(&self, answer: &Answer) -> bool {
        match self {
            Self::Backend(name) => answer.status == 200 && answer.backend == *name,
            Self::Status(status) => answer.status == *status,
        }
    }
}

impl From<&'static str> for Wanted {
    fn from(name: &'static str) -> Self {
        Self::Backend(name)
    }
}

impl From<u16> for Wanted {
    fn from(status: u16) -> Self {
        Self::Status(status)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: &'static str,
    host: Option<String>,
    path: String,
    headers: Vec<(String, String)>,
}

pub(super) fn get(path: &str) -> Ask {
    Ask { method: "GET", host: None, path: path.to_owned(), headers: Vec::new() }
}

impl Ask {
    pub(super) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    pub(super) fn host(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the request on a connection, and reads the answer to its end.
    pub(super) fn send(&self, stream: &mut (impl Read + Write), address: &str) -> std::io::Result<Answer> {
        let Self { method, host, path, headers } = self;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = host.as_deref().unwrap_or(address);
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").as_bytes())?;
        let mut all = String::new();
        stream.read_to_string(&mut all)?;
        let (head, body) = all.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other(format!("no answer: {all:?}")))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let (backend, seen) = body.split_once('\n').unwrap_or_default();
        Ok(Answer { status, headers, backend: backend.to_owned(), seen: seen.to_owned() })
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// The name of the backend that answered.
    pub(super) backend: String,
    /// The head of the request that the backend saw.
    pub(super) seen: String,
}

impl Answer {
    /// A field of the response; several are joined.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        joined(self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()))
    }

    /// A field of the request that the backend saw; several are joined.
    pub(super) fn saw(&self, name: &str) -> Option<String> {
        let fields = self.seen.lines().skip(1).filter_map(|line| line.split_once(": "));
        joined(fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    /// The path that the backend saw, with the query.
    pub(super) fn path(&self) -> &str {
        self.seen.split(' ').nth(1).unwrap_or_default()
    }
}

fn joined<'v>(values: impl Iterator<Item = &'v str>) -> Option<String> {
    let values: Vec<&str> = values.collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// A backend that answers with its name and the request's head, adds the fields that `X-Echo-Set-Header` asks for, and takes as long as `?delay=MS` says.
fn serve(ip: IpAddr, name: &'static str, seen: Arc<Mutex<Vec<(String, String)>>>) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut writer = stream.try_clone()?;
                let mut reader = BufReader::new(stream);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head)? == 0 {
                            return Ok(());
                        }
                    }
                    if head.to_lowercase().contains("\r\nupgrade: websocket\r\n") {
                        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                        writer.write_all(answer.as_bytes())?;
                        return std::io::copy(&mut reader, &mut writer).map(drop);
                    }
                    seen.lock().expect("not poisoned").push((name.to_owned(), head.clone()));
                    let delay =
                        head.split_once("delay=").and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
                    std::thread::sleep(Duration::from_millis(delay.unwrap_or(0)));
                    let wanted = head.lines().filter_map(|line| line.split_once(": "));
                    let wanted =
                        wanted.filter(|(name, _)| name.eq_ignore_ascii_case("x-echo-set-header")).flat_map(|(_, value)| value.split(','));
                    let fields: String = wanted.filter_map(|f| f.split_once(':')).map(|(n, v)| format!("{}: {v}\r\n", n.trim())).collect();
                    let body = format!("{name}\n{head}");
                    let body = if head.starts_with("HEAD ") { "" } else { &body };
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len());
                    writer.write_all(answer.as_bytes())?;
                }
            });
        }
    });
}

/// A Service, and the one Pod that it has.
pub(super) fn service(namespace: &str, name: &str, ip: impl std::fmt::Display, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{selector: {{app: {name}}}, ports: [{ports}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\nstatus: {{podIP: {ip}, conditions: [{{type: Ready, status: \"True\"}}]}}\n---\n"
    )
}

/// Answers each datagram with a name.
fn answer_datagrams(ip: IpAddr, name: &'static str) {
    let socket = UdpSocket::bind((ip, 53)).expect("port 53 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        let mut content = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut content) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}

/// An HTTPRoute of namespace `infra` for `same-namespace`; `spec` is what follows its parents, indented by two.
pub(super) fn route(name: &str, spec: &str) -> String {
    route_of("infra", name, "{name: same-namespace}", spec)
}

/// An HTTPRoute with one parent.
pub(super) fn route_of(namespace: &str, name: &str, parent: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  parentRefs: [{parent}]\n{spec}\n---\n"
    )
}

/// A ReferenceGrant of a namespace for HTTPRoutes of `infra` to Services; `to` may say more.
pub(super) fn grant(namespace: &str, to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: grant, namespace: {namespace}}}\nspec:\n  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}}]\n  to: [{{group: \"\", kind: Service{to}}}]\n---\n"
    )
}

/// A Gateway of namespace `infra` at address `$i`; `listeners` is the list, indented by two.
pub(super) fn gateway(name: &str, i: u8, listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: infra}}\nspec:\n  gatewayClassName: conformance\n  addresses: [{{value: ${i}}}]\n  listeners:\n{listeners}\n---\n"
    )
}
