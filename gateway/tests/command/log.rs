//! The binary, and readers of its log that end or stop reading, which must not matter to it.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn objects(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, ports: [{{port: 80, appProtocol: http, nodePort: 30080}}]}}\n"
    )
}

struct Gateway {
    child: Child,
    folder: tempfile::TempDir,
    ip: &'static str,
}

impl Gateway {
    fn start(ip: &'static str, log: impl Into<Stdio>, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("conf")).expect("made");
        std::fs::write(folder.path().join("conf/web.yaml"), objects("first")).expect("written");
        let mut command = crate::binary();
        command.args(["run", "conf", "--admin-address", &format!("{ip}:9901"), "--nodeport-addresses", &format!("{ip}/32")]);
        command.args(["--service-cluster-ip-range", &ip.replace(".0.1", ".1.0/24"), "--state-dir", "state"]).args(more);
        command.current_dir(folder.path()).env_remove("SLUICEGATE_LOG").stderr(log).stdout(Stdio::piped());
        Self { child: command.spawn().expect("starts"), folder, ip }
    }

    fn get(&self, port: u16, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((self.ip, port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn says(&self, path: &str, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.get(9901, path).is_some_and(|answer| answer.contains(what)) {
            assert!(Instant::now() < deadline, "{path} does not say {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn serves_a_change(&self, name: &str) {
        std::fs::write(self.folder.path().join("conf/web.yaml"), objects(name)).expect("written");
        self.says("/api/v1/services", name);
        assert!(self.get(30080, "/").is_some_and(|answer| answer.starts_with("HTTP/1.1 503")), "there are no endpoints");
    }

    fn signal(&self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("sent");
    }

    fn ends(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pipe that has no room as long as its reader exists and does not read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("made");
    let mut filling = writer.try_clone().expect("cloned");
    std::thread::spawn(move || while filling.write_all(&[b'x'; 4096]).is_ok() {});
    (reader, writer)
}

#[test]
fn a_reader_that_ends_takes_nothing_with_it() {
    let mut gateway = Gateway::start("127.240.0.1", Stdio::piped(), &["--access-log", "json", "--access-log-path", "-"]);
    let mut log = BufReader::new(gateway.child.stderr.take().expect("piped"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    drop(log);
    drop(gateway.child.stdout.take());
    gateway.says("/readyz", "HTTP/1.1 200");
    gateway.serves_a_change("second");
    gateway.says("/metrics", "sluicegate_log_dropped_total");
    gateway.signal();
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn a_reader_that_stands_still_stops_nothing() {
    let (_reader, log) = full_pipe();
    let gateway = Gateway::start("127.241.0.1", log, &["--access-log", "json", "--access-log-path", "-"]);
    gateway.says("/readyz", "HTTP/1.1 200");
    for name in ["second", "third", "fourth"] {
        gateway.serves_a_change(name);
    }
    gateway.signal();
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once_though_nobody_reads_the_log() {
    let (_reader, log) = full_pipe();
    let gateway = Gateway::start("127.242.0.1", log, &["--grace-seconds", "600"]);
    gateway.says("/readyz", "HTTP/1.1 200");
    gateway.serves_a_change("second");
    let mut held = TcpStream::connect((gateway.ip, 30080)).expect("connected");
    held.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").expect("sent");
    gateway.signal();
    gateway.says("/readyz", "HTTP/1.1 503");
    gateway.signal();
    assert_eq!(gateway.ends(), Some(130));
}

#[test]
fn a_peer_cannot_fill_the_log_with_warnings() {
    let mut gateway = Gateway::start("127.243.0.1", Stdio::piped(), &[]);
    let mut log = gateway.child.stderr.take().expect("piped");
    let reading = std::thread::spawn(move || {
        let mut all = String::new();
        log.read_to_string(&mut all).map(|_| all)
    });
    gateway.says("/readyz", "HTTP/1.1 200");
    let mut stream = TcpStream::connect((gateway.ip, 30080)).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    // HTTP/2: the preface, empty SETTINGS, acknowledgements of pings that nobody sent, and a ping that is answered.
    let ping = |flags: u8, content: &[u8; 8]| [&[0, 0, 8, 6, flags, 0, 0, 0, 0][..], content].concat();
    let mut all = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    (0..200).for_each(|_| all.extend_from_slice(&ping(1, b"not-sent")));
    all.extend_from_slice(&ping(0, b"the-last"));
    stream.write_all(&all).expect("sent");
    let mut came = Vec::new();
    while !came.windows(8).any(|bytes| bytes == b"the-last") {
        let mut some = [0; 256];
        let count = stream.read(&mut some).expect("an answer");
        assert!(count > 0, "it was closed: {came:?}");
        came.extend_from_slice(&some[..count]);
    }
    drop(stream);
    gateway.signal();
    assert_eq!(gateway.ends(), Some(0));
    let log = reading.join().expect("read").expect("text");
    assert!(log.contains("the admin API listens") && !log.contains("PING"), "{log}");
}

#[test]
fn commands_do_not_care_who_reads_on() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("web.yaml"), objects("web").replace("port: 80,", "port: 0,")).expect("written");
    let run = |arguments: &[&str]| {
        let mut child = command(folder.path()).args(arguments).spawn().expect("starts");
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().expect("ends").code()
    };
    for (arguments, code) in [
        (&["check", "web.yaml"][..], 1),
        (&["run", "web.yaml", "--workers", "none"], 2),
        (&["get", "services", "--admin-address", "127.0.0.1:1"], 1),
        (&["crds"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        (&["plugin", "inspect", "nowhere.wasm"], 1),
    ] {
        assert_eq!(run(arguments), Some(code), "{arguments:?}");
    }
}

fn command(folder: &Path) -> Command {
    let mut command = crate::binary();
    command.current_dir(folder).env("HOME", folder).env_remove("SLUICEGATE_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
