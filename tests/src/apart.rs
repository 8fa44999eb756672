//! Tests that are played in processes of their own: in namespaces, or by gateways that can be killed. The test's binary is started again for the one test, and the
//! [`part`] says what it is to do.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::{InCluster, Settled};
use sluicegate_cluster::connection::Connection;
use sluicegate_cluster::leader::Terms;
use sluicegate_cluster::source::{Pauses, Timing};
use sluicegate_control::allocate::Ranges;

use crate::admin::{Admin, TOKEN};
use crate::namespace::Namespace;
use crate::{COMPILED, PATIENCE, eventually};

/// Says which part of a test a process is to play.
const PART: &str = "SLUICEGATE_TEST_PART";
/// The settings of a gateway.
const SETTINGS: &str = "SLUICEGATE_TEST_GATEWAY";
/// How long a test may take that is played apart.
const LONGEST: Duration = Duration::from_secs(300);

/// What this process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Play the test in a process of its own ([`again`]).
    Begin,
    /// The test itself.
    Play,
    /// Be a gateway ([`be_gateway`]).
    Gateway,
}

/// What this process is to do.
pub fn part() -> Part {
    match std::env::var(PART).as_deref() {
        Ok("play") => Part::Play,
        Ok("gateway") => Part::Gateway,
        _ => Part::Begin,
    }
}

/// Does the part of a test that is this process's. `test`: its name with its modules. `options`: those of unshare(1), such as `-rn` for a user namespace and a network
/// namespace; if there are none, the test is played by this process.
pub fn play(test: &str, options: &str, play: impl FnOnce()) {
    match part() {
        Part::Begin if options.is_empty() => play(),
        Part::Begin => again(test, options),
        Part::Play => play(),
        Part::Gateway => be_gateway(),
    }
}

fn this(test: &str, part: &str) -> [String; 7] {
    let binary = std::env::current_exe().expect("this binary").display().to_string();
    let variable = format!("{PART}={part}");
    ["env".to_owned(), variable, binary, "--exact".to_owned(), test.to_owned(), "--nocapture".to_owned(), "--test-threads=1".to_owned()]
}

/// Plays a test in namespaces of its own.
fn again(test: &str, options: &str) {
    let mut command = Command::new("unshare");
    command.args([options, "--"]).args(this(test, "play")).stdin(Stdio::null());
    // What it says goes to files, so that nothing that it leaves behind keeps this waiting.
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).expect("a file");
    let mut child = command.stdout(file("out")).stderr(file("error")).spawn().expect("unshare is there");
    let deadline = Instant::now() + LONGEST;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waited for") {
            break Some(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let said = format!("{}{}", read("out"), read("error"));
    assert!(status.is_some_and(|status| status.success()) && said.contains("1 passed"), "{status:?}\n{said}");
    print!("{said}");
}

/// A gateway that is a process of its own.
pub struct Process {
    child: Child,
    admin: Admin,
}

/// How such a gateway is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The test, which has to call [`play`].
    pub test: &'static str,
    /// Where it runs; none: where the test runs.
    pub namespace: Option<Namespace>,
    /// The address of its node ports and of its admin API.
    pub address: Ipv4Addr,
    /// How it finds the API server; none: as in a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// Its state folder.
    pub state: PathBuf,
    /// The pool of load balancer addresses, and whether virtual IPs are made local.
    pub addresses: Option<String>,
    /// Whether it is as patient as it is for users.
    pub patient: bool,
    /// If it is not: the longest pause after failures.
    pub pause: Duration,
}

impl Setup {
    /// One whose objects come by a kubeconfig.
    pub fn new(test: &'static str, address: Ipv4Addr, kubeconfig: Option<PathBuf>, state: &Path) -> Self {
        let state = state.to_owned();
        Self {
            test,
            namespace: None,
            address,
            kubeconfig,
            environment: Vec::new(),
            state,
            addresses: None,
            patient: false,
            pause: Duration::from_secs(2),
        }
    }

    /// Starts it, and does not wait until it is ready.
    pub fn launch(&self) -> Process {
        let admin = match self.namespace {
            Some(_) => SocketAddr::from((self.address, 9_901)),
            None => std::net::TcpListener::bind((self.address, 0)).and_then(|free| free.local_addr()).expect("a free port"),
        };
        let settings = json!({"address": self.address, "admin": admin, "kubeconfig": self.kubeconfig, "state": self.state, "addresses": self.addresses,
            "patient": self.patient, "pause": u64::try_from(self.pause.as_millis()).expect("a pause")});
        let start = || {
            let [program, arguments @ ..] = this(self.test, "gateway");
            let mut command = Command::new(program);
            command.args(arguments).env(SETTINGS, settings.to_string()).envs(self.environment.iter().map(|(name, value)| (name, value)));
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts")
        };
        let child = match &self.namespace {
            Some(namespace) => namespace.within(start),
            None => start(),
        };
        Process { child, admin: Admin(admin) }
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&self) -> Process {
        let process = self.launch();
        eventually("ready", || process.get("/readyz").is_some());
        process
    }
}

impl Process {
    /// Ends it as SIGKILL does.
    pub fn kill(mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ends");
    }

    /// Has it end, and waits until it has.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("waited for").is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The memory that is its own, in KiB: `RssAnon` of proc_pid_status(5).
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }
}

impl Deref for Process {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Lease's times in these tests: a fifth of the usual ones.
pub const TERMS: Terms = Terms { duration: Duration::from_secs(3), renew: Duration::from_secs(2), retry: Duration::from_millis(400) };

/// Is a gateway until the standard input ends.
fn be_gateway() {
    let settings: Value = serde_json::from_str(&std::env::var(SETTINGS).expect("settings")).expect("JSON");
    let text = |field: &str| settings[field].as_str().map(str::to_owned);
    let address: Ipv4Addr = text("address").expect("an address").parse().expect("an address");
    let pool = text("addresses").into_iter().map(|pool| pool.parse().expect("a range")).collect();
    let pause = Duration::from_millis(settings["pause"].as_u64().expect("a pause"));
    let usual = InCluster::default();
    let hurried = InCluster {
        timing: Timing {
            silence: Duration::from_secs(60),
            missing: Duration::from_secs(1),
            saved: Duration::from_millis(500),
            pauses: Pauses { first: usual.timing.pauses.first.min(pause), longest: pause },
            outage: Duration::from_secs(1),
            ..usual.timing
        },
        terms: TERMS,
        ..InCluster::default()
    };
    let cluster = if settings["patient"] == true { usual } else { hurried };
    // Tests ask it from another namespace.
    let state = PathBuf::from(text("state").expect("a folder"));
    let tokens = state.join("tokens");
    std::fs::write(&tokens, format!("operator:{TOKEN}\n")).expect("written");
    let mut settled = Settled {
        workers: 1,
        admin_address: text("admin").expect("an address").parse().expect("an address"),
        state_dir: state,
        code_cache: Some(COMPILED.into()),
        manage_addresses: settings["addresses"].is_string(),
        ranges: Ranges { load_balancer: pool, ..Ranges::default() },
        nodeport_addresses: vec![format!("{address}/32").parse().expect("an address")],
        grace: Duration::from_secs(2),
        cluster: Some(InCluster { connection: Connection { kubeconfig: text("kubeconfig").map(Into::into), context: None }, ..cluster }),
        ..Settled::default()
    };
    settled.admin.token_file = Some(tokens);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(stop);
    });
    let shutdown = async {
        let _ = stopped.await;
    };
    sluicegate::run(&settled, shutdown, |_| {}).expect("the gateway runs");
}
