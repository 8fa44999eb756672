//! Statuses as they are written to an API server: by the leader alone, only what differs, only what is ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate_cluster::client::Cluster;
use sluicegate_cluster::connection::Connection;
use sluicegate_cluster::fleet::Fleet;
use sluicegate_cluster::lead::{self, Leadership};
use sluicegate_cluster::leader::Options;
use sluicegate_cluster::seen::Seen;
use sluicegate_cluster::status::Writer;
use sluicegate_cluster::turn::Writing;
use sluicegate_config::plan::CONTROLLER;
use sluicegate_model::status::{Judged, ObjectStatus, Status};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::{Gateway, PATIENCE, fetch, http};
use tokio::sync::oneshot;

use crate::chart::rights::assert_sufficient;

/// What is wished of each object, by the plural of its kind.
#[derive(Clone, Default)]
struct Wished(BTreeMap<&'static str, Vec<Judged>>);

impl ObjectStatus for Wished {
    fn objects(&self, _: &str) -> Option<Vec<Value>> {
        None
    }

    fn judged(&self, plural: &str) -> Option<Vec<Judged>> {
        self.0.get(plural).cloned()
    }
}

impl Wished {
    fn with(mut self, plural: &'static str, name: &str, status: Value) -> Self {
        let judged = Judged { namespace: "shop".to_owned(), name: name.to_owned(), status };
        self.0.entry(plural).or_default().push(judged);
        self
    }
}

fn status(wished: Wished) -> Arc<Status> {
    Arc::new(Status { objects: Some(Arc::new(wished)), complete: true, ..Status::default() })
}

fn condition(kind: &str, holds: bool, generation: i64) -> Value {
    json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": kind, "message": "", "observedGeneration": generation})
}

fn gateway(holds: bool) -> Value {
    json!({"addresses": [{"type": "IPAddress", "value": "203.0.113.1"}], "conditions": [condition("Accepted", true, 1), condition("Programmed", holds, 1)],
        "listeners": []})
}

fn parents(holds: bool) -> Value {
    let reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
    json!({"parents": [{"parentRef": reference, "controllerName": CONTROLLER, "conditions": [condition("Accepted", holds, 1)]}]})
}

/// Leases last so long here.
const LEASE: Duration = Duration::from_secs(3);

/// One process of several.
struct Process {
    name: &'static str,
    seen: Seen,
    now: Arc<Mutex<Arc<Status>>>,
    leadership: Leadership,
    /// Asks it to stop.
    stop: Option<oneshot::Sender<()>>,
    /// Ends it as SIGKILL does.
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    fn start(server: &ApiServer, name: &'static str, wished: Wished) -> Self {
        let (tell, leadership) = Leadership::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let (kill, killed) = oneshot::channel::<()>();
        let (seen, now) = (Seen::default(), Arc::new(Mutex::new(status(wished))));
        let connection = Connection { kubeconfig: Some(server.kubeconfig()), context: None };
        let (connected, is_connected) = std::sync::mpsc::channel();
        let (seen_there, now_there, leads) = (seen.clone(), now.clone(), leadership.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let cluster = Cluster::connect(connection).await.expect("a server");
                connected.send(()).expect("somebody waits");
                let options =
                    Options { duration: LEASE, renew: LEASE * 2 / 3, retry: LEASE / 8, ..Options::new("shop", "sluicegate", name) };
                let now = Arc::new(move || now_there.lock().unwrap_or_else(PoisonError::into_inner).clone());
                let (seen, counts) = (seen_there, Arc::default());
                let writer = Writer::new(Writing {
                    cluster: cluster.clone(),
                    seen,
                    has: Arc::new(|_: &str| true),
                    now,
                    leadership: leads,
                    identity: name.to_owned(),
                    fleet: Fleet::default(),
                    counts,
                });
                tokio::select! {
                    () = writer.run() => {}
                    () = lead::run(&cluster, options, &tell, async { _ = stopped.await }) => {}
                    _ = killed => {}
                }
            });
            runtime.shutdown_background();
        });
        // The files that say where the server is are written anew for each process.
        is_connected.recv().expect("it is connected");
        Self { name, seen, now, leadership, stop: Some(stop), kill: Some(kill), thread: Some(thread) }
    }

    /// Tells it what the server has, as a watch would.
    fn watch(&self, server: &ApiServer, objects: &[(&str, &str)]) {
        for (kind, name) in objects {
            match server.get(kind, "shop", name) {
                Some(object) => self.seen.applied(&object),
                None => self.seen.gone(kind, Some("shop"), name),
            }
        }
    }

    fn wish(&self, wished: Wished) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = status(wished);
    }

    fn leads(&self) -> bool {
        self.leadership.until().is_some()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }

    fn stop(mut self) {
        self.stop = None;
        self.join();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill = None;
        self.join();
    }
}

/// A server with a Gateway and a route to it, which another controller serves as well.
fn server() -> ApiServer {
    let server = ApiServer::start();
    server.install_all();
    server.put_yaml(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec: {gatewayClassName: sluicegate, listeners: []}\n",
    );
    server.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"rules": []},
        "status": {"parents": [theirs()]},
    }));
    server
}

fn theirs() -> Value {
    let accepted =
        json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-11-28T12:00:00Z"});
    json!({"parentRef": {"name": "other"}, "controllerName": "other.example/controller", "conditions": [accepted]})
}

const BOTH: [(&str, &str); 2] = [("Gateway", "edge"), ("HTTPRoute", "web")];

fn both(holds: bool) -> Wished {
    Wished::default().with("gateways", "edge", gateway(holds)).with("httproutes", "web", parents(holds))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn field(server: &ApiServer, kind: &str, name: &str, pointer: &str) -> Value {
    server.get(kind, "shop", name).and_then(|object| object.pointer(pointer).cloned()).unwrap_or_default()
}

/// Whether the statuses of both objects say this.
fn says(server: &ApiServer, holds: &str) -> bool {
    field(server, "Gateway", "edge", "/status/conditions/1/status") == holds
        && field(server, "HTTPRoute", "web", "/status/parents/1/conditions/0/status") == holds
}

/// Requests that write, of leases and others.
fn writes(server: &ApiServer) -> (usize, usize) {
    let asked = server.asked();
    let writes = asked.iter().filter(|asked| !asked.starts_with("GET "));
    let (leases, others): (Vec<&String>, Vec<&String>) = writes.partition(|asked| asked.contains("/leases"));
    (leases.len(), others.len())
}

#[test]
fn of_three_one_writes_and_when_it_is_killed_another_does() {
    let server = server();
    let mut all: Vec<Process> = ["a", "b", "c"].map(|name| Process::start(&server, name, both(true))).into();
    all.iter().for_each(|process| process.watch(&server, &BOTH));
    until("the statuses are not written", || says(&server, "True"));
    assert_eq!(all.iter().filter(|process| process.leads()).count(), 1);
    let entries = field(&server, "HTTPRoute", "web", "/status/parents");
    assert_eq!(entries[0], theirs(), "the entry of another controller is as it was");
    let time = field(&server, "Gateway", "edge", "/status/conditions/0/lastTransitionTime");
    assert!(time.as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 20), "{time}");
    assert_eq!(writes(&server).1, 2, "each once, by one of them: {:?}", server.asked());

    let leader = all.iter().position(Process::leads).expect("one leads");
    let killed = all.remove(leader);
    let name = killed.name;
    drop(killed);
    let dead = Instant::now();
    for process in &all {
        process.watch(&server, &BOTH);
        process.wish(both(false));
    }
    until("nobody goes on", || says(&server, "False"));
    let took = dead.elapsed();
    // A Lease of 15 s is taken over in 20; this one is a fifth of it.
    assert!(took < LEASE * 20 / 15 + Duration::from_secs(1), "{name} was followed after {took:?}");
    assert_eq!(field(&server, "Gateway", "edge", "/status/conditions/0/lastTransitionTime"), time, "what has not changed keeps its time");
    assert_sufficient(&server);
}

#[test]
fn whoever_does_not_lead_watches_the_lease_and_asks_for_nothing() {
    let server = server();
    let all = ["a", "b", "c"].map(|name| Process::start(&server, name, both(true)));
    until("nobody leads", || all.iter().any(Process::leads));
    let lease = |what: &str| server.asked().iter().filter(|asked| asked.contains("/leases") && asked.contains(what)).count();
    until("the others do not watch it", || lease("watch=1") == 2);
    let before = lease("GET ");
    std::thread::sleep(LEASE * 2);
    assert_eq!(lease("GET "), before, "{:?}", server.asked());
    assert!(lease("PUT ") > 0, "the leader renews it");
    assert_sufficient(&server);
}

#[test]
fn who_is_told_to_stop_gives_the_lease_up() {
    let server = server();
    let first = Process::start(&server, "a", both(true));
    until("it does not lead", || first.leads());
    let second = Process::start(&server, "b", both(true));
    first.stop();
    let since = Instant::now();
    until("the other does not lead", || second.leads());
    assert!(since.elapsed() < LEASE * 2 / 3, "it had to wait");
    assert_eq!(field(&server, "Lease", "sluicegate", "/spec/leaseTransitions"), 1);
}

#[test]
fn in_calm_nothing_but_the_lease_is_written() {
    let server = server();
    let process = Process::start(&server, "a", both(true));
    process.watch(&server, &BOTH);
    until("the statuses are not written", || says(&server, "True"));
    process.watch(&server, &BOTH);
    let before = writes(&server);
    std::thread::sleep(LEASE);
    // The same again, by another plan, and an object that changes where it does not matter.
    process.wish(both(true));
    let mut route = server.get("HTTPRoute", "shop", "web").expect("there");
    route["metadata"]["annotations"] = json!({"looked": "at"});
    server.put(route);
    process.watch(&server, &BOTH);
    std::thread::sleep(LEASE);
    let after = writes(&server);
    assert_eq!(after.1, before.1, "{:?}", server.asked());
    assert!(after.0 > before.0, "the Lease is renewed");
}

#[test]
fn a_conflict_is_read_anew_and_what_the_other_wrote_stays() {
    let server = server();
    // Somebody else has written, and the process has not heard of it.
    let stale = server.get("HTTPRoute", "shop", "web").expect("there");
    let mut route = server.get("HTTPRoute", "shop", "web").expect("there");
    let more = json!({"parentRef": {"name": "third"}, "controllerName": "third.example/controller", "conditions": []});
    route["status"]["parents"] = json!([more, theirs()]);
    server.put(route);
    let process = Process::start(&server, "a", both(true));
    process.seen.applied(&stale);
    until("it is not written", || field(&server, "HTTPRoute", "web", "/status/parents/2/controllerName") == CONTROLLER);
    assert_eq!(field(&server, "HTTPRoute", "web", "/status/parents/0"), more);
    assert_eq!(field(&server, "HTTPRoute", "web", "/status/parents/1"), theirs());
    // Ours that no longer apply go, without the help of a watch.
    process.wish(Wished::default().with("httproutes", "web", json!({"parents": []})));
    until("it is not removed", || field(&server, "HTTPRoute", "web", "/status/parents") == json!([more, theirs()]));
    assert_sufficient(&server);
}

#[test]
fn what_may_not_be_written_is_left_alone_for_a_while_and_the_rest_is_written() {
    let server = server();
    server.refuse("patch", "httproutes");
    let process = Process::start(&server, "a", both(true));
    process.watch(&server, &BOTH);
    until("the Gateway's is not written", || field(&server, "Gateway", "edge", "/status/conditions/1/status") == "True");
    std::thread::sleep(LEASE);
    let routes =
        |server: &ApiServer| server.asked().iter().filter(|asked| asked.starts_with("PATCH") && asked.contains("httproutes")).count();
    assert_eq!(routes(&server), 1, "{:?}", server.asked());
    // An object that is gone is not asked for.
    server.remove("Gateway", "shop", "edge");
    process.watch(&server, &BOTH);
    let before = writes(&server).1;
    process.wish(both(false));
    std::thread::sleep(LEASE / 2);
    assert_eq!(writes(&server).1, before, "{:?}", server.asked());
}

#[test]
fn a_policy_in_conflict_is_an_event() {
    let server = server();
    server.put(json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {}}));
    let conflict = |reason: &str| {
        let accepted = json!({"type": "Accepted", "status": if reason == "Accepted" { "True" } else { "False" }, "reason": reason, "message": "policy a counts"});
        json!({"ancestors": [{"ancestorRef": {"kind": "Service", "name": "web"}, "controllerName": CONTROLLER, "conditions": [accepted]}]})
    };
    let wished = |reason: &str| Wished::default().with("backendtrafficpolicies", "p", conflict(reason));
    let process = Process::start(&server, "node-a", wished("Conflicted"));
    process.watch(&server, &[("BackendTrafficPolicy", "p")]);
    let written = |server: &ApiServer| server.asked().iter().filter(|asked| asked.contains("/events") && !asked.starts_with("GET")).count();
    until("there is no event", || written(&server) == 1);
    let asked = server.asked();
    assert!(asked.iter().any(|asked| asked == "POST /apis/events.k8s.io/v1/namespaces/shop/events"), "{asked:?}");
    let events = server.all("Event");
    assert_eq!(events.len(), 1);
    let said = |field: &str| events[0][field].as_str().unwrap_or_default().to_owned();
    assert_eq!((said("reason"), said("note"), said("type")), ("Conflicted".to_owned(), "policy a counts".to_owned(), "Warning".to_owned()));
    assert_eq!((said("reportingInstance"), said("reportingController")), ("node-a".to_owned(), CONTROLLER.to_owned()));
    // There and back again: one event more for each way, and then a series.
    for (reason, expected) in [("Accepted", 2), ("Conflicted", 3), ("Accepted", 4)] {
        process.wish(wished(reason));
        until("there is no event", || written(&server) == expected);
    }
    assert_eq!(server.all("Event").len(), 2);
    assert!(server.all("Event").iter().all(|event| event["series"]["count"] == 2), "{:?}", server.all("Event"));
    assert_sufficient(&server);
}

#[test]
fn after_a_restart_of_the_server_and_its_refusals_it_goes_on() {
    let mut server = server();
    let process = Process::start(&server, "a", both(true));
    process.watch(&server, &BOTH);
    until("the statuses are not written", || says(&server, "True"));
    process.watch(&server, &BOTH);
    server.stop();
    process.wish(both(false));
    until("it leads without a server", || !process.leads());
    server.start_again();
    server.throttle(3);
    until("it does not go on", || says(&server, "False"));
}

/// The objects of a cluster with a Gateway of ours, a route to it that another controller serves as well, and a Service for whose load balancer we are asked.
fn cluster(gateway: &Gateway, server: &ApiServer) {
    server.install_all();
    server.put_yaml(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: ours}}\nspec: {{controllerName: {CONTROLLER}}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: theirs}}\nspec: {{controllerName: other.example/controller}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\n\
         spec: {{gatewayClassName: ours, listeners: [{{name: http, port: 8080, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: other, namespace: shop}}\n\
         spec: {{gatewayClassName: theirs, listeners: [{{name: http, port: 8080, protocol: HTTP}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec: {{clusterIP: 10.96.0.9, ports: [{{port: 80, protocol: TCP, appProtocol: http}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: lb, namespace: shop}}\n\
         spec: {{type: LoadBalancer, loadBalancerClass: sluicegate.dev/gateway, clusterIP: 10.96.0.8, ports: [{{port: 80, protocol: TCP, nodePort: 30999}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         endpoints: [{{addresses: [{}], conditions: {{ready: true}}}}]\nports: [{{name: '', port: 80, protocol: TCP}}]\n",
        gateway.ip(2)
    ));
    server.put(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}, {"name": "other"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
        "status": {"parents": [theirs()]},
    }));
    server.put(json!({
        "apiVersion": "sluicegate.dev/v1alpha1", "kind": "Plugin", "metadata": {"name": "mine", "namespace": "shop"},
        "spec": {"kind": "balancer", "source": {"file": "/nowhere/mine.wasm"}},
    }));
}

fn is_true(server: &ApiServer, kind: &str, namespace: &str, name: &str, condition: &str) -> bool {
    let object = server.get(kind, namespace, name).unwrap_or_default();
    let all = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    all.iter().any(|it| it["type"] == condition && it["status"] == "True" && !it["lastTransitionTime"].is_null())
}

#[test]
fn a_gateway_writes_what_it_judges_and_gives_addresses_that_stay() {
    let server = ApiServer::start();
    let mut gateway = Gateway::of_cluster(server.kubeconfig(), &[]).adjusted(|settled, [b, c]| {
        settled.ranges.load_balancer = vec![format!("127.{b}.{c}.64/28").parse().expect("a range")];
    });
    cluster(&gateway, &server);
    http(gateway.ip(2), "pod");
    gateway.start();
    until("the Gateway is programmed", || is_true(&server, "Gateway", "shop", "edge", "Programmed"));
    let address = field(&server, "Gateway", "edge", "/status/addresses/0/value").as_str().expect("an address").to_owned();
    let pool = |ip: &str| ip.parse::<std::net::IpAddr>().is_ok_and(|ip| (64..80).map(|last| gateway.ip(last)).any(|known| known == ip));
    assert!(pool(&address), "{address}");
    until("the class is accepted", || is_true(&server, "GatewayClass", "", "ours", "Accepted"));
    until("the route is not judged", || field(&server, "HTTPRoute", "web", "/status/parents/1/conditions/0/status") == "True");
    let entries = field(&server, "HTTPRoute", "web", "/status/parents");
    assert_eq!((&entries[0], entries.as_array().map(Vec::len)), (&theirs(), Some(2)));
    assert_eq!(entries[1]["parentRef"]["name"], "edge");
    until("the Service has no address", || field(&server, "Service", "lb", "/status/loadBalancer/ingress/0/ipMode") == "Proxy");
    let given = field(&server, "Service", "lb", "/status/loadBalancer/ingress/0/ip").as_str().expect("an address").to_owned();
    assert!(pool(&given) && given != address, "{given}");
    assert_eq!(fetch(format!("{address}:8080").parse().expect("an address")).0, 200);
    // A plugin that cannot be read: in the status, and as an Event.
    until("the Plugin is not judged", || field(&server, "Plugin", "mine", "/status/conditions/0/reason") == "Refused");
    until("there is no Event", || server.all("Event").iter().any(|event| event["regarding"]["name"] == "mine"));
    until("nodes are not counted", || field(&server, "Plugin", "mine", "/status/nodes/refused") == 1);
    // What is another's is left to them.
    assert_eq!(field(&server, "Gateway", "other", "/status"), Value::Null);
    assert_eq!(server.get("GatewayClass", "", "theirs").expect("there")["status"], Value::Null);
    // In calm, nothing.
    std::thread::sleep(Duration::from_secs(2));
    let before = writes(&server);
    std::thread::sleep(Duration::from_secs(5));
    let after = writes(&server);
    assert_eq!(after.1, before.1, "{:?}", server.asked().iter().rev().take(20).collect::<Vec<_>>());
    assert!(after.0 > before.0, "the Lease is renewed");
    // A restart gives the Lease up, and the addresses stay.
    gateway.stop();
    assert_eq!(server.get("Lease", "default", "sluicegate").expect("there")["spec"]["holderIdentity"], "");
    gateway.start();
    until("it leads again", || server.get("Lease", "default", "sluicegate").expect("there")["spec"]["holderIdentity"] != "");
    // The route leaves us, and its entry goes.
    let mut route = server.get("HTTPRoute", "shop", "web").expect("there");
    route["spec"]["parentRefs"] = json!([{"name": "other"}]);
    server.put(route);
    until("our entry stays", || field(&server, "HTTPRoute", "web", "/status/parents") == json!([theirs()]));
    assert_eq!(field(&server, "Gateway", "edge", "/status/addresses/0/value"), address.as_str());
    assert_eq!(field(&server, "Service", "lb", "/status/loadBalancer/ingress/0/ip"), given.as_str());
}
