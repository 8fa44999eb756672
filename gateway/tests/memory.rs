//! The limit of memory, with the binary and its allocator as its users run them. Addresses are in 127.200.7.0/24.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(40);
const ADMIN: &str = "127.200.7.1:9901";
const AT: &str = "127.200.7.1:30084";
const MIB: u64 = 1 << 20;
/// How much of a head a client may send without ending it.
const HEAD: usize = 60 << 10;
const CLIENTS: usize = 800;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, ports: [{port: 80, appProtocol: http, nodePort: 30084}]}\n";

struct Gateway(Child);

impl Gateway {
    fn start(folder: &Path, state: &Path, memory_limit: u64) -> Self {
        let configuration = "apiVersion: sluicegate.dev/v1alpha1\nkind: SluicegateConfiguration\n";
        std::fs::write(folder.join("web.yaml"), SERVICE).unwrap();
        std::fs::write(folder.join("configuration.yaml"), format!("{configuration}overload: {{memoryLimit: {memory_limit}}}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.arg("run").arg(folder).arg("--state-dir").arg(state).args(["--admin-address", ADMIN, "--workers", "2"]);
        command.args(["--nodeport-addresses", "127.200.7.1/32", "--service-cluster-ip-range", "127.200.7.128/25"]);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// A value of proc_pid_status(5), in bytes.
    fn memory(&self, of: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(of)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(at: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn ready() -> Option<String> {
    ask(ADMIN, "/readyz")
}

fn is_ready() -> bool {
    ready().is_some_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// Whether the gateway takes work: the service has no endpoint, so its answer is that of a gateway that does.
fn takes_work() -> bool {
    ask(AT, "/").is_some_and(|answer| answer.contains("503 ") && !answer.contains("overloaded"))
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

#[test]
fn memory_that_can_be_given_back_is_no_pressure_and_pressure_ends_with_its_cause() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let gateway = Gateway::start(folder.path(), state.path(), 16 << 30);
    eventually("ready", is_ready);
    eventually("serving", takes_work);
    let (all, own) = (gateway.memory("VmRSS"), gateway.memory("RssAnon"));
    drop(gateway);

    // Nothing is compiled yet, and the limit is below the resident memory: most of that is the program's file.
    let limit = own + 24 * MIB;
    assert!(limit < all, "{limit} is to be below {all}");
    let empty = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), empty.path(), limit);
    eventually("ready, though compiling took more for a while", is_ready);
    eventually("serving", takes_work);
    // Heads that do not end keep their memory.
    let mut clients: Vec<TcpStream> = Vec::new();
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(HEAD));
    for _ in 0..CLIENTS {
        let Ok(mut stream) = TcpStream::connect(AT) else { break };
        if stream.write_all(head.as_bytes()).is_err() {
            break;
        }
        clients.push(stream);
    }
    eventually("new work is refused", || ready().is_some_and(|answer| answer.contains("refused for want of memory")));
    assert!(ask(ADMIN, "/metrics").unwrap().contains("sluicegate_overloaded 1\n"));
    let held = gateway.memory("RssAnon");
    drop(clients);
    let took = eventually("it is taken again", || is_ready() && takes_work());
    // The promise is 2 s; the rest is for a busy machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
    eventually("what they held is given back", || gateway.memory("RssAnon") < held - (limit - own) / 2);
}
