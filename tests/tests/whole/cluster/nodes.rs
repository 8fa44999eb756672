//! Three nodes, each a gateway in a network namespace of its own, and an API server in another: what happens to them while clients ask all three.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate_tests::apart::{Process, Setup, TERMS, play};
use sluicegate_tests::apiserver::ApiServer;
use sluicegate_tests::load::Load;
use sluicegate_tests::namespace::{BEHIND, Bridge};
use sluicegate_tests::{PATIENCE, eventually, http};

use super::world::NODE_PORT;

const TEST: &str = "cluster::nodes::three_nodes_agree_and_outlive_a_leader_a_restart_and_a_cut";
/// A variable with the seconds for which the network is cut. With it gateways are as patient as they are for users.
const CUT: &str = "SLUICEGATE_TEST_CUT_SECONDS";
/// Requests for these keys are compared.
const KEYS: usize = 40;
/// How long the network is cut otherwise. The kernel sends what was lost again some 7 s and some 14 s after the first time, so after this cut the old connections
/// bring nothing for some seconds.
const SHORT: Duration = Duration::from_secs(8);

fn pod(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, last)
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"service.kubernetes.io/service-proxy-name": "sluicegate"}},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP", "appProtocol": "http", "nodePort": NODE_PORT}]}})
}

/// The endpoints, in the order in which they are given.
fn endpoints(last: &[u8]) -> Value {
    let endpoint = |last: &u8| json!({"addresses": [pod(*last).to_string()], "conditions": {"ready": true}});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": last.iter().map(endpoint).collect::<Vec<_>>(), "ports": [{"name": "", "port": 80, "protocol": "TCP"}]})
}

fn route(path: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": [{"name": "web", "port": 80}]}]}})
}

struct Node {
    user: String,
    setup: Setup,
    process: Option<Process>,
    load: Option<Load>,
    _state: tempfile::TempDir,
}

impl Node {
    fn at(&self) -> SocketAddr {
        SocketAddr::from((self.setup.address, NODE_PORT))
    }

    fn start(&mut self) {
        self.process = Some(self.setup.start());
        self.load = Some(Load::every(self.at(), Duration::from_millis(15)));
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Whose name each key's requests are answered with.
    fn picks(&self) -> BTreeMap<usize, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
        let pick = |key: usize| {
            let mut answer = agent.get(format!("http://{}/", self.at())).header("x-user", format!("user-{key}")).call().expect("an answer");
            let text = answer.body_mut().read_to_string().expect("a body");
            (key, text.split(' ').next().unwrap_or_default().to_owned())
        };
        (0..KEYS).map(pick).collect()
    }
}

struct World {
    bridge: Bridge,
    server: ApiServer,
    nodes: Vec<Node>,
    _folders: Vec<tempfile::TempDir>,
}

impl World {
    fn new(patient: bool) -> Self {
        let bridge = Bridge::new();
        for (last, name) in (2..=8).zip(["a", "b", "c", "d", "e", "f", "g"]) {
            bridge.address(pod(last));
            http(pod(last).into(), name);
        }
        let there = bridge.behind("server");
        let server =
            ApiServer::start_at(SocketAddr::from((BEHIND, 6443)), move |address| there.within(|| std::net::TcpListener::bind(address)));
        server.install_all();
        server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        server.put(service());
        server.put(endpoints(&[2, 3, 4, 5]));
        server.put(json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"targetRefs": [{"kind": "Service", "name": "web"}],
                "loadBalancer": {"plugin": "maglev", "hash": {"type": "Header", "header": {"name": "x-user"}}}}}));
        server.put(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "sluicegate"},
            "spec": {"controllerName": "sluicegate.dev/gateway-controller"}}));
        server.put(
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": "shop"},
            "spec": {"gatewayClassName": "sluicegate", "listeners": [{"name": "web", "protocol": "HTTP", "port": 8080}]}}),
        );
        server.put(route("/0"));
        let users = ["one", "two", "three"];
        server.set_tokens(&users.map(|user| (user, user)));
        let mut folders = Vec::new();
        let nodes = users.iter().zip(11..).map(|(user, last)| {
            let (folder, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
            let address = Ipv4Addr::new(10, 77, 0, last);
            let setup = Setup::new(TEST, address, Some(server.kubeconfig_in(folder.path(), user)), state.path());
            let setup = Setup { namespace: Some(bridge.join(user, address)), patient, ..setup };
            folders.push(folder);
            Node { user: (*user).to_owned(), setup, process: None, load: None, _state: state }
        });
        let nodes = nodes.collect();
        Self { bridge, server, nodes, _folders: folders }
    }

    /// The users who have written statuses since there were so many requests, one for each write.
    fn writers_in_turn(&self, since: usize) -> Vec<String> {
        let asked = self.server.asked_by().into_iter().skip(since);
        asked.filter(|(asked, _)| asked.starts_with("PATCH ") && asked.contains("/status")).map(|(_, user)| user).collect()
    }

    /// Changes the route, and waits until its status says so. Returns who wrote that, and after how long.
    fn judged(&self, path: &str) -> (String, Duration) {
        let (before, begun) = (self.server.asked().len(), Instant::now());
        let generation = self.server.put(route(path))["metadata"]["generation"].clone();
        eventually("the status says so", || {
            let route = self.server.get("HTTPRoute", "shop", "web").expect("there");
            route["status"]["parents"][0]["conditions"][0]["observedGeneration"] == generation
        });
        let (took, writers) = (begun.elapsed(), self.writers_in_turn(before));
        let writers: BTreeSet<String> = writers.into_iter().collect();
        assert_eq!(writers.len(), 1, "one leads: {writers:?}");
        (writers.into_iter().next().expect("one"), took)
    }

    /// Changes the endpoints, and waits until all nodes serve them, and until each key's requests are answered by the same endpoint wherever they come.
    fn agree(&self, last: &[u8]) -> Duration {
        self.server.put(endpoints(last));
        self.come_to_agree(last)
    }

    fn come_to_agree(&self, last: &[u8]) -> Duration {
        let begun = Instant::now();
        let mut expected: Vec<String> = last.iter().map(|last| format!("{}:80", pod(*last))).collect();
        expected.sort();
        for node in &self.nodes {
            eventually("the endpoints", || node.process().addresses() == expected);
        }
        let took = begun.elapsed();
        let picks = self.nodes[0].picks();
        let used: BTreeSet<&String> = picks.values().collect();
        assert_eq!(used.len(), last.len(), "all endpoints are used: {used:?}");
        for node in &self.nodes[1..] {
            assert_eq!(node.picks(), picks, "{}", node.user);
        }
        took
    }

    /// Waits until all watches are begun anew after a restart or a cut.
    fn is_followed(&self) {
        for node in &self.nodes {
            eventually("all kinds are followed", || {
                let kinds = node.process().json("sources")[0]["kinds"].as_array().cloned().unwrap_or_default();
                kinds.len() > 20 && kinds.iter().all(|kind| kind["state"] == "synced")
            });
        }
    }
}

#[test]
fn three_nodes_agree_and_outlive_a_leader_a_restart_and_a_cut() {
    play(TEST, "-rn", || {
        let asked_for: Option<u64> = std::env::var(CUT).ok().map(|seconds| seconds.parse().expect("a number of seconds"));
        let patient = asked_for.is_some();
        let cut = asked_for.map_or(SHORT, Duration::from_secs);
        let mut world = World::new(patient);
        world.nodes.iter_mut().for_each(Node::start);
        world.come_to_agree(&[2, 3, 4, 5]);

        // One leads. When it is killed, another goes on.
        let (leader, _) = world.judged("/1");
        let at = world.nodes.iter().position(|node| node.user == leader).expect("one of them");
        world.nodes[at].load.take().expect("it runs").end();
        world.nodes[at].process.take().expect("it runs").kill();
        let (next, took) = world.judged("/2");
        let within = if patient { Duration::from_secs(20) } else { TERMS.duration * 20 / 15 + Duration::from_secs(1) };
        assert!(next != leader && took < within, "{next} follows {leader} after {took:?}");
        println!("the leader is followed after {took:?}");
        world.nodes[at].start();
        // This one has the endpoints from a list, the others by changes.
        world.agree(&[6, 5, 4, 2]);

        world.server.stop();
        world.nodes.iter().for_each(|node| node.load.as_ref().expect("it runs").goes_on(20));
        world.server.start_again();
        let took = world.agree(&[7, 2, 6, 3, 5]);
        println!("after a restart of the API server endpoints are seen after {took:?}");
        world.is_followed();
        world.judged("/3");

        // Endpoints change while nobody can hear of it, and once more when the network is there again.
        world.bridge.cut();
        let begun = Instant::now();
        world.server.put(endpoints(&[7, 2, 6]));
        while begun.elapsed() < cut {
            world.nodes.iter().for_each(|node| node.load.as_ref().expect("it runs").goes_on(10));
        }
        let unaware = world.nodes.iter().all(|node| node.process().addresses().len() == 5);
        assert!(unaware, "the network was cut");
        let mended = world.server.asked().len();
        world.bridge.mend();
        let took = world.come_to_agree(&[7, 2, 6]);
        println!("after a cut of {cut:?} endpoints are seen after {took:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        // Which connections are dead nobody knows: watches are begun anew, unless what was lost has come by the old ones.
        let watch = |asked: &str| asked.contains("/endpointslices?watch=1");
        let asked = &world.server.asked_by()[mended..];
        let anew = world.nodes.iter().all(|node| asked.iter().any(|(asked, user)| *user == node.user && watch(asked)));
        assert!(anew || took < Duration::from_secs(4), "{took:?}: {asked:#?}");
        world.is_followed();
        let took = world.agree(&[8, 3, 2]);
        assert!(took < Duration::from_secs(3), "what changes now is seen at once: {took:?}");
        let (leader, took) = world.judged("/4");
        println!("{leader} leads, and its status came after {took:?}");

        for node in &mut world.nodes {
            node.load.take().expect("it runs").end();
        }
        for node in &mut world.nodes {
            node.process.take().expect("it runs").stop();
        }
        let lease = world.server.get("Lease", "default", "sluicegate").expect("there");
        assert_eq!(lease["spec"]["holderIdentity"], "", "the last one gives it up");
        let mut writers = world.writers_in_turn(0);
        writers.dedup();
        let transitions = lease["spec"]["leaseTransitions"].as_u64().expect("a number");
        assert!(writers.len() as u64 <= transitions + 1, "nobody has written who did not lead: {writers:?}, {transitions} transitions");
    });
}
