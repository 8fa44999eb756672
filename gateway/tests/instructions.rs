//! What a request costs, in instructions of user code, which are the same on a busy machine and on a calm one: Valgrind's tool `callgrind` counts them in the binary as the
//! tests build it (mostly without optimization, so these are not the figures of a release; a change that makes a request dearer shows in both).
//! The gateway has a router of ten rules and the balancer `least-request`. Addresses are in 127.200.9.0/24.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Under Valgrind a start takes some 15 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
const ADMIN: &str = "127.200.9.1:9901";
const AT: &str = "127.200.9.1:8080";
const BACKEND: &str = "127.200.9.2:8080";
const RULES: usize = 10;
/// So many requests are made before any is counted, and so many are.
const WARM: usize = 100;
const REQUESTS: u64 = 500;

const REQUEST: &[u8] = b"GET /service-9/items HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// What is counted, the function that does it with all that it calls, and what it took when this was last written. Where it has come to take less, the lower number is to be
/// written here.
const TAKEN: [(&str, &str, u64); 3] = [
    (
        "an exchange, from its request's first byte to its response's last",
        "sluicegate_proxy::http::serve::http1::talk::{{closure}}",
        130_677,
    ),
    ("route", "<sluicegate_host::router::Instance as sluicegate_model::plugin::Router>::route", 26_860),
    ("pick", "<sluicegate_host::balancer::Instance as sluicegate_model::plugin::Balancer>::pick", 8_052),
];
/// How much more than that is a failure, in percent.
const MORE: u64 = 3;

struct Gateway(Child);

impl Gateway {
    /// Starts it, behind a command that runs it.
    fn start(before: &[&str], folder: &Path) -> Self {
        let binary = env!("CARGO_BIN_EXE_sluicegate");
        let (program, arguments) = before.split_first().map_or((binary, vec![]), |(first, rest)| (*first, [rest, &[binary]].concat()));
        let mut command = Command::new(program);
        command.args(arguments).arg("run").arg(folder.join("objects")).args(["--admin-address", ADMIN, "--workers", "1"]);
        command.arg("--state-dir").arg(folder.join("state"));
        command.env("SLUICEGATE_CODE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled"));
        let gateway = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("`make test-tools` installs valgrind"));
        let begun = Instant::now();
        while !is_ready() {
            assert!(begun.elapsed() < PATIENCE, "it is not ready in time");
            std::thread::sleep(Duration::from_millis(50));
        }
        gateway
    }

    /// Begins to count, or ends it.
    fn count(&self, on: &str) {
        let told = Command::new("callgrind_control").args(["-i", on, &self.0.id().to_string()]).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }

    /// Ends it in an orderly way.
    fn stop(mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap().success());
        self.0.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready() -> bool {
    let Ok(mut stream) = TcpStream::connect(ADMIN) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    let asked = write!(stream, "GET /readyz HTTP/1.1\r\nhost: {ADMIN}\r\nconnection: close\r\n\r\n");
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200 ")
}

/// Answers each request of one connection after another.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        std::thread::spawn(move || {
            let (mut head, mut byte) = (Vec::new(), [0; 4096]);
            while let Ok(read @ 1..) = stream.read(&mut byte) {
                head.extend_from_slice(&byte[..read]);
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    stream.write_all(RESPONSE).unwrap();
                }
            }
        });
    }
}

/// One request and its response. A connection sends one after another, so that each takes the same turns of the event loop.
fn exchange(stream: &mut TcpStream) {
    stream.write_all(REQUEST).unwrap();
    let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"\r\n\r\nhello") {
        let read = stream.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "the connection ended behind {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&bytes[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

fn objects() -> String {
    let mut text =
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  gatewayClassName: sluicegate\n  \
         addresses: [{value: 127.200.9.1}]\n  listeners: [{name: http, port: 8080, protocol: HTTP}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop}\nspec:\n  parentRefs: [{name: edge}]\n  rules:\n"
            .to_owned();
    for i in 0..RULES {
        writeln!(text, "  - {{matches: [{{path: {{value: /service-{i}}}}}], backendRefs: [{{name: shop, port: 80}}]}}").unwrap();
    }
    text + "---\napiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080, appProtocol: http}]}\n---\n\
        apiVersion: v1\nkind: Pod\nmetadata: {name: shop, labels: {app: shop}}\nstatus: {podIP: 127.200.9.2, conditions: [{type: Ready, status: \"True\"}]}\n"
}

/// The instructions of each function with what it calls, of a file that callgrind has written. A name is written once, with a number that stands for it after that.
fn read(profile: &str) -> HashMap<String, u64> {
    let (mut names, mut all) = (HashMap::<&str, &str>::new(), HashMap::new());
    let (mut called, mut follows) = (None, false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if line.starts_with('c') {
                called = names.get(number).copied();
            }
        } else if line.starts_with("calls=") {
            follows = true;
        } else if std::mem::take(&mut follows)
            && let (Some(name), Some(cost)) = (called, line.split(' ').nth(1))
        {
            *all.entry((*name).to_owned()).or_default() += cost.parse::<u64>().unwrap();
        }
    }
    all
}

#[test]
fn a_request_takes_no_more_instructions_than_it_did() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("objects")).unwrap();
    std::fs::write(folder.path().join("objects/all.yaml"), objects()).unwrap();
    let backend = TcpListener::bind(BACKEND).unwrap();
    std::thread::spawn(move || serve(&backend));
    // Plugins are compiled once at an ordinary pace.
    Gateway::start(&[], folder.path()).stop();

    let profile = folder.path().join("profile");
    let out = format!("--callgrind-out-file={}", profile.display());
    let gateway = Gateway::start(&["valgrind", "--tool=callgrind", "--instr-atstart=no", &out], folder.path());
    let mut client = TcpStream::connect(AT).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (0..WARM).for_each(|_| exchange(&mut client));
    gateway.count("on");
    (0..REQUESTS).for_each(|_| exchange(&mut client));
    gateway.count("off");
    gateway.stop();

    let functions = read(&std::fs::read_to_string(profile).unwrap());
    let mut report = String::new();
    let mut dearer = false;
    for (what, function, before) in TAKEN {
        let all = functions.get(function).unwrap_or_else(|| panic!("{function} was not called"));
        let now = all / REQUESTS;
        writeln!(report, "{what}: {now} instructions, {before} before").unwrap();
        dearer |= now * 100 > before * (100 + MORE);
    }
    print!("{report}");
    assert!(!dearer, "a request is more than {MORE} % dearer than it was; if what it does is worth that, write so here:\n{report}");
}
