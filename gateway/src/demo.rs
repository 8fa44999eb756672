//! `sluicegate demo`: eight backends behind a node port, steady traffic, and everything that usually breaks it.
//!
//! The gateway is the real one, on a folder of objects of its own; what the demonstration does, it does as an operator would: it writes and
//! removes files, and asks the admin API what came of it. [`backends`] are the pods, [`load`] the clients.

mod backends;
mod load;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate_model::escape;

use crate::{Error, Settled, io, run};
use backends::Backends;
use load::{Load, Step};

/// Prints a line. It is no reason to panic that nobody reads on.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// How the demonstration runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long each step's traffic is watched.
    pub step: Duration,
    /// Go on serving when the steps are done, until SIGINT.
    pub serve: bool,
}

/// What an operator types to see it in a cluster, from the project's folder.
pub const CLUSTER: &str = "\
# 1. A cluster, and the gateway's image in it. `make release` makes the image. With k3s: `k3s ctr images import target/dist/sluicegate.oci.tar`; with any
#    other cluster, push it to a registry and add `--set image.repository=REGISTRY/sluicegate` to the third command.
kind create cluster && kind load image-archive target/dist/sluicegate.oci.tar
# 2. The kinds of the Gateway API, and those of Sluicegate.
kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.1/standard-install.yaml -f config/crds
# 3. The gateway, one on each node.
helm install sluicegate config/chart --namespace sluicegate --create-namespace
# 4. A Deployment behind a node port that is left to Sluicegate. Scale it, delete its pods, and ask: no request fails.
kubectl apply -f config/quickstart/nginx.yaml && kubectl label service nginx-svc service.kubernetes.io/service-proxy-name=sluicegate
";

const PODS: usize = 8;
const POD_PORT: u16 = 8080;
/// How long what was under way still takes after a change serves.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// The longest that a change may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: tomcats}
spec:
  type: NodePort
  selector: {app: tomcat}
  ports: [{port: 80, targetPort: 8080, appProtocol: http}]
";
const PLUGIN: &str = "\
apiVersion: sluicegate.dev/v1alpha1
kind: Plugin
metadata: {name: demo-balancer}
spec: {kind: balancer, source: {file: balancer.wasm}}
---
apiVersion: sluicegate.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: tomcats}
spec:
  targetRefs: [{kind: Service, name: tomcats}]
  loadBalancer: {plugin: demo-balancer}
";

/// Gives the demonstration, and prints as it goes. The error says what failed.
pub fn give(options: &Options) -> Result<(), Error> {
    let mut stage = Stage::build(options)?;
    let outcome = stage.play();
    stage.report();
    let failures: usize = stage.done.iter().map(|(_, step)| step.failures()).sum();
    let outcome = match (outcome, failures) {
        (Ok(()), 0) => {
            say!("\nNot one of {} requests failed.", stage.done.iter().map(|(_, s)| s.requests()).sum::<usize>());
            Ok(())
        }
        (Ok(()), failures) => Err(Error::Demo(format!("{failures} requests failed"))),
        (Err(failed), _) => Err(failed),
    };
    if options.serve && outcome.is_ok() {
        say!(
            "\nIt goes on serving; Ctrl-C ends it.\n\n  curl http://{}/\n  sluicegate get endpoints --admin-address {}",
            stage.address,
            stage.admin
        );
        say!("  The objects are in {}: edit them.", stage.folder.path().display());
        wait_for_interrupt()?;
    }
    stage.strike();
    outcome
}

fn wait_for_interrupt() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("a runtime"))?;
    runtime.block_on(tokio::signal::ctrl_c()).map_err(io("signals"))
}

/// Everything that runs while the demonstration does.
struct Stage {
    folder: tempfile::TempDir,
    _state: tempfile::TempDir,
    /// The network of this run: 127.A.B.0/24.
    net: [u8; 2],
    backends: Backends,
    gateway: Option<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<Result<(), crate::Error>>)>,
    admin: SocketAddr,
    address: SocketAddr,
    load: Load,
    step: Duration,
    /// The pods by name, with the last byte of their address.
    pods: BTreeMap<String, u8>,
    next_ip: u8,
    done: Vec<(String, Step)>,
}

impl Stage {
    fn build(options: &Options) -> Result<Self, Error> {
        say!("Building it up:");
        let folder = tempfile::tempdir().map_err(io("a folder for the objects"))?;
        let state = tempfile::tempdir().map_err(io("a folder for the state"))?;
        let net = free_net()?;
        let ip = |last| IpAddr::from(Ipv4Addr::new(127, net[0], net[1], last));
        write(folder.path(), "balancer.wasm", &plugin("least-request")?)?;
        write(folder.path(), "service.yaml", SERVICE.as_bytes())?;
        write(folder.path(), "plugin.yaml", PLUGIN.as_bytes())?;
        let backends = Backends::start().map_err(io("the backends"))?;
        let settled = Settled {
            paths: vec![folder.path().to_owned()],
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            state_dir: state.path().to_owned(),
            nodeport_addresses: vec![IpAddr::from(Ipv4Addr::LOCALHOST).into()],
            ranges: sluicegate_control::allocate::Ranges {
                cluster_ips: vec![ipnet::IpNet::new(ip(128), 25).map_err(|e| Error::Demo(e.to_string()))?],
                ..Default::default()
            },
            grace: Duration::from_secs(5),
            ..Settled::default()
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (started, admin) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                let _ = stopped.await;
            };
            run(&settled, shutdown, |address| {
                let _ = started.send(address);
            })
        });
        let admin = admin.recv_timeout(PATIENCE).map_err(|_| Error::Demo("the gateway did not start".to_owned()))?;
        say!("  the gateway runs; its admin API is at http://{admin}");
        let mut stage = Self {
            folder,
            _state: state,
            net,
            backends,
            gateway: Some((stop, thread)),
            admin,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            load: Load::default(),
            step: options.step,
            pods: BTreeMap::new(),
            next_ip: 2,
            done: Vec::new(),
        };
        for number in 1..=PODS {
            stage.start_pod(&format!("tomcat-{number}"))?;
        }
        say!("  {PODS} backends run as pods, on 127.{}.{}.2 and up, port {POD_PORT}", net[0], net[1]);
        stage.wait("the pods are endpoints", |s| s.ready() == PODS)?;
        stage.wait("the balancer plugin is loaded", |s| s.plugin()["generation"]["number"] == 1)?;
        let port = stage.get("services")[0]["ports"][0]["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok());
        stage.address.set_port(port.ok_or_else(|| Error::Demo("no node port was allocated".to_owned()))?);
        say!("  Service tomcats has node port {}: curl http://{}/", stage.address.port(), stage.address);
        stage.load = Load::start(stage.address).map_err(io("the load"))?;
        Ok(stage)
    }

    /// The steps, in order.
    fn play(&mut self) -> Result<(), Error> {
        say!("\nTraffic runs from here to the end, {} requests at a time. What is done to the gateway meanwhile:", load::CLIENTS);
        self.act("eight pods, nothing happens", PODS, |_| Ok(None))?;

        self.act("two pods crash, without a word", PODS - 2, |s| {
            for name in ["tomcat-3", "tomcat-6"] {
                s.backends.kill(s.pod_address(name));
            }
            // The kubelet takes a while to notice; until then the gateway has only the refused connections to go by.
            std::thread::sleep(Duration::from_millis(200));
            for name in ["tomcat-3", "tomcat-6"] {
                s.remove_pod(name)?;
            }
            s.wait("their endpoints are gone", |s| s.ready() == PODS - 2).map(|()| None)
        })?;

        self.act("they come back, on new addresses", PODS, |s| {
            s.start_pod("tomcat-3")?;
            s.start_pod("tomcat-6")?;
            s.wait("eight endpoints", |s| s.ready() == PODS).map(|()| None)
        })?;

        self.act("scaled from 8 to 2", 2, |s| {
            let names: Vec<String> = s.pods.keys().skip(2).cloned().collect();
            s.retire(&names).map(|()| None)
        })?;

        self.act("scaled from 2 to 8", PODS, |s| {
            (3..=PODS).try_for_each(|n| s.start_pod(&format!("tomcat-{n}")))?;
            s.wait("eight endpoints", |s| s.ready() == PODS).map(|()| None)
        })?;

        self.act("the balancer's file is replaced: round-robin", PODS, |s| {
            write(s.folder.path(), "balancer.wasm", &plugin("round-robin")?)?;
            s.wait("generation 2", |s| s.plugin()["generation"]["number"] == 2).map(|()| None)
        })?;

        self.act("it is replaced by a broken one", PODS, |s| {
            let whole = plugin("random")?;
            write(s.folder.path(), "balancer.wasm", &whole[..whole.len() / 2])?;
            s.wait("it is refused", |s| s.plugin()["state"] == "degraded")?;
            if s.plugin()["generation"]["number"] != 2 {
                return Err(Error::Demo("the generation before the broken one does not serve".to_owned()));
            }
            Ok(Some(format!("refused: {}", s.plugin()["reason"].as_str().unwrap_or("?"))))
        })
    }

    /// Gives one step: does it, lets what was under way end, and watches the traffic. Exactly `pods` pods must answer then.
    fn act(&mut self, what: &str, pods: usize, doing: impl FnOnce(&mut Self) -> Result<Option<String>, Error>) -> Result<(), Error> {
        // It is shown at once, though the line is not at its end.
        let _ = write!(std::io::stdout(), "  {}. {what} ... ", self.done.len() + 1).and_then(|()| std::io::stdout().flush());
        let begun = Instant::now();
        self.load.take();
        let outcome = doing(self);
        let changed = begun.elapsed();
        std::thread::sleep(UNDER_WAY);
        let during = self.load.take();
        std::thread::sleep(self.step);
        let mut step = self.load.take();
        let seen = step.pods().len();
        step.add_without_pods(during);
        say!("{} requests, {} failed", step.requests(), step.failures());
        if let Ok(note) = &outcome {
            if let Some(note) = note {
                say!("     {note}");
            } else if changed > Duration::from_millis(1) {
                say!("     done and served within {} ms", changed.as_millis());
            }
        }
        if let Some(failure) = step.first_failure() {
            say!("     first failure: {failure}");
        }
        self.done.push((what.to_owned(), step));
        outcome?;
        if seen == pods { Ok(()) } else { Err(Error::Demo(format!("{what}: {seen} pods answered, and {pods} should have"))) }
    }

    fn report(&self) {
        say!("\n{:<46} {:>9} {:>7}  {:<24} {:>8} {:>8}", "step", "requests", "failed", "requests per pod", "p50", "p99");
        for (what, step) in &self.done {
            let spread = match step.spread() {
                Some((pods, least, most)) => format!("{pods} pods, {least} to {most}"),
                None => "none".to_owned(),
            };
            let ms = |t: Option<Duration>| t.map_or_else(|| "-".to_owned(), |t| format!("{:.1} ms", t.as_secs_f64() * 1e3));
            let (p50, p99) = (ms(step.percentile(0.50)), ms(step.percentile(0.99)));
            say!("{what:<46} {:>9} {:>7}  {spread:<24} {p50:>8} {p99:>8}", step.requests(), step.failures());
        }
    }

    fn strike(&mut self) {
        self.load.stop();
        if let Some((stop, thread)) = self.gateway.take() {
            let _ = stop.send(());
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => crate::standard_error::say(format_args!("the gateway ended with: {}", escape::line(&error.to_string()))),
                Err(_) => crate::standard_error::say("the gateway ended by a panic"),
            }
        }
    }

    fn pod_address(&self, name: &str) -> SocketAddr {
        let last = self.pods.get(name).copied().unwrap_or(1);
        SocketAddr::from(([127, self.net[0], self.net[1], last], POD_PORT))
    }

    fn start_pod(&mut self, name: &str) -> Result<(), Error> {
        let last = self.next_ip;
        self.next_ip += 1;
        self.pods.insert(name.to_owned(), last);
        let address = self.pod_address(name);
        self.backends.spawn(address, name).map_err(io(format!("pod {name} on {address}")))?;
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: tomcat}}}}\nstatus: {{podIP: {}, conditions: [{{type: Ready, status: \"True\"}}]}}\n",
            address.ip()
        );
        write(self.folder.path(), &format!("{name}.yaml"), pod.as_bytes())
    }

    fn remove_pod(&mut self, name: &str) -> Result<(), Error> {
        self.pods.remove(name);
        std::fs::remove_file(self.folder.path().join(format!("{name}.yaml"))).map_err(io(name))
    }

    /// Removes pods as Kubernetes does it: they stop being endpoints, finish what they have, and end.
    fn retire(&mut self, names: &[String]) -> Result<(), Error> {
        let addresses: Vec<SocketAddr> = names.iter().map(|name| self.pod_address(name)).collect();
        for name in names {
            self.remove_pod(name)?;
        }
        let left = self.pods.len();
        self.wait("fewer endpoints", |s| s.ready() == left)?;
        std::thread::sleep(Duration::from_millis(500));
        addresses.into_iter().for_each(|address| self.backends.kill(address));
        Ok(())
    }

    fn get(&self, what: &str) -> Value {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
        let text = agent.get(format!("http://{}/api/v1/{what}", self.admin)).call().and_then(|mut r| r.body_mut().read_to_string());
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
    }

    fn ready(&self) -> usize {
        self.get("endpoints").as_array().map_or(0, |all| all.iter().filter(|e| e["ready"] == true).count())
    }

    fn plugin(&self) -> Value {
        let all = self.get("plugins");
        all.as_array().and_then(|all| all.iter().find(|p| p["name"] == "demo-balancer").cloned()).unwrap_or(Value::Null)
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() > deadline {
                return Err(Error::Demo(format!("not within {PATIENCE:?}: {what}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn plugin(name: &str) -> Result<Vec<u8>, Error> {
    crate::builtin(name).ok_or_else(|| Error::Demo(format!("there is no built-in plugin {name}")))
}

/// Writes a file and renames it into place, so that nobody reads half of it.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (partial, whole): (PathBuf, PathBuf) = (folder.join(format!(".{name}.partial")), folder.join(name));
    std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, &whole)).map_err(io(name))
}

/// A network 127.A.B.0/24 in which nobody has the pods' port.
fn free_net() -> Result<[u8; 2], Error> {
    let start = std::process::id();
    let nets =
        (0..1000_u32).map(|i| (start.wrapping_add(i)) % 20_000).map(|n| [u8::try_from(100 + n / 250).unwrap_or(100), (n % 250) as u8]);
    for net in nets {
        if TcpListener::bind((Ipv4Addr::new(127, net[0], net[1], 2), POD_PORT)).is_ok() {
            return Ok(net);
        }
    }
    Err(Error::Demo(format!("no free loopback addresses: every machine of 127.0.0.0/8 has port {POD_PORT} in use")))
}
