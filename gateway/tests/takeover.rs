//! Stopping, and making room for a successor, with the binary as its users run it and clients that count every failure.
//! Addresses are in 127.208.0.0/13, each test has its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Services at L7 on port 30081, at L4 on 30082 and of UDP on 30083, with a backend that answers all.
fn objects(backend: SocketAddr) -> String {
    let mut all = String::new();
    for (name, port, extra) in [("web", 30081, "appProtocol: http, "), ("raw", 30082, ""), ("datagrams", 30083, "protocol: UDP, ")] {
        all += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, ports: [{{port: 80, {extra}nodePort: {port}}}]}}\n---\n\
             apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             targetRefs: [{{kind: Service, name: {name}}}]\n  discovery: {{plugin: static, config: {{endpoints: [\"{backend}\"]}}}}\n---\n"
        );
    }
    all
}

/// Answers each request, also after others on the same connection, and echoes each datagram.
fn backend() -> SocketAddr {
    let (listener, datagrams) = std::iter::repeat_with(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let datagrams = UdpSocket::bind(listener.local_addr().expect("bound"));
        datagrams.map(|datagrams| (listener, datagrams))
    })
    .find_map(Result::ok)
    .expect("for ever");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut content = [0; 64];
        while let Ok((count, client)) = datagrams.recv_from(&mut content) {
            let _ = datagrams.send_to(&content[..count], client);
        }
    });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while head(&mut reader).is_some() {
                    if reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A message's head; none at the end.
fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

struct Gateway {
    child: Child,
    /// The lines that it logs.
    log: mpsc::Receiver<String>,
}

impl Gateway {
    /// Starts the binary; `wrap` may put another command before it.
    fn start(folder: &Path, ip: &str, more: &[&str], wrap: impl FnOnce(Command) -> Command) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(["run", "all.yaml", "--admin-address"]).arg(format!("{ip}:9901")).args(["--nodeport-addresses", &format!("{ip}/32")]);
        command.args(["--service-cluster-ip-range", &ip.replace(".0.1", ".1.0/24"), "--state-dir", "state", "--workers", "2"]).args(more);
        let mut command = wrap(command);
        command.current_dir(folder).env_remove("SLUICEGATE_LOG").stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let (to, log) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        std::thread::spawn(move || lines.for_each(|line| drop(to.send(line))));
        Self { child, log }
    }

    /// Waits until a line of the log contains this text.
    fn says(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return,
                Ok(line) => all.push(line),
                Err(_) => panic!("{what:?} was not said: {all:#?}"),
            }
        }
    }

    fn signal(&self, name: &str) {
        Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("sent");
    }

    /// Waits until the process ends; returns its exit code.
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
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ready(ip: &str) -> bool {
    get(&format!("{ip}:9901"), "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The answer to one request, up to the end of its connection.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Clients that go on until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// On each address: one client that connects for each request, and one that keeps its connection until it is told that it closes.
    fn start(addresses: &[String]) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = addresses.iter().flat_map(|address| [(address, false), (address, true), (address, false)]);
        let clients = clients.map(|(address, keep)| {
            let (address, stop, requests) = (address.clone(), stop.clone(), requests.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                let mut kept: Option<BufReader<TcpStream>> = None;
                while !stop.load(Ordering::Relaxed) {
                    let fresh = kept.is_none();
                    match exchange(&address, kept.take()) {
                        Ok((reader, closes)) => kept = Some(reader).filter(|_| keep && !closes),
                        Err(error) => failures.push(format!("{address}, fresh {fresh}: {error}")),
                    }
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        });
        let clients = clients.collect();
        Self { stop, requests, clients }
    }

    /// Load of datagrams: one client with a flow that stays, and one with a new flow for each. Each waits for the answer to what it sent.
    fn of_datagrams(address: &str) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = [true, false].map(|keep| {
            let (address, stop, requests) = (address.to_owned(), stop.clone(), requests.clone());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                let open = || {
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
                    socket.connect(&address).expect("connected");
                    // Loopback does not lose anything by itself, so what has not come after this time was lost by the gateway.
                    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
                    socket
                };
                let (mut socket, mut answer) = (open(), [0; 64]);
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    socket.send(&number.to_be_bytes()).expect("sent");
                    match socket.recv(&mut answer) {
                        Ok(count) if answer[..count] == number.to_be_bytes() => {}
                        other => failures.push(format!("datagram {number}, kept {keep}: {other:?}")),
                    }
                    if !keep {
                        socket = open();
                    }
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        });
        Self { stop, requests, clients: clients.into() }
    }

    fn goes_on(&self) {
        let wanted = self.requests.load(Ordering::Relaxed) + 200;
        eventually("two hundred more requests", || self.requests.load(Ordering::Relaxed) >= wanted);
    }

    /// Stops the load. Returns what failed.
    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("ran")).collect()
    }
}

/// Makes one exchange. Returns the connection, and whether it closes.
fn exchange(address: &str, kept: Option<BufReader<TcpStream>>) -> std::io::Result<(BufReader<TcpStream>, bool)> {
    let mut reader = match kept {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            BufReader::new(stream)
        }
    };
    reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let head = head(&mut reader).ok_or_else(|| std::io::Error::other("no answer"))?;
    let mut body = [0; 2];
    reader.read_exact(&mut body)?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(std::io::Error::other(head));
    }
    Ok((reader, head.to_lowercase().contains("connection: close")))
}

fn folder(backend: SocketAddr) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("all.yaml"), objects(backend)).expect("written");
    folder
}

#[test]
fn a_successor_takes_over_under_load_and_no_request_fails() {
    let (folder, ip) = (folder(backend()), "127.212.0.1");
    let plain = |command| command;
    let old = Gateway::start(folder.path(), ip, &["--grace-seconds", "20"], plain);
    old.says("the admin API listens");
    eventually("ready", || ready(ip));
    let allocations = std::fs::read_to_string(folder.path().join("state/allocations.json")).expect("kept");
    // L4 connections last as long as their clients like: they would keep the old gateway until its grace period ends.
    let load = Load::start(&[format!("{ip}:30081")]);
    let short = Load::start(&[format!("{ip}:30082")]);
    load.goes_on();
    short.goes_on();
    let datagrams = Load::of_datagrams(&format!("{ip}:30083"));
    datagrams.goes_on();
    let second = Gateway::start(folder.path(), ip, &[], |command| with(command, "--admin-address", "127.0.0.1:0"));
    second.says("another gateway uses this state folder");
    assert_eq!(second.ends(), Some(1), "not without being told to");

    // A successor that was handed the sockets and ends before it serves changes nothing.
    let failing = Gateway::start(folder.path(), ip, &["--take-over"], |command| with(command, "--admin-address", "192.0.2.1:1"));
    old.says("a successor takes over");
    assert_eq!(failing.ends(), Some(1));
    old.says("this gateway goes on");
    load.goes_on();
    datagrams.goes_on();

    let new = Gateway::start(folder.path(), ip, &["--take-over"], plain);
    new.says("the place of the predecessor is taken");
    new.says("the admin API listens");
    load.goes_on();
    short.goes_on();
    datagrams.goes_on();
    assert!(ready(ip), "the successor answers");
    let failures: Vec<String> = load.stop().into_iter().chain(short.stop()).collect();
    assert_eq!(old.ends(), Some(0), "the old one has drained");
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(folder.path().join("state/allocations.json")).expect("kept"), allocations);

    // This is done again, from the successor, with more workers than there are sockets and then with fewer.
    let load = Load::start(&[format!("{ip}:30081")]);
    // While the gateway before still drains, all datagrams go to the successor.
    datagrams.goes_on();
    let third = Gateway::start(folder.path(), ip, &["--take-over"], |command| with(command, "--workers", "3"));
    third.says("the admin API listens");
    assert_eq!(new.ends(), Some(0));
    load.goes_on();
    let fourth = Gateway::start(folder.path(), ip, &["--take-over"], |command| with(command, "--workers", "1"));
    fourth.says("the admin API listens");
    assert_eq!(third.ends(), Some(0));
    load.goes_on();
    datagrams.goes_on();
    assert_eq!(load.stop(), Vec::<String>::new());
    assert_eq!(datagrams.stop(), Vec::<String>::new());
    fourth.signal("-TERM");
    assert_eq!(fourth.ends(), Some(0));
    assert!(TcpStream::connect(format!("{ip}:30081")).is_err(), "nobody holds a socket any more");
}

/// A pod's container would be started again if it ended, and would take the place back.
#[test]
fn a_gateway_that_was_replaced_waits_to_be_stopped_if_it_is_told_to() {
    let (folder, ip) = (folder(backend()), "127.209.0.1");
    let plain = |command| command;
    let flags = ["--take-over", "--stay-when-replaced", "--shutdown-delay-seconds", "60"];
    let mut old = Gateway::start(folder.path(), ip, &flags, plain);
    old.says("the admin API listens");
    eventually("ready", || ready(ip));
    let new = Gateway::start(folder.path(), ip, &flags, plain);
    new.says("the place of the predecessor is taken");
    old.says("this process waits to be stopped");
    assert!(old.child.try_wait().expect("asked").is_none(), "it has ended");
    assert!(ready(ip), "the successor answers");
    // It serves nobody, so there is no delay.
    old.signal("-TERM");
    assert_eq!(old.ends(), Some(0));
    assert!(ready(ip));
}

/// The same command with another value of a flag.
fn with(command: Command, flag: &str, value: &str) -> Command {
    let mut other = Command::new(command.get_program());
    let mut last = None;
    for argument in command.get_args() {
        other.arg(if last.is_some_and(|l| l == flag) { value.as_ref() } else { argument });
        last = Some(argument);
    }
    other
}

#[test]
fn a_stop_serves_what_has_come_and_tells_kept_connections_to_close() {
    let (folder, ip) = (folder(backend()), "127.213.0.1");
    let gateway = Gateway::start(folder.path(), ip, &["--grace-seconds", "20"], |c| c);
    eventually("ready", || ready(ip));
    let (mut kept, _) = exchange(&format!("{ip}:30081"), None).expect("answered");
    let (silent, _) = exchange(&format!("{ip}:30081"), None).expect("answered");
    // Each is in the kernel's queue or has just left it.
    let waiting: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(format!("{ip}:30081")).expect("connected")).collect();
    gateway.signal("-TERM");
    gateway.says("stopping");
    eventually("nothing listens", || TcpStream::connect(format!("{ip}:30081")).is_err());
    assert!(get(&format!("{ip}:9901"), "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503")));
    for stream in waiting {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let (_, closes) = exchange("", Some(BufReader::new(stream))).expect("served");
        assert!(closes, "it is told");
    }
    let closes;
    (kept, closes) = exchange("", Some(kept)).expect("the next request is still answered");
    assert!(closes);
    assert_eq!(kept.read(&mut [0]).expect("an end"), 0);
    assert_eq!({ silent }.read(&mut [0]).expect("an end"), 0, "a silent one is closed a little later");
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn before_it_stops_it_is_not_ready_and_serves_new_connections() {
    let (folder, ip) = (folder(backend()), "127.210.0.1");
    let gateway = Gateway::start(folder.path(), ip, &["--shutdown-delay-seconds", "2", "--grace-seconds", "20"], |c| c);
    eventually("ready", || ready(ip));
    gateway.signal("-TERM");
    let begun = Instant::now();
    gateway.says("not ready any more");
    assert!(get(&format!("{ip}:9901"), "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503")));
    let mut served = 0;
    while let Ok((_, closes)) = exchange(&format!("{ip}:30081"), None) {
        served += usize::from(!closes);
        assert!(begun.elapsed() < PATIENCE, "listeners close when the delay is over");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() >= Duration::from_secs(2) && served > 5, "{served} served in {:?}", begun.elapsed());
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (folder, ip) = (folder(backend()), "127.214.0.1");
    let gateway = Gateway::start(folder.path(), ip, &["--grace-seconds", "600"], |c| c);
    eventually("ready", || ready(ip));
    // An L4 connection that its client keeps open.
    let (held, _) = exchange(&format!("{ip}:30082"), None).expect("answered");
    gateway.signal("-TERM");
    gateway.says("stopping");
    gateway.signal("-TERM");
    assert_eq!(gateway.ends(), Some(130));
    drop(held);
}

/// Starts it as a service manager that has this socket does: the first descriptor is 3, and the process is named.
fn activated(folder: &Path, ip: &str, socket: OwnedFd) -> Gateway {
    Gateway::start(folder, ip, &[], |command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=one exec \"$0\" \"$@\" 3<&0 </dev/null"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell.stdin(Stdio::from(socket)).env("NOTIFY_SOCKET", "notify");
        shell
    })
}

#[test]
fn sockets_of_a_service_manager_are_used_and_keep_their_queue() {
    let (folder, ip) = (folder(backend()), "127.215.0.1");
    let socket = TcpListener::bind(format!("{ip}:30081")).expect("bound");
    // This connection comes before the gateway runs: it waits in the queue of the service manager's socket.
    let early = TcpStream::connect(format!("{ip}:30081")).expect("connected");
    let notices = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).expect("bound");
    notices.set_read_timeout(Some(PATIENCE)).expect("set");
    let start = || activated(folder.path(), ip, socket.try_clone().expect("cloned").into());
    let told = |wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let count = notices.recv(&mut buffer).expect("told");
            if String::from_utf8_lossy(&buffer[..count]).contains(wanted) {
                return;
            }
        }
    };
    let gateway = start();
    told("READY=1");
    early.set_read_timeout(Some(PATIENCE)).expect("set");
    exchange("", Some(BufReader::new(early))).expect("served");
    exchange(&format!("{ip}:30082"), None).expect("the other port is bound as ever");
    gateway.signal("-TERM");
    told("STOPPING=1");
    assert_eq!(gateway.ends(), Some(0));
    // The socket belongs to the service manager: it still listens, and the next gateway serves connections that came meanwhile.
    let between = TcpStream::connect(format!("{ip}:30081")).expect("connected");
    let gateway = start();
    told("READY=1");
    between.set_read_timeout(Some(PATIENCE)).expect("set");
    exchange("", Some(BufReader::new(between))).expect("served");
    gateway.signal("-TERM");
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn datagrams_wait_in_a_service_manager_s_socket_while_no_gateway_runs() {
    let (folder, ip) = (folder(backend()), "127.211.0.1");
    let socket = UdpSocket::bind(format!("{ip}:30083")).expect("bound");
    let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
    client.connect(format!("{ip}:30083")).expect("connected");
    client.set_read_timeout(Some(PATIENCE)).expect("set");
    for text in [&b"first"[..], b"second"] {
        client.send(text).expect("sent");
        let gateway = activated(folder.path(), ip, socket.try_clone().expect("cloned").into());
        let mut answer = [0; 64];
        let count = client.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..count], text);
        gateway.signal("-TERM");
        assert_eq!(gateway.ends(), Some(0));
    }
}
