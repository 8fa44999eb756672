//! Want of descriptors and of memory: the gateway runs in a process of its own with few of them, and the tests are its clients.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use sluicegate_proxy::{Config, Overload};
use support::*;

const DESCRIPTORS: u64 = 100;
/// MiB: several times what the child uses.
const MEMORY: u64 = 400;

/// The variable that says what a child process is; in the test process itself, this test has nothing to do.
const ROLE: &str = "SLUICEGATE_TEST_CHILD";

/// The gateway. It prints where it listens, and then obeys: `hold N` opens files, `fill N` takes N MiB, `free` gives everything back.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) }).unwrap();
    let memory_limit = (role == "memory").then_some(MEMORY << 20);
    let overload = Overload { refuse_percent: if role == "unwatched" { 101 } else { 60 }, resume_percent: 50, memory_limit };
    let config = Config { workers: 1, max_connections: Some(10_000), overload, ..Config::default() };
    let proxy = start_with(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = runtime.block_on(async {
        let at = free();
        let rule = sluicegate_model::route::Rule {
            name: Some("/".into()),
            actions: sluicegate_model::route::Actions {
                answer: Some(sluicegate_model::route::Answer {
                    status: http::StatusCode::OK,
                    headers: http::HeaderMap::new(),
                    body: "here".into(),
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        proxy.serve(vec![listener(at, http(router(vec![rule])))], vec![service(&[])]).await;
        at
    });
    println!("\nat {at}");
    let (mut held, mut filled) = (Vec::new(), Vec::new());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("hold", count)) => held.extend((0..count.parse().unwrap()).map_while(|_| std::fs::File::open("/dev/null").ok())),
            // Memory is in use only when it is written to.
            Some(("fill", count)) => filled = vec![1_u8; count.parse::<usize>().unwrap() << 20],
            _ => (held, filled) = (Vec::new(), Vec::new()),
        }
        std::hint::black_box(&filled);
        let refused = |of: &std::sync::atomic::AtomicU64| of.load(std::sync::atomic::Ordering::Relaxed);
        println!("\ndone {} {}", refused(&proxy.stats.refused), refused(&proxy.stats.overload.connections));
    }
}

struct Gateway {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    at: SocketAddr,
}

impl Gateway {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut gateway = Self { child, out, at: ([127, 0, 0, 1], 0).into() };
        gateway.at = gateway.says("at ").parse().unwrap();
        gateway
    }

    /// The rest of the next line that begins with this text.
    fn says(&mut self, begin: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the gateway's process has ended");
            if let Some(rest) = line.trim_end().strip_prefix(begin) {
                return rest.to_owned();
            }
        }
    }

    /// How many connections were refused for want of descriptors, and by the watcher.
    fn tell(&mut self, what: &str) -> (u64, u64) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
        let said = self.says("done ");
        let (refused, overload) = said.split_once(' ').unwrap();
        (refused.parse().unwrap(), overload.parse().unwrap())
    }

    /// Seconds of CPU time that it has used (proc_pid_stat(5), in ticks of which there are 100 a second).
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Sends a request on a connection that stays open; none if the connection was reset.
fn asked(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"here") && !answer.ends_with(b"too much to do\n") {
        match stream.read(&mut byte) {
            Ok(1) => answer.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(answer).unwrap())
}

fn connected(at: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(at).ok()?;
    asked(&mut stream).map(|_| stream)
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_descriptors_clients_are_reset_and_the_accept_loop_does_not_spin() {
    let mut gateway = Gateway::start("unwatched");
    let mut open: Vec<TcpStream> = Vec::new();
    // This goes on until a connection is refused: it must not wait in the queue.
    while let Some(stream) = connected(gateway.at) {
        open.push(stream);
        assert!(open.len() < DESCRIPTORS as usize, "more connections than descriptors");
    }
    assert!(open.len() > DESCRIPTORS as usize / 2, "only {} connections were served", open.len());
    let (before, begun) = (gateway.cpu(), Instant::now());
    for _ in 0..20 {
        assert!(connected(gateway.at).is_none(), "without a descriptor nobody is served");
    }
    // The queue stays quiet now. A loop that spins would use all of this time.
    let rest = Duration::from_millis(500).saturating_sub(begun.elapsed());
    std::thread::sleep(rest);
    let used = gateway.cpu() - before;
    assert!(used < begun.elapsed().as_secs_f64() / 2.0, "{used} s of CPU time in {:?}", begun.elapsed());
    assert!(gateway.tell("free").0 > 20, "they were refused, and that was counted");
    for stream in &mut open {
        assert!(asked(stream).is_some(), "what is open goes on");
    }
    open.truncate(10);
    eventually("new clients are served again", || connected(gateway.at).is_some());
}

#[test]
fn short_of_descriptors_new_work_is_refused_until_there_are_enough() {
    refuses_while_short("watched", "hold 60");
}

#[test]
fn short_of_memory_new_work_is_refused_until_there_is_enough() {
    refuses_while_short("memory", "fill 300");
}

fn refuses_while_short(role: &str, take: &str) {
    let mut gateway = Gateway::start(role);
    let (mut one, mut other) = (connected(gateway.at).unwrap(), connected(gateway.at).unwrap());
    gateway.tell(take);
    eventually("new connections are reset", || connected(gateway.at).is_none());
    let refused = asked(&mut one).expect("an answer");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("x-sluicegate-reason: overloaded\r\n") && refused.contains("connection: close\r\n"), "{refused}");
    let mut rest = Vec::new();
    assert_eq!(one.read_to_end(&mut rest).unwrap_or(0), 0, "closed");
    assert!(gateway.tell("free").1 > 0);
    eventually("new connections are served again", || connected(gateway.at).is_some());
    assert!(asked(&mut other).expect("an answer").starts_with("HTTP/1.1 200 "), "who did not ask meanwhile noticed nothing");
}
