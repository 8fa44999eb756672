//! What the end-to-end tests share: a gateway with loopback addresses of its own, backends and clients. The tests are in `tests/`; hostile
//! guests, built for wasm by `build.rs`, in `guests/`.

pub mod admin;
pub mod apart;
pub mod both_ways;
pub mod collector;
pub mod load;
pub mod namespace;
pub mod plugin;
pub mod wat;

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use admin::Admin;
use sluicegate::{InCluster, Settled, run};
pub use sluicegate_apiserver as apiserver;
use sluicegate_cluster::connection::Connection;
use sluicegate_cluster::source::Timing;
use sluicegate_control::allocate::Ranges;

/// A balancer that misbehaves as its configuration says.
pub const HOSTILE_BALANCER: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/hostile_balancer.wasm"));
/// A router that misbehaves as its configuration says.
pub const HOSTILE_ROUTER: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/hostile_router.wasm"));
/// A discovery plugin that misbehaves as its configuration says.
pub const HOSTILE_DISCOVERY: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/hostile_discovery.wasm"));

/// A balancer that looks right, and is wrong in the way that its configuration says.
pub const FLAWED_BALANCER: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/flawed_balancer.wasm"));

/// A round-robin balancer of version 0.1.0 of the contract.
pub const OLD_BALANCER: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/old_balancer.wasm"));
/// A router of version 0.1.0 of the contract.
pub const OLD_ROUTER: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/old_router.wasm"));
/// A discovery plugin of version 0.1.0 of the contract.
pub const OLD_DISCOVERY: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/old_discovery.wasm"));

/// A balancer that asks the host for everything that it may ask for, and for too much of it.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("GUESTS"), "/probe.wasm"));

/// Where all tests keep compiled code, so that a plugin is compiled once and not for each gateway.
pub const COMPILED: &str = concat!(env!("OUT_DIR"), "/compiled");

/// The deadline of everything a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The quickstart's Deployment and Service.
pub const SERVICE: &str = include_str!("../../config/quickstart/nginx.yaml");

/// A gateway on loopback addresses of its own: 127.B.C.1 for node ports, 127.B.C.128/25 for cluster IPs, the rest for pods.
pub struct Gateway {
    folder: tempfile::TempDir,
    state: tempfile::TempDir,
    net: [u8; 2],
    running: Option<(tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
    admin: Admin,
    adjust: fn(&mut Settled, [u8; 2]),
    cluster: Option<InCluster>,
}

impl Gateway {
    /// Starts a gateway on a folder with these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        Self::with(files, |_, _| {})
    }

    /// Starts a gateway with other settings; `adjust` is given the B and C of its addresses.
    pub fn with(files: &[(&str, &str)], adjust: fn(&mut Settled, [u8; 2])) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let net = claim();
        let mut gateway = Self {
            folder,
            state: tempfile::tempdir().expect("a folder"),
            net,
            running: None,
            admin: Admin(SocketAddr::from(([127, 0, 0, 1], 0))),
            adjust,
            cluster: None,
        };
        gateway.start();
        gateway
    }

    /// A gateway whose objects come from the API server of a kubeconfig, beside these files. It is not started yet.
    pub fn of_cluster(kubeconfig: PathBuf, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let connection = Connection { kubeconfig: Some(kubeconfig), context: None };
        Self {
            folder,
            state: tempfile::tempdir().expect("a folder"),
            net: claim(),
            running: None,
            admin: Admin(SocketAddr::from(([127, 0, 0, 1], 0))),
            adjust: |_, _| {},
            cluster: Some(InCluster { connection, ..InCluster::default() }),
        }
    }

    /// The same, with other settings from its next start on.
    #[must_use]
    pub fn adjusted(mut self, adjust: fn(&mut Settled, [u8; 2])) -> Self {
        self.adjust = adjust;
        self
    }

    /// How patient it is with the API server, from its next start on.
    pub fn timing(&mut self) -> &mut Timing {
        &mut self.cluster.as_mut().expect("it is in a cluster").timing
    }

    /// Its state folder.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// Starts the gateway again after [`Self::stop`], with the same folders, and waits until it is ready.
    pub fn start(&mut self) {
        self.launch();
        eventually("ready", || self.get("/readyz").is_some());
    }

    /// Starts the gateway without waiting until it is ready.
    pub fn launch(&mut self) {
        let mut settled = Settled {
            paths: vec![self.folder.path().to_owned()],
            workers: 2,
            admin_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_dir: self.state.path().to_owned(),
            code_cache: Some(COMPILED.into()),
            ranges: Ranges { cluster_ips: vec![format!("{}/25", self.ip(128)).parse().expect("a network")], ..Ranges::default() },
            nodeport_addresses: vec![format!("{}/32", self.ip(1)).parse().expect("an address")],
            grace: Duration::from_secs(5),
            cluster: self.cluster.clone(),
            ..Settled::default()
        };
        (self.adjust)(&mut settled, self.net);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (started, admin) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                let _ = stopped.await;
            };
            run(&settled, shutdown, |address| started.send(address).expect("the test waits")).expect("the gateway runs");
        });
        self.admin = Admin(admin.recv_timeout(PATIENCE).expect("started"));
        self.running = Some((stop, thread));
    }

    /// Stops the gateway and waits until it has ended.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("stopped");
        }
    }

    /// One of this gateway's own addresses.
    pub fn ip(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.net[0], self.net[1], last).into()
    }

    /// Writes an object's file, by renaming it into place.
    pub fn write(&self, name: &str, text: &str) {
        let partial = self.folder.path().join(format!(".{name}"));
        std::fs::write(&partial, text).expect("written");
        std::fs::rename(partial, self.folder.path().join(name)).expect("renamed");
    }

    /// A file's path in the folder of objects.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a Pod of the quickstart's Service.
    pub fn pod(&self, name: &str, last: u8, ready: bool) -> String {
        let ready = if ready { "True" } else { "False" };
        let ip = self.ip(last);
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: nginx}}}}\nstatus: {{podIP: {ip}, conditions: [{{type: Ready, status: \"{ready}\"}}]}}\n"
        )
    }

    /// The address of the admin API.
    pub fn admin(&self) -> SocketAddr {
        self.admin.0
    }

    /// The address at which the first Service's first port is served.
    pub fn node_port(&self) -> SocketAddr {
        let given = || self.json("services")[0]["ports"][0]["nodePort"].as_u64();
        eventually("a node port", || given().is_some());
        let port = given().expect("a node port");
        SocketAddr::new(self.ip(1), u16::try_from(port).expect("a port"))
    }

    /// The cluster IP of the first Service, with the quickstart's port.
    pub fn cluster_ip(&self) -> SocketAddr {
        let ip = self.json("services")[0]["clusterIPs"][0].as_str().expect("an address").parse().expect("an address");
        SocketAddr::new(ip, 8080)
    }

    /// Whether a connection to the node port reaches the backend of this name.
    pub fn serves(&self, name: &str) -> bool {
        connect(self.node_port()).is_ok_and(|(served, _)| served == name)
    }
}

impl Deref for Gateway {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A 127.B.C.0/24 that no other test has, held by a bound port until the process ends: so long a test's backends listen there.
fn claim() -> [u8; 2] {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let first = 128 + 4 * u8::try_from(std::process::id() % 25).expect("below 25");
    for _ in 0..1_000 {
        let [further, c] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let b = first + further % 4;
        if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, b, c, 1), 29_999)) {
            std::mem::forget(claim);
            return [b, c];
        }
    }
    panic!("no free loopback network");
}

/// Waits until something is true; panics after [`PATIENCE`].
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A TCP backend that sends its name, then echoes until the client's end, then says goodbye.
pub fn echo(ip: IpAddr, name: &'static str) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                stream.write_all(format!("{name}\n").as_bytes())?;
                std::io::copy(&mut stream.try_clone()?, &mut stream)?;
                stream.write_all(b"bye")
            });
        }
    });
}

/// An HTTP backend that answers `name connection-number` and the request's head.
pub fn http(ip: IpAddr, name: &'static str) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address: run as root, or allow unprivileged ports");
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
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
                    let body = format!("{name} {number}\n{head}");
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nKeep-Alive: timeout=5\r\n\r\n{body}", body.len());
                    // In one write: several small ones would wait for each other's acknowledgement (RFC 896).
                    writer.write_all(answer.as_bytes())?;
                }
            });
        }
    });
}

/// Connects and reads the backend's name.
pub fn connect(address: SocketAddr) -> std::io::Result<(String, BufReader<TcpStream>)> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut name = String::new();
    reader.read_line(&mut name)?;
    Ok((name.trim_end().to_owned(), reader))
}

/// The names of the backends behind this many connections, each once.
pub fn names(address: SocketAddr, connections: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..connections).map(|_| connect(address).expect("connected").0).collect();
    names.sort();
    names.dedup();
    names
}

/// Sends one GET; returns the answer's status and body.
pub fn fetch(address: SocketAddr) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let mut response = agent.get(format!("http://{address}/x")).call().expect("an answer");
    (response.status().as_u16(), response.body_mut().read_to_string().expect("a body"))
}

/// Replaces a file by renaming a new one into place.
pub fn replace(path: &Path, bytes: &[u8]) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).expect("written");
    std::fs::rename(partial, path).expect("renamed");
}
