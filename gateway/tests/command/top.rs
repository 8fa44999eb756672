//! `sluicegate top` beside a gateway under traffic: once, and on a terminal that is made by `script` and read by another project's emulator.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::get::{Running, running};

const PATIENCE: Duration = Duration::from_secs(20);

/// Two Services with a node port, whose endpoint is the backend at this address.
fn objects(ip: &str) -> String {
    let service = |name: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, selector: {{app: cart}}, ports: [{{port: 80, appProtocol: http, nodePort: {port}}}]}}\n---\n"
        )
    };
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p1, labels: {{app: cart}}}}\nstatus: {{podIP: {ip}, conditions: [{{type: Ready, status: \"True\"}}]}}\n"
    );
    service("cart", 30040) + &service("idle", 30041) + &pod
}

/// A backend that answers each connection's one request.
fn backend(ip: &str) {
    let listener = TcpListener::bind((ip, 80)).expect("port 80 of a loopback address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            });
        }
    });
}

/// Runs `watch` while requests are sent to the node port, one after another.
fn under_traffic(n: u8, watch: impl FnOnce(&Running)) {
    let ip = format!("127.231.{n}.2");
    backend(&ip);
    let gateway = running(n, &objects(&ip));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(mut stream) = TcpStream::connect((format!("127.231.{n}.1"), 30040)) {
                    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            }
        });
        struct Done<'d>(&'d AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        // Also if a test fails.
        let _done = Done(&done);
        watch(&gateway);
    });
}

#[test]
fn top_prints_one_table_where_there_is_no_terminal() {
    under_traffic(14, |gateway| {
        let rows = |arguments: &[&str]| {
            let (code, said) = gateway.run(&[&["top", "-i", "0.5"][..], arguments].concat());
            assert_eq!(code, Some(0), "{said}");
            said.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
        };
        let services = rows(&[]);
        assert_eq!(services[0], ["SERVICE", "RATE/S", "ERRORS/S", "P50", "P99", "IN-FLIGHT", "BYTES/S", "READY"]);
        assert_eq!((services[1][0].as_str(), services[2][0].as_str()), ("default/cart:80", "default/idle:80"), "the busiest first");
        assert!(services[1][1].parse::<f64>().is_ok_and(|rate| rate > 1.0) && services[1][3].ends_with('s'), "{services:?}");
        assert_eq!((services[2][1].as_str(), services[2][3].as_str(), services[2][7].as_str()), ("0", "-", "1/1"));
        assert_eq!(rows(&["--once", "--filter", "idle"]).len(), 2);
        let endpoints = rows(&["endpoints", "--filter", "cart"]);
        assert_eq!((endpoints[1][0].as_str(), endpoints[1][1].as_str()), ("default/cart:80", "127.231.14.2:80"));
        let plugins = rows(&["plugins", "--sort", "name"]);
        assert!(plugins.iter().any(|row| row[0] == "least-request" && row[1] != "0"), "{plugins:?}");
    });
}

fn of(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("a size")
}

/// A terminal in which a shell runs, and what it shows.
struct Terminal {
    script: std::process::Child,
    keys: std::process::ChildStdin,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Runs `top`, and then says how it has ended and how the terminal is set.
    fn run(gateway: &Running) -> Self {
        let binary = env!("CARGO_BIN_EXE_sluicegate");
        let played = format!(
            "tty > tty; stty rows 24 cols 100; sh -c 'echo $$ > pid; exec {binary} top -i 0.3'; code=$?; stty -a; echo after=$code"
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &played, "/dev/null"])
            .current_dir(gateway.folder.path())
            .env("SLUICEGATE_ADMIN", &gateway.admin)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script, of util-linux");
        let (keys, mut said) = (script.stdin.take().expect("piped"), script.stdout.take().expect("piped"));
        let shown = Arc::new(Mutex::new(vt100::Parser::new(of(24), of(100), 0)));
        let to = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = said.read(&mut bytes) {
                to.lock().expect("a screen").process(&bytes[..n]);
            }
        });
        Self { script, keys, shown }
    }

    fn press(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).and_then(|()| self.keys.flush()).expect("written");
    }

    fn eventually(&self, what: &str, is_so: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines: Vec<String> = {
                let shown = self.shown.lock().expect("a screen");
                let (_, width) = shown.screen().size();
                shown.screen().rows(0, width.get()).map(|line| line.trim_end().to_owned()).collect()
            };
            if is_so(&lines) {
                return;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}:\n{}", lines.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// That the terminal is as it was before.
    fn is_given_back(&mut self) {
        self.eventually("what was there before, and the terminal as it was", |lines| {
            let all = lines.join(" ");
            all.contains("after=0") && all.contains(" icanon") && all.contains(" echo ") && !all.contains("sluicegate top")
        });
        let shown = self.shown.lock().expect("a screen");
        assert!(!shown.screen().hide_cursor() && !shown.screen().alternate_screen());
        assert!(self.script.wait().expect("ends").success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn top_on_a_terminal_obeys_keys_and_its_size_and_gives_it_back() {
    under_traffic(15, |gateway| {
        let mut terminal = Terminal::run(gateway);
        terminal.eventually("a table", |lines| {
            lines[0].starts_with(&format!("sluicegate top: services at {}  2 of 2", gateway.admin))
                && lines[1].starts_with("SERVICE ")
                && lines[1].contains("RATE/Sv")
                && lines[2].starts_with("default/cart:80 ")
                && lines[23].starts_with("q quit")
        });
        terminal.press("<");
        terminal.eventually("sorted by name", |lines| lines[1].starts_with("SERVICE^"));
        terminal.press("/idle\r");
        terminal.eventually("one of them", |lines| {
            lines[0].contains("1 of 2  with \"idle\"") && lines[2].starts_with("default/idle:80") && lines[3].is_empty()
        });
        terminal.press("p");
        terminal.eventually("no plugin of that name", |lines| lines[0].contains("plugins at") && lines[0].contains("0 of "));
        terminal.press("/\u{7f}\u{7f}\u{7f}\u{7f}\r");
        terminal.eventually("all plugins", |lines| {
            lines[1].starts_with("PLUGIN") && lines.iter().any(|line| line.starts_with("least-request "))
        });
        let tty = std::fs::read_to_string(gateway.folder.path().join("tty")).expect("the terminal's name");
        terminal.shown.lock().expect("a screen").screen_mut().set_size(of(10), of(60));
        let resized = Command::new("stty").args(["-F", tty.trim(), "rows", "10", "cols", "60"]).status().expect("stty");
        assert!(resized.success());
        terminal.eventually("a smaller table", |lines| {
            lines.len() == 10 && lines[9].starts_with("q quit") && lines[0].starts_with("sluicegate top")
        });
        terminal.press("q");
        terminal.is_given_back();
    });
}

#[test]
fn top_gives_the_terminal_back_when_it_is_ended_by_a_signal() {
    under_traffic(16, |gateway| {
        let mut terminal = Terminal::run(gateway);
        terminal.eventually("a table", |lines| lines[2].starts_with("default/cart:80 "));
        let pid = std::fs::read_to_string(gateway.folder.path().join("pid")).expect("a number");
        assert!(Command::new("kill").args(["-TERM", pid.trim()]).status().expect("kill").success());
        terminal.is_given_back();
    });
}
